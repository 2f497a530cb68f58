"""Selection data in experiment files: defaults of searches, what is refused, what is noted, what a run leaves."""

from __future__ import annotations

import json

import pytest

from fcdd_sweep.anomalies.registry import SOURCES
from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.config.presets import PRESETS
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.data.corpus import held_out_of
from fcdd_sweep.data.records import DatasetFacts
from fcdd_sweep.data.registry import swept
from fcdd_sweep.data.scanning import dataset_facts
from fcdd_sweep.planning.describe import describe
from fcdd_sweep.planning.plan import plan, plan_file
from fcdd_sweep.planning.validation_checks import FEW, VALIDATION_DEFAULTS, validation_for_search
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.results import files
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.runners.trial_data import fingerprint_of
from fcdd_sweep.sweep.sweep import run_sweep
from tests import trees, works
from tests.broken import HEAD, TEXTURES, assert_reported, problems_in
from tests.specs import small_experiment

TEXTURES_FACTS = DatasetFacts("defects", ("a",), maps=True, trains_with_anomalies=False)
FACTS = DatasetFacts("one_vs_rest", ("a",), maps=False, trains_with_anomalies=True)
HELD = "evaluation: {validation: {nominal_fraction: 0.2, anomalies: %s}}\n"


@pytest.fixture
def planned(tmp_path):
    def planned(text, *overrides):
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        return plan_file(path, overrides)

    return planned


# Defaults


def test_every_data_set_has_a_default():
    assert sorted(VALIDATION_DEFAULTS) == sorted(swept())
    for default in VALIDATION_DEFAULTS.values():
        assert 0.1 <= default.nominal_fraction <= 0.33


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ("custom", "folder")])
def test_defaults_are_another_generator_than_training_s_or_anomalies_that_it_does_not_use(name):
    settings = Settings.model_validate(PRESETS[name].tree)
    found = validation_for_search(settings, FACTS)
    assert found.anomalies == "training" or found.anomalies in SOURCES
    for source in SOURCES:
        anomalies = settings.anomalies.model_copy(update={"source": source})
        assert validation_for_search(settings.model_copy(update={"anomalies": anomalies}), FACTS).anomalies != source


def test_small_images_get_small_squares():
    def anomalies(size):
        images = {"load_size": size, "size": 28, "color": "gray"}
        settings = Settings.model_validate({**PRESETS["textures"].tree, "images": images})
        return validation_for_search(settings, TEXTURES_FACTS).anomalies

    assert (anomalies(32), anomalies(96)) == ("blob", "mixed_blob")


def test_folders_go_by_their_protocol(tmp_path):
    trees.write_class_first(tmp_path / "defects")
    trees.write_one_vs_rest(tmp_path / "classes")

    def anomalies(folder):
        dataset = {"name": "folder", "root": str(tmp_path / folder)}
        settings = Settings.model_validate({**PRESETS["folder"].tree, "dataset": dataset})
        return validation_for_search(settings, dataset_facts(settings.dataset)).anomalies

    assert (anomalies("defects"), anomalies("classes")) == ("spots", "training")


@pytest.mark.parametrize("text", [HEAD, TEXTURES], ids=["digits", "textures"])
def test_defaults_can_be_planned(text, planned):
    experiment, _ = planned(text)
    found = validation_for_search(experiment, FACTS)
    evaluation = experiment.evaluation.model_copy(update={"validation": found})
    assert plan(experiment.model_copy(update={"evaluation": evaluation})).specs
    assert held_out_of(200 if text is TEXTURES else 120, found.nominal_fraction) >= 40


# What is refused


REFUSED = {
    "nothing held out": (
        TEXTURES + "evaluation: {validation: {anomalies: blob}}\n",
        ["evaluation.validation.nominal_fraction: validation anomalies are compared with held-out|Set evaluation"],
    ),
    "an unknown generator": (
        TEXTURES + HELD % "mixed_blobs",
        ["x.yaml:4: evaluation.validation.anomalies: there is no source 'mixed_blobs'|training|Closest: 'mixed_blob'"],
    ),
    "a data set as a name": (TEXTURES + HELD % "mnist", ["there is no source 'mnist'|written as {dataset: mnist}"]),
    "training's generator": (
        TEXTURES + HELD % "confetti",
        ["training uses 'confetti', too: configs that fit it would be rewarded"],
    ),
    "a training source": (TEXTURES + HELD % "mvtec_gt", ["'mvtec_gt' is a training source|Write {from_test: 1}"]),
    "no anomalies in training": (TEXTURES + HELD % "training", ["the training split of 'textures' holds no anomalies"]),
    "other classes set aside": (
        HEAD + HELD % "{from_test: 2}",
        ["test anomalies are reserved by defect type, but those of 'digits' are its other classes|Choose training"],
    ),
    "no count": (HEAD + HELD % "{from_test: 0}", ["evaluation.validation.anomalies.from_test: found 0|at least 1"]),
    "no source": (HEAD + HELD % "5", ["evaluation.validation.anomalies: found 5|{from_test: N}"]),
    "the data set itself": (HEAD + HELD % "{dataset: digits}", ["'digits' is the data set itself|Choose training"]),
    "an unknown data set": (HEAD + HELD % "{dataset: mnst}", ["there is no data set 'mnst'|Closest: 'mnist'"]),
    "a data set without a folder": (
        HEAD + HELD % "{dataset: mnist}",
        ["evaluation.validation.anomalies.root: 'mnist' needs a folder|Set evaluation.validation.anomalies.root to"],
    ),
    "no folder": (HEAD + HELD % "{folder: /no/such}", ["anomalies.folder: there is no folder /no/such"]),
    "looks without anomalies": (
        HEAD + "evaluation: {validation: {nominal_fraction: 0.2, epochs: [1]}}\n",
        ["evaluation.validation.epochs: there are no validation anomalies|Set evaluation.validation.anomalies"],
    ),
    "looks in no order": (
        HEAD + "evaluation: {validation: {nominal_fraction: 0.2, anomalies: training, epochs: [3, 2]}}\n",
        ["evaluation.validation.epochs: epochs must increase, found [3, 2]"],
    ),
    "configs that are evaluated on other images": (
        TEXTURES + "grid:\n  evaluation.validation.anomalies: [blob, mixed_blob]\n",
        ["grid.evaluation.validation.anomalies: |is the same for all configs|Set it once"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused(text, expected, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    assert_reported(problems_in(path), expected)


def test_folders_that_hold_each_other_or_the_data_are_refused(tmp_path, planned):
    trees.write_class_first(tmp_path / "data")
    for name in ("noise/some", "noise/more"):
        trees.write_images(tmp_path / name, 4)
    text = HEAD.replace("digits", "folder") + f"dataset: {{root: {tmp_path / 'data'}}}\n"
    text += f"anomalies: {{mode: noise, source: {{folder: {tmp_path / 'noise/some'}}}}}\n"

    def problems_with(folder):
        with pytest.raises(ExperimentError) as caught:
            planned(text + HELD % f"{{folder: {tmp_path / folder}}}")
        return [str(problem) for problem in caught.value.problems]

    assert_reported(
        problems_with("noise"), ["evaluation.validation.anomalies.folder: |contain each other|Name the same folder"]
    )
    assert_reported(problems_with("data/nut/test/anomalous"), ["which may be test images"])
    assert planned(text + HELD % f"{{folder: {tmp_path / 'noise/some'}}}")
    assert planned(text + HELD % f"{{folder: {tmp_path / 'noise/more'}}}")


def test_a_class_whose_training_anomalies_cannot_be_halved_is_refused(tmp_path, planned):
    trees.write_class_first(tmp_path / "data")
    trees.write_images(tmp_path / "data" / "bolt" / "train" / "anomalous", 2)
    text = HEAD.replace("digits", "folder") + f"dataset: {{root: {tmp_path / 'data'}}}\n" + HELD % "training"
    with pytest.raises(
        ExperimentError,
        match=r"half of the training split's anomalies evaluate configs, and nut has fewer than two\.",
    ):
        planned(text)


def test_real_anomalies_must_suffice_for_selection_training_and_test(tmp_path, planned):
    trees.write_class_first(tmp_path / "data")  # test anomalies of a class: 2 bent, 1 rust
    text = HEAD.replace("digits", "folder") + f"dataset: {{root: {tmp_path / 'data'}, classes: [nut]}}\n"
    _, found = planned(text + HELD % "{from_test: 2}")
    assert (
        "class 'nut': 2 test images per defect type were to evaluate configs, but one must stay: "
        "1 of 2 'bent', 0 of 1 'rust'" in found.notes
    )
    real = "anomalies: {mode: noise, source: mvtec, limit: 1}\n"
    with pytest.raises(ExperimentError, match="no defect type with 3 test images, 1 to select on, one to train on"):
        planned(text + real + HELD % "{from_test: 1}")
    trees.write_image(tmp_path / "data" / "nut" / "test" / "anomalous" / "bent" / "third.png")
    _, found = planned(text + real + HELD % "{from_test: 1}")
    assert any("were to be reserved, but one must stay: 0 of 1 'rust'" in note for note in found.notes)
    for path in (tmp_path / "data" / "nut" / "test" / "anomalous" / "bent").glob("0*.png"):
        path.unlink()
    with pytest.raises(ExperimentError, match="no defect type with two test images, one to select on and one to test"):
        planned(text + HELD % "{from_test: 1}")


# What is noted


def test_few_held_out_images_and_an_experiment_without_figures_are_noted(planned):
    _, found = planned(HEAD + HELD % "training")
    (note,) = found.notes
    assert (
        "few nominal images are held out to compare configs: class" in note
        and "validation_image_auroc_std_error" in note
    )
    _, found = planned(HEAD + HELD % "training", "evaluation.validation.nominal_fraction=0.45")
    assert found.notes == () and FEW == 50
    _, found = planned(HEAD, "evaluation.test=false")
    assert found.notes == ("evaluation.test is false and there are no validation anomalies: trials have no metrics.",)
    _, found = planned(
        HEAD + HELD % "training",
        "evaluation.validation={nominal_fraction: 0.45, epochs: [1, 50]}",
        "anomalies.limit=all",
    )
    assert found.notes == (
        "evaluation.validation.epochs: 50 are after the last epoch.",
        "half of the training split's anomalies, 500 at most, evaluate configs: training has the others.",
    )


def test_the_plan_says_what_configs_are_evaluated_by(planned):
    experiment, found = planned(HEAD + HELD % "training", "evaluation.test=false")
    line = "20% of the nominal training images, and anomalies: of the training split, where no config trains on them"
    assert f"selection  {line}; the test set is not scored\n" in describe(found, experiment)
    experiment, found = planned(HEAD)
    assert "selection" not in describe(found, experiment)


def test_one_kind_of_anomaly_takes_the_place_of_another(planned):
    text = TEXTURES + HELD % "{from_test: 2}"
    changed, _ = planned(text, "evaluation.validation.anomalies={dataset: digits}")
    assert changed.evaluation.validation.anomalies.dataset == "digits"
    changed, _ = planned(text, "evaluation.validation.anomalies=blob")
    assert changed.evaluation.validation.anomalies == "blob"


# What a run leaves

SMALL = small_experiment(
    """
training: {epochs: 2, passes_per_epoch: 1}
evaluation: {test: false, validation: {nominal_fraction: 0.3, anomalies: training, epochs: [1]}}
seeds: 1
""",
    '["3"]',
)


@pytest.mark.figures
@pytest.mark.slow
def test_a_run_whose_test_set_stays_shut_has_figures_pictures_and_a_report(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    experiment = load_experiment(tmp_path / "small.yaml", [f"output={tmp_path}"])
    assert run_sweep(experiment, local=True).done == 1
    leaf = tmp_path / "small" / "normal_3" / "it_0"
    (row,) = files.read_table(TrialPaths(leaf).metrics).to_pylist()
    assert row["image_auroc"] is None and row["n_test_nominal"] > 0 and row["n_test_anomalous"] > 0
    assert 0.5 < row["validation_image_auroc"] <= 1 and 0 < row["validation_image_auroc_std_error"] < 0.2
    assert row["validation_pixel_auroc"] is None and row["n_validation_anomalous"] == 500
    assert row["selection_source"].endswith("500 images of other classes of the training split")
    history = files.read_table(TrialPaths(leaf).history)["validation_image_auroc"].to_pylist()
    assert history[0] is not None and history[1] is None
    scores = files.read_table(TrialPaths(leaf).scores).to_pylist()
    assert {each["split"] for each in scores} == {"validation"}
    assert (leaf / "train_heatmaps_global.png").is_file() and not (leaf / "heatmaps_global.png").exists()
    assert "figures were not drawn" not in TrialPaths(leaf).log.read_text()
    aggregate(tmp_path / "small", redraw=True)
    (summed,) = files.read_table(RunPaths(tmp_path / "small").trials).to_pylist()
    assert summed["validation_image_auroc"] == row["validation_image_auroc"] and summed["image_auroc"] is None


def test_what_evaluates_is_part_of_the_data_s_fingerprint(planned, tmp_path):
    trees.write_images(tmp_path / "selection", 8)
    prints = []
    for anomalies in ("none", "blob", "training", f"{{folder: {tmp_path / 'selection'}}}"):
        _, found = planned(HEAD + HELD % anomalies + "dataset: {classes: ['3']}\nseeds: 1\n")
        prints.append(fingerprint_of(found.specs[0]))
    assert prints[0] == prints[1] and len(set(prints)) == 3


@pytest.fixture
def eight_images(tmp_path):
    """An experiment on a class with eight nominal training images."""
    root = tmp_path / "data"
    trees.write_class_first(root, classes=("bolt",))
    trees.write_images(root / "bolt" / "train" / "normal" / "more", 5, seed=77)
    path = tmp_path / "x.yaml"
    path.write_text(f"schema: 2\nname: x\npreset: folder\ndataset: {{root: {root}}}\n")
    return path


@pytest.mark.parametrize("calibration", ["split", "none"])
def test_an_image_score_that_nothing_can_choose_is_noted(eight_images, calibration):
    def noted(*overrides):
        notes = plan_file(eight_images, [f"evaluation.calibration={calibration}", *overrides])[1].notes
        return [note for note in notes if "no nominal images are held out to choose on" in note]

    (note,) = noted()
    assert note.startswith("evaluation.image_score auto takes the mean of the anomaly map")
    assert noted("evaluation.validation.nominal_fraction=0.3") == [] == noted("evaluation.image_score=max")


@pytest.mark.parametrize(
    ("fraction", "rate", "needed", "held"),
    [(0.05, 0.05, 19, 0), (0.3, 0.05, 19, 2), (0.25, 0.5, None, 2), (0, 0.05, None, 0)],
)
def test_a_decision_that_trials_will_not_make_is_noted(eight_images, fraction, rate, needed, held):
    overrides = [f"evaluation.validation.nominal_fraction={fraction}", f"evaluation.false_alarm_rate={rate}"]
    reported = [note for note in plan_file(eight_images, overrides)[1].notes if note.startswith("No decision")]
    assert len(reported) == (needed is not None)
    for note in reported:
        assert f"needs {needed} held-out nominal images" in note and f"class 'bolt' has {held}." in note


@pytest.mark.parametrize(("image_score", "held"), [("mean", None), ("auto", 2)])
def test_images_that_choose_the_image_score_do_not_count_for_decisions(eight_images, image_score, held):
    """A rate of 0.3 needs three images: those that 0.375 of eight holds out, if all of them calibrate."""
    overrides = ["evaluation.validation.nominal_fraction=0.375", "evaluation.false_alarm_rate=0.3"]
    notes = plan_file(eight_images, [*overrides, f"evaluation.image_score={image_score}"])[1].notes
    found = [note for note in notes if note.startswith("No decision")]
    assert [f"class 'bolt' has {held}. About a fifth more choose the image score." in note for note in found] == (
        [True] if held else []
    )


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("evaluation.false_alarm_rate=0.1", "has no meaning without held-out nominal images"),
        ("images.nominal_label=1", "images.nominal_label is 1: trials have no threshold"),
    ],
)
def test_a_threshold_that_other_settings_rule_out_is_noted(eight_images, override, why):
    fraction = "evaluation.validation.nominal_fraction=0.5" if "label" in override else "seeds=1"
    notes = plan_file(eight_images, [override, fraction, "anomalies.mode=unsupervised"])[1].notes
    assert [why in note for note in notes if "threshold" in note] == [True]


def test_a_missing_threshold_is_explained_where_the_results_are(eight_images, tmp_path):
    overrides = ["evaluation.validation.nominal_fraction=0.05", f"output={tmp_path / 'r'}", "seeds=1"]
    run = run_sweep(plan_file(eight_images, overrides)[1], local=True, work=works.scored).run_dir
    notes = json.loads(RunPaths(run).environment.read_text())["notes"]
    needed = "a false-alarm rate of 0.05 needs 19 held-out nominal images"
    assert [note for note in notes if needed in note] and needed in RunPaths(run).report.read_text()


@pytest.mark.parametrize(
    ("overrides", "noted"),
    [
        ([], True),
        (["evaluation.image_score=mean"], True),  # of one's own images
        (["evaluation.validation.nominal_fraction=0.3"], False),
        (["evaluation.calibration=none"], False),
        (["images.nominal_label=1"], False),
    ],
)
def test_own_images_without_held_out_ones_are_told_how_many_a_decision_needs(eight_images, overrides, noted):
    found = plan_file(eight_images, [*overrides, "anomalies.mode=unsupervised"])[1]
    wanted = [note for note in found.notes if note.startswith("no decision: hold out at least 19 nominal images")]
    assert len(wanted) == noted and all(f"note: {note}" in describe(found, found.experiment) for note in wanted)
