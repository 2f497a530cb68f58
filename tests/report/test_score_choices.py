"""`evaluation.image_score: auto` from trials to table, page, and the detectors that decide by it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from fcdd_sweep import load_experiment, run_sweep
from fcdd_sweep.metrics.cross_conformal import p_value_column
from fcdd_sweep.metrics.pixel_columns import IMAGE_COLUMNS
from fcdd_sweep.metrics.score_choice import CANDIDATES, is_for_selection
from fcdd_sweep.prediction.predict import predict
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.run_files import read_run
from fcdd_sweep.report.score_choices import choice_sentences
from fcdd_sweep.results import schemas
from fcdd_sweep.results.files import read_table, write_rows
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.training.detector import load_detector
from tests import fakes
from tests.fakes import FakeRun
from tests.trees import write_images

AUTO = "evaluation: {image_score: auto}\n"
DECIDED = ("threshold", "pixel_threshold", "n_calibration", "threshold_source", "image_score", "image_score_source")


def held_out(choosing=6, calibrating=30):
    """Names of held-out images for the choice and for calibration."""
    names = [f"wall/{i}.png" for i in range(400)]
    chosen = [[name for name in names if is_for_selection(name) == wanted] for wanted in (True, False)]
    return [*chosen[0][:choosing], *chosen[1][:calibrating]]


def add_selection(leaf, trial_id, gain=3.0, seed=0, choosing=6):
    """Held-out images and rendered anomalies, which only `score_max` tells apart, in a leaf's scores."""
    rng, names = np.random.default_rng(seed), held_out(choosing)
    found = [row for row in read_table(TrialPaths(leaf).scores).to_pylist() if row["split"] == "test"]
    for i, name in enumerate([*names, *names[:choosing] * 4]):
        anomalous = i >= len(names)
        row = {
            "trial_id": trial_id,
            "split": "selection" if anomalous else "validation",
            "image_index": i,
            "path": name,
        }
        row |= {"label": int(anomalous), "defect": "mixed_blob" if anomalous else "", "score": None}
        row |= dict.fromkeys(("fold", *map(p_value_column, CANDIDATES), *IMAGE_COLUMNS))
        row |= {column: float(value) for column, value in zip(CANDIDATES, rng.normal(size=6), strict=True)}
        row["score_max"] += gain * anomalous
        found.append(row | {"score": row["score_mean"]})
    write_rows(TrialPaths(leaf).scores, found, schemas.SCORES)


def auto_run(path, seeds=(0, 1, 2), classes=("brick",), experiment=AUTO, **selection):
    run = FakeRun(path, fakes.EXPERIMENT + experiment).plan(classes, seeds)
    for name in classes:
        for seed in seeds:
            run.finish("", name, seed, wrong=seed, size=16)
            leaf = path / fakes.leaf_name("", name, seed)
            add_selection(leaf, fakes.key("", name, seed)["trial_id"], seed=seed, **selection)
    return run.write()


def permute_test_images(run_dir, seed=0):
    """Give every test image the label, defect and scores of another one."""
    for trial in read_run(run_dir).trials:
        found = read_table(TrialPaths(trial.folder).scores).to_pylist()
        tested = [row for row in found if row["split"] == "test"]
        order = np.random.default_rng(seed).permutation(len(tested))
        moved = [{name: tested[i][name] for name in ("label", "defect")} for i in order]
        shuffled = [tested[i]["score_max"] for i in np.random.default_rng(seed + 1).permutation(len(tested))]
        for row, change, score in zip(tested, moved, shuffled, strict=True):
            row |= change | {"score_max": score}
        write_rows(TrialPaths(trial.folder).scores, found, schemas.SCORES)


def test_one_score_is_chosen_for_a_class_over_all_of_its_trials_and_recorded_with_its_evidence(tmp_path):
    told = []
    run_dir = auto_run(tmp_path / "r")
    aggregate(run_dir, tell=told.append)
    rows = read_table(RunPaths(run_dir).image_scores).to_pylist()
    assert [row["score"] for row in rows] == list(CANDIDATES)
    assert [row["score"] for row in rows if row["is_used"]] == ["score_max"]
    used = next(row for row in rows if row["is_used"])
    assert (used["n_trials"], used["n_nominal"], used["n_anomalous"]) == (3, 6, 72)
    assert used["source"] == "rendered mixed_blob"
    assert used["selection_auroc"] > 0.9 and used["gain"] > 3 * used["gain_std_error"]
    trials = read_table(RunPaths(run_dir).trials).to_pylist()
    assert {row["image_score"] for row in trials} == {"score_max"}
    assert {row["n_calibration"] for row in trials} == {30}
    assert len({row["image_score_source"] for row in trials}) == 1
    page = RunPaths(run_dir).report.read_text()
    assert "Image scores" in page and page.count("✓") == 1
    assert "auto: largest value of the heatmap: selection AUROC" in (run_dir / "summary.md").read_text()
    assert told == [
        "image score of class 'brick': largest value of the heatmap (auto, on 6 nominal images and 72 anomalies)"
    ]


def test_choice_and_thresholds_do_not_depend_on_test_images(tmp_path):
    run_dir = auto_run(tmp_path / "r", classes=("brick", "metal nut"))
    before = read_run(run_dir)
    permute_test_images(run_dir)
    after = read_run(run_dir)
    assert before.score_choices == after.score_choices and set(before.score_choices) == {"brick", "metal nut"}
    for first, second in zip(before.trials, after.trials, strict=True):
        assert [first.metrics[name] for name in DECIDED] == [second.metrics[name] for name in DECIDED]
        assert first.metrics["image_auroc"] != second.metrics["image_auroc"]


def test_a_named_score_after_auto_is_applied_again_and_reaches_the_leaves(tmp_path):
    run_dir = auto_run(tmp_path / "r", seeds=[0])
    aggregate(run_dir)
    record = TrialPaths(run_dir / "normal_brick/it_0").decision
    assert '"image_score": "max"' in record.read_text()
    experiment = RunPaths(run_dir).experiment
    experiment.write_text(experiment.read_text().replace("auto", "{top: 0.03}"))
    aggregate(run_dir)
    (row,) = read_table(RunPaths(run_dir).trials).to_pylist()
    assert (row["image_score"], row["image_score_source"], row["n_calibration"]) == ("score_top_3", "", 36)
    figures = json.loads(record.read_text())["test_decisions"]
    assert figures["accuracy"] == row["accuracy"] is not None and figures["true_positives"] == row["true_positives"]
    assert '"top": 0.03' in record.read_text() and not RunPaths(run_dir).image_scores.exists()


def test_trials_without_selection_images_are_scored_by_the_mean_and_calibrate_on_all(tmp_path):
    run_dir = auto_run(tmp_path / "r", seeds=[0], choosing=0)
    (trial,) = read_run(run_dir).trials
    assert (trial.metrics["image_score"], trial.metrics["n_calibration"]) == ("score_mean", 30)
    assert "trials have no scores of selection images" in trial.metrics["image_score_source"]
    (sentence,) = choice_sentences(read_run(run_dir).score_choices)
    assert sentence.endswith("mean of the anomaly map (auto has too few selection images to choose on)")


EXPERIMENT = """\
schema: 2
name: parts
dataset: {{name: folder, root: {root}}}
images: {{load_size: 32, size: 28}}
anomalies: {{mode: malformed_normal, source: blob}}
network: {{name: FCDD_CNN28}}
training: {{epochs: 3, batch_size: 8, learning_rate: 0.01, schedule: {{type: exponential, factor: 0.9}}}}
evaluation: {{image_score: auto, false_alarm_rate: 0.2, validation: {{nominal_fraction: 0.5}}}}
seeds: 2
output: {output}
"""


@pytest.mark.slow
def test_a_detector_of_a_finished_run_decides_by_the_score_that_was_chosen(tmp_path, capsys):
    """Trained on files; the leaf alone knows nothing of the choice, and the detector says so."""
    write_images(tmp_path / "data/good", 60)
    bad = write_images(tmp_path / "data/bad", 6, seed=100)
    for path in bad:
        image = Image.open(path)
        image.paste((255, 0, 0), (3, 3, 9, 9))
        image.save(path)
    (tmp_path / "x.yaml").write_text(EXPERIMENT.format(root=tmp_path / "data", output=tmp_path))
    told = []

    class Sink:
        def handle(self, event):
            told.append(getattr(event, "text", ""))

    result = run_sweep(load_experiment(tmp_path / "x.yaml"), local=True, progress=Sink())
    run_dir = result.run_dir
    trials = read_table(RunPaths(run_dir).trials).to_pylist()
    column = trials[0]["image_score"]
    assert {row["image_score"] for row in trials} == {column} and any("image score of class" in each for each in told)
    assert read_table(RunPaths(run_dir).image_scores).to_pylist()[0]["source"] == "rendered spots"
    for row in trials:
        leaf = run_dir / row["leaf"]
        stored = read_table(TrialPaths(leaf).scores).to_pylist()
        choosing = [each for each in stored if each["split"] == "validation" and is_for_selection(each["path"])]
        assert row["n_calibration"] == sum(each["split"] == "validation" for each in stored) - len(choosing)
        drawn = {each["path"] for each in stored if each["split"] == "selection"}
        assert drawn >= {each["path"] for each in choosing} and choosing
        (own,) = read_table(TrialPaths(leaf).metrics).to_pylist()
        assert own["image_score"] == "score_mean" and own["image_score_source"].startswith("auto: mean")
        detector = load_detector(TrialPaths(leaf).snapshot)
        assert (detector.score_column, detector.threshold) == (column, row["threshold"])
        assert detector.pixel_threshold == row["pixel_threshold"] and detector.n_calibration == row["n_calibration"]
        table = read_table(predict(TrialPaths(leaf).snapshot, bad, leaf / "out").scores).to_pylist()
        by_name = {each["path"].rsplit("/", 1)[-1]: each[column] for each in stored if each["split"] == "test"}
        found = {each["path"].rsplit("/", 1)[-1]: each["score"] for each in table}
        shared = set(found) & set(by_name)
        assert shared and all(found[name] == pytest.approx(by_name[name], rel=1e-5) for name in shared)
        TrialPaths(leaf).decision.unlink()
        alone = load_detector(TrialPaths(leaf).snapshot)
        assert alone.score_column == "score_mean" and "no image score has been chosen yet" in alone.threshold_source
