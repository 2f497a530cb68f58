"""What a sweep reports while it runs: `progress.json`, `status` from elsewhere, several listeners at once."""

import datetime as dt
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fcdd_sweep import cli
from fcdd_sweep.report.status import progress_lines, status_text, watch
from fcdd_sweep.results import files, schemas, tree
from fcdd_sweep.results.documents import SweepProgress
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners.events import (
    AttemptRetried,
    EpochDone,
    EventFanout,
    NullSink,
    SweepStarted,
    SweepStopped,
    TrialEnded,
    TrialStarted,
)
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.progress_file import ProgressFile
from tests.fakes import FakeRun
from tests.specs import spec

NOW = dt.datetime(2026, 1, 2, 12, 0, 0, tzinfo=dt.UTC)
DRIVER = """
import pathlib, sys, time
from fcdd_sweep.sweep.progress_file import ProgressFile
with ProgressFile(pathlib.Path(sys.argv[1]), print):
    print("written", flush=True)
    time.sleep(600)
"""


def written(run_dir: Path) -> dict:
    return json.loads(RunPaths(run_dir).progress.read_text())


def until(condition, seconds=20.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def run_dir(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0, 1, 2], {"a": {"x": 1}, "b": {"x": 2}})
    return run.finish("a", "brick", 0).fail("b", "brick", 1).write()


def test_the_file_follows_the_sweep_and_is_written_while_no_trial_reports_anything(tmp_path):
    first, second = spec(seed=0), spec(seed=1)
    with ProgressFile(tmp_path, print, every_s=0.05) as file:
        assert written(tmp_path)["state"] == "running"
        file.handle(SweepStarted(5, 2, 3))
        assert written(tmp_path)["to_run"] == 3
        file.handle(TrialStarted(first))
        file.handle(TrialStarted(second))
        file.handle(EpochDone(first, 1, 2, 0.25))
        until(lambda: written(tmp_path)["running"] == 2 and written(tmp_path)["trials"][0]["epoch"] == 1)
        shown = written(tmp_path)
        assert shown["trials"][0] | {"trial_id": ""} == {
            "trial_id": "", "config": "", "normal_class": "plain", "seed": 0, "epoch": 1, "epochs": 2, "loss": 0.25,
        }  # fmt: skip
        assert shown["trials"][1]["loss"] is None and shown["eta_s"] is None
        file.handle(EpochDone(first, 2, 2, 0.25))
        until(lambda: written(tmp_path)["eta_s"] is not None)
        file.handle(AttemptRetried(second, TrialResult(second.trial_id, "failed", 1, "x"), "again"))
        file.handle(TrialEnded(first, TrialResult(first.trial_id, "done", 1, image_auroc=0.9, host="node-7")))
        until(lambda: written(tmp_path)["done"] == 1)
        assert (written(tmp_path)["running"], written(tmp_path)["machines"]) == (0, ["node-7"])
    assert written(tmp_path)["state"] == "ended" and not list(tmp_path.glob(".*progress*"))


def test_an_interruption_is_reported(tmp_path):
    with pytest.raises(KeyboardInterrupt), ProgressFile(tmp_path, print):
        raise KeyboardInterrupt
    assert written(tmp_path)["state"] == "interrupted"
    with ProgressFile(tmp_path, print) as file:
        assert written(tmp_path)["state"] == "running"
        EventFanout(NullSink(), [file]).handle(SweepStopped())
    assert written(tmp_path)["state"] == "interrupted"


def test_a_file_that_cannot_be_written_is_reported_once_and_stops_nothing(tmp_path):
    (tmp_path / "r").write_text("in the way")
    said = []
    with ProgressFile(tmp_path / "r", said.append, every_s=0.02):
        time.sleep(0.2)
    assert len(said) == 1 and tree.PROGRESS in said[0]


def progress(**changes):
    plain = {
        "state": "running", "began": "2026-01-02T11:00:00+00:00", "written": "2026-01-02T11:59:57+00:00",
        "every_s": 5.0, "driver": {"host": "head", "pid": 1, "processes": "pid:[1]", "started": "2"},
        "machines": ["n1"], "planned": 6, "kept": 1, "to_run": 5,
        "done": 2, "failed": 0, "running": 14, "eta_s": 600.0,
        "trials": [{"trial_id": "", "config": "a", "normal_class": "brick", "seed": s, "epoch": s, "epochs": 9,
                    "loss": 0.5 if s else None} for s in range(14)],
    }  # fmt: skip
    return plain | changes


def shown(**changes):
    return SweepProgress.model_validate(progress(**changes))


def test_what_runs_is_shown_with_its_epochs_and_the_time_to_go():
    lines = progress_lines(shown(), NOW)
    assert lines[0] == (
        "running on head, updated 3 s ago, elapsed 1:00:00, about 10:00 left: 2 done and 0 failed of 5 in this start"
    )
    assert lines[1:4] == [
        "machines: n1",
        "  a, class brick, seed 0: starting",
        "  a, class brick, seed 1: epoch 1/9, loss 0.5000",
    ]
    assert lines[-1] == "  and 2 more" and len(lines) == 15


def test_a_driver_that_has_not_written_for_long_is_reported():
    (line,) = progress_lines(shown(written="2026-01-02T11:48:00+00:00"), NOW)
    assert line.startswith("the driver on head has not updated its progress for 12:00: it is dead, or cut off")
    (line,) = progress_lines(shown(state="interrupted", written="2026-01-02T11:48:00+00:00"), NOW)
    assert line == "no sweep is running: the last start on head was interrupted 12:00 ago"
    assert progress_lines(None, NOW) == []


def test_a_driver_of_this_machine_that_was_killed_is_gone_at_once(run_dir):
    """Its process has ended, whether its parent has noticed or not, or its number is now another process's."""
    command = [sys.executable, "-c", DRIVER, str(run_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
        started.stdout.readline()
        assert f"running on {platform.node()}, updated " in status_text(run_dir)
        started.kill()
        until(lambda: "is gone" in status_text(run_dir))
    gone = f"the driver on {platform.node()} is gone: process {started.pid} has ended, its last update was "
    assert gone in status_text(run_dir)
    naps = []
    watch(run_dir, 1.0, lambda text: True, sleep=naps.append)
    assert naps == []


def test_another_process_with_the_number_of_the_driver_is_not_the_driver(run_dir):
    with ProgressFile(run_dir, print):
        driver = written(run_dir)["driver"]
    for changes, says in [({}, "running on"), ({"started": "1"}, "is gone"), ({"processes": "pid:[1]"}, "running on")]:
        now = dt.datetime.now(dt.UTC)
        (line, *_) = progress_lines(shown(written=now.isoformat(), driver=driver | changes), now)
        assert says in line


def with_times(run_dir, **changes):
    rows = list(files.read_index(run_dir).values())
    for row in rows:
        row |= changes if row["status"] == "done" else {}
    files.write_rows(RunPaths(run_dir).index, rows, schemas.INDEX)


def with_train_time(run_dir, leaf, seconds):
    path = RunPaths(run_dir).leaf(leaf).metrics
    (row,) = files.read_rows(path, schemas.METRICS)
    files.write_rows(path, [row | {"train_time_s": seconds}], schemas.METRICS)


def test_hours_left_are_those_of_comparable_trials_alone(run_dir):
    lines = status_text(run_dir).splitlines()
    left = "about 0.03 left for 2 of 5 unfinished, the others have no comparable trial"
    assert f"0.02 CPU-hours used by 1 finished trial, {left}" in lines
    with_times(run_dir, wall_time_s=7200.0, device="NVIDIA H100")
    RunPaths(run_dir).experiment.write_text("resources: {trials_per_gpu: 4}\ntraining: {threads: 1}\n")
    assert "0.50 GPU-hours used by 1 finished trial, about 1.00 left for 2 of 5 unfinished" in status_text(run_dir)
    RunPaths(run_dir).experiment.write_text("resources: {trials_per_gpu: auto}\ntraining: {threads: 1}\n")
    assert "0.50 GPU-hours used" in status_text(run_dir)  # of a run from before rows said how many shared a GPU
    with_times(run_dir, trials_per_gpu=2)
    assert "1.00 GPU-hours used by 1 finished trial, about 2.00 left for 2 of 5 unfinished" in status_text(run_dir)


def test_trials_of_other_numbers_of_epochs_lend_their_time_scaled(tmp_path):
    configs = {"a": {"training.epochs": 5, "training.learning_rate": 0.1}, "b": {"training.epochs": 40}}
    run_dir = FakeRun(tmp_path / "r").plan(["brick"], [0], configs).finish("a", "brick", 0).write()
    with_times(run_dir, wall_time_s=3600.0)
    (line,) = [line for line in status_text(run_dir).splitlines() if "CPU-hours" in line]
    assert line.endswith("; no comparable trial has finished, so the time of 1 unfinished is unknown")
    with_train_time(run_dir, "a/normal_brick/it_0", 1800.0)
    text = status_text(run_dir)
    assert "about 4.50 left for 1 unfinished\n" in text  # half an hour, and half an hour eight times
    assert "training scaled to their number of epochs" in text


def test_a_trial_that_resumed_lends_no_time(tmp_path):
    run_dir = FakeRun(tmp_path / "r").plan(["brick"], [0, 1]).finish("", "brick", 0).write()
    assert "about 0.02 left for 1 unfinished" in status_text(run_dir)
    with_times(run_dir, attempt=2)
    assert "so the time of 1 unfinished is unknown" in status_text(run_dir)


def test_what_a_running_trial_has_done_is_not_left(tmp_path):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0, 1]).finish("", "brick", 0)
    run_dir = run.write()
    with_times(run_dir, wall_time_s=7200.0)
    assert "about 2.00 left for 1 unfinished" in status_text(run_dir)
    now = dt.datetime.now(dt.UTC).isoformat()
    trial = {"trial_id": run.planned[1]["trial_id"], "config": "", "normal_class": "brick", "seed": 1, "epoch": 3,
             "epochs": 4, "loss": 0.5}  # fmt: skip
    RunPaths(run_dir).progress.write_text(json.dumps(progress(written=now, running=1, trials=[trial])))
    assert "about 0.50 left for 1 unfinished" in status_text(run_dir)


def test_watching_shows_it_again_until_the_sweep_has_ended(run_dir):
    shown, naps = [], []
    now = dt.datetime.now(dt.UTC).isoformat()

    def nap(seconds):
        naps.append(seconds)
        state = "running" if len(naps) < 3 else "ended"
        RunPaths(run_dir).progress.write_text(json.dumps(progress(written=now, state=state)))

    RunPaths(run_dir).progress.write_text(json.dumps(progress(written=now)))
    watch(run_dir, 2.0, lambda text: shown.append(text) is None, sleep=nap)
    assert naps == [2.0] * 3 and len(shown) == 4
    assert "running on head" in shown[0] and "no sweep is running" in shown[-1]


def test_watching_from_the_command_line_leaves_when_nothing_runs(run_dir, capsys):
    assert cli.main(["status", str(run_dir), "--watch", "1"]) == 0
    RunPaths(run_dir).progress.write_text(json.dumps(progress(written="2026-01-02T11:48:00+00:00")))
    assert cli.main(["status", str(run_dir), "--watch"]) == 0
    assert "has not updated its progress for" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["status", str(run_dir), "--watch", "soon"])
    assert "at least 0.5" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", "[1]"])
def test_a_damaged_file_is_no_reason_to_show_nothing(run_dir, text):
    RunPaths(run_dir).progress.write_text(text)
    text = status_text(run_dir)
    assert text.startswith("config") and text.splitlines()[-1].startswith("progress.json is damaged: ")


def _metrics_of_another(path):
    rows = files.read_rows(path, schemas.METRICS)
    files.write_rows(path, [row | {"trial_id": "another"} for row in rows], schemas.METRICS)


@pytest.mark.parametrize(
    "spoil",
    [_metrics_of_another, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(path.read_bytes()[:-9])],
)
def test_a_leaf_whose_metrics_are_of_another_trial_or_damaged_counts_as_missing(tmp_path, spoil):
    run = FakeRun(tmp_path / "r").plan(["brick"], [0, 1]).finish("", "brick", 0).finish("", "brick", 1).write()
    assert "used by 2 finished trials" in status_text(run)
    spoil(run / "normal_brick/it_1" / tree.METRICS)
    plain = run / "normal_brick/it_0" / tree.METRICS
    pq.write_table(files.read_table(plain), plain, write_statistics=False)  # as another program may write it
    text = status_text(run)
    (total,) = [line.split() for line in text.splitlines() if line.startswith("all ")]
    assert total == ["all", "2", "1", "0", "1"] and "used by 1 finished trial," in text
