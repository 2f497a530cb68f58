"""A sweep from an experiment to its files, in this process and on Ray."""

import html
import json
import math
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pytest

from fcdd_sweep.config.errors import DataError, InputError
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.config.trial_spec import CUDA_NUMERICS_VERSION
from fcdd_sweep.data import loading
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.results import files, schemas, tree
from fcdd_sweep.results.lease import lease
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.sweep import sweep as sweeping
from fcdd_sweep.sweep.sweep import run_sweep
from fcdd_sweep.sweep.trial import run_trial
from fcdd_sweep.training.result import NullObserver
from tests import works
from tests.events import Recorder
from tests.specs import small_experiment
from tests.trees import write_images, write_mvtec

pytestmark = pytest.mark.slow

EXPERIMENT = small_experiment(
    """
training: {epochs: 1, passes_per_epoch: 1}
keep: {pictures: none}
seeds: 2
"""
)


def loader_in(folder):
    """Loads the experiment with other settings, or another text."""

    def load(*overrides, text=EXPERIMENT):
        path = folder / "small.yaml"
        path.write_text(text)
        return load_experiment(path, [f"output={folder / 'results'}", *overrides])

    return load


@pytest.fixture
def experiment(tmp_path):
    return loader_in(tmp_path)


def go(experiment, **options):
    recorder = Recorder()
    return run_sweep(experiment, local=True, progress=recorder, **options), recorder


LEAF = {
    tree.CONFIG,
    tree.HISTORY,
    tree.SCORES,
    tree.CURVES,
    tree.DEFECTS,
    tree.METRICS,
    tree.MAPS,
    tree.SNAPSHOT,
    tree.LOG,
    "ds_preview.png",
    "loss.pdf",
    "roc_curve.pdf",
    "scores.pdf",
    tree.PICTURES,
    "heatmaps_global.png",
    "train_heatmaps_global.png",
    "heatmaps_paper_local_lbl0.png",
    "heatmaps_paper_local_lbl1.png",
    "heatmaps_paper_global_lbl0.png",
    "heatmaps_paper_global_lbl1.png",
}


@pytest.mark.figures
def test_a_run_has_the_tree_of_the_design(experiment):
    result, _ = go(experiment("keep.pictures=leaf", "dataset.classes=['8']"))
    run = result.run_dir
    assert (result.planned, result.done, result.failed, result.missing) == (2, 2, 0, 0)
    assert {path.name for path in (run / "normal_8" / "it_1").iterdir()} == LEAF
    assert {path.name for path in (run / "normal_8").iterdir()} == {"it_0", "it_1", "roc.pdf", "heatmaps.png"}
    for name in (tree.EXPERIMENT, tree.PLAN, tree.INDEX, tree.ENVIRONMENT, tree.TRIALS, tree.REPORT, "summary.csv"):
        assert (run / name).is_file(), name
    assert not list(RunPaths(run).attempts.iterdir())


def test_files_have_the_declared_columns(experiment):
    run = go(experiment("seeds=1"))[0].run_dir
    leaf = run / "normal_3" / "it_0"
    for name, schema in {
        tree.HISTORY: schemas.HISTORY,
        tree.SCORES: schemas.SCORES,
        tree.CURVES: schemas.CURVES,
        tree.DEFECTS: schemas.DEFECTS,
        tree.METRICS: schemas.METRICS,
    }.items():
        assert files.read_table(leaf / name).schema.equals(schema, check_metadata=True), name
    (row,) = files.read_table(TrialPaths(leaf).metrics).to_pylist()
    assert row["pixel_auroc"] is None and 0 <= row["image_auroc"] <= 1


def test_another_false_alarm_rate_decides_again_from_files_and_trains_nothing(experiment):
    overrides = ["seeds=1", "dataset.classes=['3']", "evaluation.validation.nominal_fraction=0.33"]
    run = go(experiment(*overrides))[0].run_dir
    leaf = run / "normal_3" / "it_0"
    first, scores = TrialPaths(leaf).metrics.read_bytes(), files.read_table(TrialPaths(leaf).scores).to_pylist()
    result, recorder = go(experiment(*overrides, "evaluation.false_alarm_rate=0.25"))
    assert result.kept == 1 and recorder.counts == (1, 1, 0)
    assert TrialPaths(leaf).metrics.read_bytes() == first
    (row,) = files.read_table(RunPaths(run).trials).to_pylist()
    held_out = sorted(each["score"] for each in scores if each["split"] == "validation")
    above = [each["score"] > row["threshold"] for each in scores if each["split"] == "test" and not each["label"]]
    assert row["false_alarm_rate"] == 0.25 and row["n_calibration"] == len(held_out)
    assert row["threshold"] == held_out[math.ceil((len(held_out) + 1) * 0.75) - 1]
    assert row["test_false_alarm_rate"] == sum(above) / len(above)
    text = (run / "summary.md").read_text()
    assert f"with {len(held_out)} held-out images at most 1 in 4 of new nominal images is called anomalous" in text


def test_the_same_command_again_runs_nothing_and_more_seeds_run_only_the_new_ones(experiment):
    go(experiment())
    again, recorder = go(experiment())
    assert recorder.counts == (4, 4, 0) and recorder.results == [] and again.done == 4
    _, recorder = go(experiment("seeds=3"))
    assert recorder.counts == (6, 4, 2)
    assert sorted(recorder.results) == [("normal_3/it_2", "done"), ("normal_8/it_2", "done")]


def test_adding_a_grid_keeps_finished_trials_where_they_are(experiment):
    go(experiment("seeds=1"))
    result, _ = go(experiment("seeds=1", "grid={training.learning_rate: [0.01, 0.02]}", "training.learning_rate=0.01"))
    assert result.done == 4
    index = files.read_table(RunPaths(result.run_dir).index).to_pylist()
    leaves = {row["leaf"] for row in index}
    assert all(TrialPaths(result.run_dir / leaf).metrics.is_file() for leaf in leaves)
    assert "normal_3/it_0" in leaves and "learning_rate-0.02/normal_3/it_0" in leaves


def test_an_edited_config_never_overwrites_the_results_of_another(experiment):
    first = go(experiment("seeds=1"))[0]
    kept = TrialPaths(first.run_dir / "normal_3" / "it_0").metrics.read_bytes()
    second, recorder = go(experiment("seeds=1", "training.learning_rate=0.5"))
    assert recorder.counts == (2, 0, 2) and second.done == 2
    assert TrialPaths(first.run_dir / "normal_3" / "it_0").metrics.read_bytes() == kept
    assert go(experiment("seeds=1"))[1].counts == (2, 2, 0)
    assert go(experiment("seeds=1", "training.learning_rate=0.5"))[1].counts == (2, 2, 0)


def test_settings_that_leave_finished_trials_behind_are_named_with_the_way_back(experiment):
    go(experiment("seeds=1"), work=works.scored)
    changed = experiment("seeds=1", "training.learning_rate=0.5", "training.schedule.factor=0.5")
    _, recorder = go(changed, work=works.scored)
    (reported,) = [text for text in recorder.messages if "not in the plan" in text]
    assert reported.startswith("2 finished trials of earlier settings (training.learning_rate=0.01, ")
    assert "left out of its report and of trials.parquet" in reported and "--set name=NAME" in reported
    back = [word for word in shlex.split(reported.split("earlier settings: ")[1].split(";")[0]) if word != "--set"]
    assert go(experiment("seeds=1", *back), work=works.scored)[1].counts == (2, 2, 0)


def test_another_seed_left_behind_is_no_other_setting(experiment):
    go(experiment("seeds=[7]"), work=works.scored)
    _, recorder = go(experiment("seeds=[8]"), work=works.scored)
    (reported,) = [text for text in recorder.messages if "not in the plan" in text]
    assert "2 finished trials of earlier settings (class 8, seed 7) are not in the plan" in reported


def test_resumed_trials_are_counted_by_the_epoch_that_they_resume_from(experiment):
    class StopAfterEpoch2(NullObserver):
        epoch = 0

        def epoch_done(self, record, epochs):
            self.epoch = record.epoch

        def stop_asked(self):
            return self.epoch == 2

    loaded = experiment("training.epochs=4")
    for spec in plan(loaded).specs[:2]:
        assert run_trial(spec, loaded.run_dir, StopAfterEpoch2()).status == "stopped"
    _, recorder = go(loaded)
    assert "2 trials of 4 resume from checkpoints: 2 after epoch 2" in recorder.messages
    assert not [text for text in go(loaded)[1].messages if "resume" in text]


def test_a_lost_index_is_made_again_from_the_leaves(experiment):
    result, _ = go(experiment())
    RunPaths(result.run_dir).index.unlink()
    assert go(experiment())[1].counts == (4, 4, 0)
    RunPaths(result.run_dir).index.write_bytes(b"PAR1 not really")
    _, recorder = go(experiment())
    assert recorder.counts == (4, 4, 0)
    assert any("rebuilt from the leaves" in message for message in recorder.messages)


def test_changed_data_stops_unless_asked_to_keep_or_redo(experiment, monkeypatch):
    go(experiment("seeds=1"))
    index = RunPaths(experiment().run_dir).index
    rows = files.read_table(index).to_pylist()
    for row in rows:
        row["data_fingerprint"] = "0" * 12 if row["normal_class"] == "3" else row["data_fingerprint"]
    files.write_rows(index, rows, schemas.INDEX)
    with pytest.raises(InputError, match="data of class 3 has changed since 1 finished trial used it") as caught:
        go(experiment("seeds=1"))
    assert "name this one otherwise" not in str(caught.value)
    result, recorder = go(experiment("seeds=1"), changed_data="keep")
    note = "Results are kept although the data of class 3 has changed since 1 finished trial used it."
    assert recorder.counts == (2, 2, 0) and note in html.unescape(result.report.read_text())
    assert go(experiment("seeds=1"), changed_data="redo")[1].counts == (2, 1, 1)
    assert go(experiment("seeds=1"))[1].counts == (2, 2, 0)


@pytest.mark.parametrize(
    ("device", "numerics", "stops"),
    [
        ("NVIDIA H200", f"cuda {CUDA_NUMERICS_VERSION}", False),
        ("NVIDIA H200", f"cuda {CUDA_NUMERICS_VERSION + 1}", True),
        ("NVIDIA H200", None, True),  # from before there were versions
        ("x86_64", None, False),
    ],
)
@pytest.mark.slow
def test_trials_of_a_gpu_with_other_draws_stop_unless_asked_to_keep_or_redo(device, numerics, stops, experiment):
    go(experiment("seeds=1"))
    index = RunPaths(experiment().run_dir).index
    rows = files.read_table(index).to_pylist()
    rows[0] |= {"device": device, "device_numerics": numerics}
    files.write_rows(index, rows, schemas.INDEX)
    if not stops:
        assert go(experiment("seeds=1"))[1].counts == (2, 2, 0)
        return
    with pytest.raises(InputError, match="1 finished trial ran on a GPU with random draws of another version"):
        go(experiment("seeds=1"))
    assert go(experiment("seeds=1"), changed_data="keep")[1].counts == (2, 2, 0)
    assert go(experiment("seeds=1"), changed_data="redo")[1].counts == (2, 1, 1)
    assert {row["device_numerics"] for row in files.read_table(index).to_pylist()} == {"cpu"}


def test_two_sweeps_cannot_write_to_one_run(experiment):
    loaded = experiment()
    named = rf"another sweep is writing to this run \(host {platform.node()}, process {os.getpid()}, since 20"
    with lease(loaded.run_dir), pytest.raises(InputError, match=named):
        go(loaded)
    with lease(loaded.run_dir):
        pass


def test_an_output_that_cannot_be_written_is_said_before_anything_starts(experiment, tmp_path):
    (tmp_path / "results").write_text("a file, not a folder")
    with pytest.raises(InputError, match="results cannot be written to this folder"):
        go(experiment())


def test_a_corrupt_image_is_named_before_any_trial_starts(experiment, tmp_path):
    root = write_mvtec(tmp_path / "mvtec", classes=("bottle",))
    broken = sorted((root / "bottle" / "train" / "good").glob("*.png"))[0]
    broken.write_bytes(broken.read_bytes()[:60])
    text = f"""
schema: 2
name: broken
preset: mvtec
dataset: {{name: mvtec, root: {root}, classes: [bottle]}}
images: {{load_size: 72, size: 64}}
training: {{epochs: 1, passes_per_epoch: 1, batch_size: 4}}
"""
    with pytest.raises(DataError, match=str(broken)):
        go(experiment(text=text))
    assert not (tmp_path / "results" / "broken").exists()


def test_an_image_found_corrupt_later_fails_that_trial_alone(experiment, monkeypatch):
    def lost(settings):
        raise DataError(loading.Problem("bad.png", "does not decode"))

    def work(spec, run_dir, observer):
        with monkeypatch.context() as patch:
            if spec.normal_class == "8":
                patch.setattr("fcdd_sweep.runners.trial_data.corpus_of", lost)
            return run_trial(spec, run_dir, observer)

    result, _ = go(experiment("seeds=1"), work=work)
    assert (result.done, result.failed) == (1, 1)


def test_ctrl_c_in_process_keeps_what_is_done(experiment):
    def work(spec, run_dir, observer):
        if spec.normal_class == "8":
            raise KeyboardInterrupt
        return run_trial(spec, run_dir, observer)

    result, _ = go(experiment("seeds=1"), work=work)
    assert result.interrupted and (result.done, result.missing) == (1, 1)
    assert go(experiment("seeds=1"))[1].counts == (2, 1, 1)


def numbers(run_dir):
    """All scores and histories of a run, without times."""
    found = {}
    for leaf in sorted(run_dir.glob("**/it_*")):
        scores = files.read_table(TrialPaths(leaf).scores)
        history = files.read_table(TrialPaths(leaf).history).drop_columns(["images_per_second"])
        found[leaf.relative_to(run_dir)] = (scores, history)
    return found


@pytest.mark.ray
def test_ray_gives_the_numbers_of_a_run_in_process(experiment, tmp_path):
    local = go(experiment())[0]
    on_ray = run_sweep(experiment(f"output={tmp_path / 'ray'}"), progress=Recorder())
    assert on_ray.done == 4
    assert numbers(on_ray.run_dir) == numbers(local.run_dir)


@pytest.mark.ray
def test_ctrl_c_on_ray_ends_cleanly_and_says_how_to_continue(tmp_path, monkeypatch):
    temporary = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))  # short: Ray puts sockets there
    monkeypatch.setenv("TMPDIR", str(temporary))
    path = tmp_path / "long.yaml"
    path.write_text(EXPERIMENT.replace("epochs: 1", "epochs: 100000").replace("small", "long"))
    command = [sys.executable, "-m", "fcdd_sweep", str(path), "--output", str(tmp_path / "results")]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 90
    while not list(tmp_path.glob("results/long/.attempts/*/*/leaf/log.txt")):
        assert time.monotonic() < deadline and started.poll() is None
        time.sleep(0.5)
    started.send_signal(signal.SIGINT)
    output, _ = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "interrupted: 0 of 4 trials done, 0 failed, 4 missing" in output
    assert "Rerun the same command to continue: finished trials are kept" in output
    assert "Traceback" not in output
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(temporary) not in listed
    temporary.rmdir()  # which is empty again


def test_results_do_not_depend_on_the_order_of_trials(experiment, tmp_path):
    forward = go(experiment())[0]
    backward = experiment(f"output={tmp_path / 'other'}")
    for spec in reversed(plan(backward).specs):
        result = run_trial(spec, backward.run_dir, works.SILENT)
        assert result.status == "done"
    go(backward)
    assert numbers(backward.run_dir) == numbers(forward.run_dir)


def test_a_limit_beyond_the_exposure_is_reported_with_both_numbers(experiment, tmp_path):
    write_images(tmp_path / "others", 4)
    exposed = f"anomalies={{mode: noise, source: {{folder: {tmp_path / 'others'}}}, limit: 50}}"
    result, recorder = go(experiment("seeds=1", exposed))
    message = "anomalies.limit is 50, but there are 4 outlier-exposure images: all are used."
    assert recorder.messages.count(message) == 1 and message in html.unescape(result.report.read_text())


def test_changed_outlier_exposure_is_changed_data(experiment, tmp_path):
    write_images(tmp_path / "others", 4)
    exposed = f"anomalies={{mode: noise, source: {{folder: {tmp_path / 'others'}}}}}"
    assert go(experiment("seeds=1", exposed))[0].done == 2
    write_images(tmp_path / "others", 5, seed=3)
    with pytest.raises(InputError, match="has changed since 2 finished trials used it"):
        go(experiment("seeds=1", exposed))


def test_a_run_keeps_the_program_that_made_it(experiment):
    result, _ = go(experiment("seeds=1"))
    rows = files.read_table(RunPaths(result.run_dir).trials).to_pylist()
    (digest,) = {json.loads(row["versions"])["source"] for row in rows}
    with zipfile.ZipFile(RunPaths(result.run_dir).source / f"{digest}.zip") as archive:
        text = archive.read("fcdd_sweep/sweep/sweep.py").decode()
    assert text == Path(sweeping.__file__).read_text()
