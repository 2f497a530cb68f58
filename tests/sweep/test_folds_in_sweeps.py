"""Sweeps whose trials train a model for each fold: decided again from files, killed, and resumed."""

from __future__ import annotations

import pytest

from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.metrics.cross_conformal import largest_limit
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.results import files
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.sweep.resume_notes import resume_notes
from fcdd_sweep.sweep.sweep import run_sweep
from fcdd_sweep.sweep.trial import run_trial
from fcdd_sweep.training.detector import load_detector
from tests.specs import small_experiment
from tests.sweep.test_checkpoints import StopAt

pytestmark = pytest.mark.slow

TEXT = """training: {epochs: 1, passes_per_epoch: 1}
evaluation: {calibration: cross, folds: 5, false_alarm_rate: 0.1}
faults: {checkpoint_every: 1 epoch}
keep: {pictures: none}
seeds: 1
"""


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "small.yaml").write_text(small_experiment(TEXT, classes='["3"]'))
    return lambda *overrides: load_experiment(tmp_path / "small.yaml", [*overrides, f"output={tmp_path / 'results'}"])


def test_another_rate_and_score_decide_again_from_files_and_train_nothing(experiment):
    run = run_sweep(experiment(), local=True).run_dir
    leaf = run / "normal_3" / "it_0"
    (first,) = files.read_table(TrialPaths(leaf).metrics).to_pylist()
    scores = files.read_table(TrialPaths(leaf).scores).to_pylist()
    left_out = [each for each in scores if each["split"] == "out_of_fold"]
    assert (first["epochs"], first["folds"], first["n_calibration"]) == (5, 5, len(left_out))
    assert files.read_table(TrialPaths(leaf).history)["epoch"].to_pylist() == [1, 2, 3, 4, 5]
    again = run_sweep(experiment("evaluation.false_alarm_rate=0.3", "evaluation.image_score=max"), local=True)
    assert (again.kept, again.done) == (1, 1)
    (row,) = files.read_table(RunPaths(run).trials).to_pylist()
    limit = largest_limit(5, len(left_out) // 5, 0.3)
    assert row["p_value_level"] == (1 + limit) / (len(left_out) + 1) > first["p_value_level"]
    nominal = [each for each in scores if each["split"] == "test" and not each["label"]]
    called = [each["p_value_max"] <= row["p_value_level"] for each in nominal]
    assert row["test_false_alarm_rate"] == sum(called) / len(called)
    assert "cross-conformal, proven bound" in (run / "summary.md").read_text()
    detector = load_detector(leaf / "snapshot.pt", "cpu")  # decides as the report does, by the record beside it
    assert detector.ensemble.left_out.level(detector.settings.evaluation.false_alarm_rate) == row["p_value_level"]
    assert detector.score_column == "score_max" and detector.threshold_source == row["threshold_source"]


def test_an_attempt_resumes_within_the_model_that_was_in_training(experiment, tmp_path):
    (spec,) = plan(experiment()).specs

    def attempt(run_dir, stop_at=0):
        return run_trial(spec, run_dir, StopAt(stop_at), "1 epoch")

    def tables(run_dir, number):
        leaf = TrialPaths(RunPaths(run_dir).attempts_dir(spec.trial_id) / str(number) / "leaf")
        history = files.read_table(leaf.history).drop_columns(["images_per_second"])
        return repr([history.to_pylist(), files.read_table(leaf.scores).to_pylist()])

    steps = 2  # 96 of 120 images in batches of 64
    stopped = attempt(tmp_path / "a", 2 * (steps + 1) + 2)
    assert stopped.error == "stopped after step 1 of epoch 1 of model 3 of 5"
    (note,) = resume_notes(tmp_path / "a", [spec])
    assert note.endswith("resumes from checkpoints: 1 after step 1 of epoch 3")
    assert attempt(tmp_path / "a").status == attempt(tmp_path / "b").status == "done"
    assert tables(tmp_path / "a", 2) == tables(tmp_path / "b", 1)
