"""What decisions are calibrated on: resolved by class from the numbers of images, in the plan and its notes."""

from __future__ import annotations

import pytest

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.planning.calibration import calibrated
from fcdd_sweep.planning.describe import describe
from fcdd_sweep.planning.plan import plan_file
from tests import trees
from tests.specs import settings


@pytest.fixture
def planned(tmp_path):
    """Plans an experiment on three classes with 12, 24 and 100 nominal training images."""

    def plan(*overrides):
        return plan_file(tmp_path / "x.yaml", [*overrides, f"output={tmp_path / 'r'}"])[1]

    counts = {"bolt": 12, "nut": 24, "ring": 100}
    trees.write_class_first(tmp_path / "data", classes=tuple(counts))
    for name, count in counts.items():
        trees.write_images(tmp_path / "data" / name / "train" / "normal" / "more", count - 3, seed=77)
    (tmp_path / "x.yaml").write_text(
        f"schema: 2\nname: x\npreset: folder\nseeds: 2\ndataset: {{root: {tmp_path / 'data'}}}\n"
        "images: {load_size: 32, size: 28, color: gray}\nnetwork: {name: FCDD_CNN28}\nheatmaps: {kernel_std_px: 1.2}\n"
        "training: {epochs: 3}\nevaluation: {image_score: mean}\n"
    )
    return plan


def methods(plan):
    return {spec.normal_class: (spec.settings.evaluation.calibration, spec.settings.models) for spec in plan.specs}


def test_auto_takes_by_class_what_the_numbers_of_images_allow_and_says_so(planned):
    plan = planned("evaluation.calibration=auto")
    assert methods(plan) == {"bolt": ("none", 1), "nut": ("cross", 19), "ring": ("cross", 5)}
    few = "fewer than 19 nominal images are held out for a rate of 5%"
    (note,) = [note for note in plan.result_notes if note.startswith("evaluation.calibration auto takes")]
    assert f"none, as {few} (class 'bolt' has 0) and there are too few to train on for cross" in note
    assert f"cross with 19 models, as {few} (class 'nut' has 0) and there are enough to train on" in note
    assert "(class 'bolt' has 12)" in note and "(class 'nut' has 24)" in note
    assert "cross with 5 models" in note
    text = describe(plan, plan.experiment)
    assert "6 trials of 50 models = 1 config x 3 classes x 2 seeds" in text
    assert "cross: 19 models a trial, each without a fold, 19 x 3 = 57 epochs (nut)" in text
    assert "none: images are scored and not decided about (bolt)" in text

    held_out = planned("evaluation.calibration=auto", "evaluation.validation.nominal_fraction=0.2")
    assert methods(held_out) == {"bolt": ("none", 1), "nut": ("cross", 19), "ring": ("split", 1)}
    (note,) = [note for note in held_out.result_notes if "calibration auto" in note]
    assert "split, as at least 19 nominal images are held out for a rate of 5% (class 'ring' has 20)" in note


def test_images_that_choose_the_image_score_calibrate_nothing_in_the_plan_either(planned):
    plan = planned(
        *("evaluation.calibration=auto", "evaluation.image_score=auto"), "evaluation.validation.nominal_fraction=0.2"
    )
    assert methods(plan)["ring"] == ("cross", 19)  # of 20 held-out images about 16 would calibrate
    (note,) = [note for note in plan.result_notes if "calibration auto" in note]
    assert "19 nominal images are held out, besides those that choose the image score, for a rate of 5%" in note


def test_a_trial_is_the_same_whether_auto_chose_or_the_file_did(planned):
    auto = planned("evaluation.calibration=auto")
    ids = {spec.normal_class: spec.trial_id for spec in auto.specs}
    today = {spec.normal_class: spec.trial_id for spec in planned().specs}
    chosen = "dataset.classes=['{}']"
    for name, folds in (("nut", "auto"), ("nut", 19), ("ring", 5)):
        named = planned(chosen.format(name), "evaluation.calibration=cross", f"evaluation.folds={folds}")
        assert {spec.trial_id for spec in named.specs} <= {spec.trial_id for spec in auto.specs}
    assert ids["bolt"] == today["bolt"] and ids["nut"] != today["nut"]
    again = planned("evaluation.calibration=auto", "evaluation.false_alarm_rate=0.06")
    assert methods(again)["nut"] == ("cross", 16)


def test_split_and_none_are_one_model_in_the_plan_of_today(planned):
    plain, none = planned(), planned("evaluation.calibration=none", "evaluation.false_alarm_rate=0.1")
    assert [spec.trial_id for spec in plain.specs] == [spec.trial_id for spec in none.specs]
    held_out = planned("evaluation.validation.nominal_fraction=0.33")
    share = "split: on the 33% of the nominal training images that are held out"
    assert f"decisions  {share}; 19 or more give a false-alarm rate of 5%\n" in describe(held_out, held_out.experiment)
    assert "decisions  no decision: hold out at least 19" in describe(plain, plain.experiment)
    assert "decisions  none: images are scored and not decided about" in describe(none, none.experiment)
    assert {spec.settings.models for spec in none.specs} == {1}


@pytest.mark.parametrize(
    ("overrides", "texts"),
    [
        (
            ["evaluation.calibration=cross"],
            ["a false-alarm rate of 5% needs at least 19 nominal training images, but class 'bolt' has 12"],
        ),
        (
            ["evaluation.calibration=cross", "evaluation.folds=5", "dataset.classes=['nut','ring']"],
            ["5 models keep no false-alarm rate below 16.67% in class 'nut': class 'nut' has 24", "here 19"],
        ),
        (
            ["evaluation.calibration=cross", "images.nominal_label=1", "dataset.classes=['ring']"],
            ["with images.nominal_label 1 training images count as anomalous", "split, none"],
        ),
        (
            ["evaluation.calibration=cross", "dataset.options.group='^(a)'", "dataset.classes=['ring']"],
            ["cross does not keep the groups of dataset.options.group together"],
        ),
    ],
)
def test_cross_that_would_decide_nothing_is_refused_before_it_trains(planned, overrides, texts):
    with pytest.raises(ExperimentError) as refused:
        planned(*overrides)
    assert all(text in str(refused.value) for text in texts)


@pytest.mark.parametrize(
    ("evaluation", "images", "taken"),
    [
        ({"calibration": "auto"}, 18, ("none", "auto")),
        ({"calibration": "auto"}, 19, ("cross", 19)),
        ({"calibration": "auto", "folds": 7}, 19, ("none", "auto")),
        ({"calibration": "auto", "folds": 7}, 140, ("cross", 7)),
        ({"calibration": "auto", "validation": {"nominal_fraction": 0.5}}, 38, ("split", "auto")),
        ({"calibration": "cross", "folds": 7}, 140, ("cross", 7)),
        ({"calibration": "cross"}, 140, ("cross", 5)),
        ({"calibration": "split", "folds": 7}, 140, ("split", "auto")),
    ],
)
def test_settings_of_a_class_leave_nothing_open(evaluation, images, taken):
    found = calibrated(settings(evaluation=evaluation), images).evaluation
    assert (found.calibration, found.folds) == taken


def test_folds_without_cross_are_noted(planned):
    assert [note for note in planned("evaluation.folds=7").notes if "evaluation.folds has no meaning" in note]


def test_configs_that_auto_makes_the_same_are_refused(planned):
    grid = "grid={evaluation.calibration: [auto, cross]}"
    with pytest.raises(ExperimentError, match="are the same for class 'ring' and would be trained twice"):
        planned(grid, "dataset.classes=['ring']")
    both = planned("grid={evaluation.calibration: [split, cross]}", "dataset.classes=['ring']")
    assert sorted({spec.settings.models for spec in both.specs}) == [1, 5]


def test_groups_that_are_on_both_sides_of_the_held_out_images_are_noted(planned):
    text, group = "Held-out images are drawn one by one", "dataset.options.group='^(0)'"
    held_out = "evaluation.validation.nominal_fraction=0.2"
    (note,) = [note for note in planned(group, held_out).notes if text in note]
    assert "new groups may have more" in note
    assert not [note for given in ((group,), (held_out,)) for note in planned(*given).notes if text in note]
