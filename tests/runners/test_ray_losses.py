"""Losses of Ray that Ray Tune does not handle."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from fcdd_sweep.config.schema import Faults, Resources
from fcdd_sweep.results.documents import read_progress
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners.ray_runner import RayRunner
from fcdd_sweep.runners.stop_signal import StopSignal
from tests import works
from tests.events import Recorder
from tests.specs import small_experiment, spec

pytestmark = [pytest.mark.ray, pytest.mark.long]


def test_a_worker_that_is_killed_for_memory_while_it_trains_is_retried_with_more_room(tmp_path, monkeypatch):
    """A worker takes memory until the machine has less left than Ray allows; not before its trial has begun."""
    total, available = works.memory_bytes()
    monkeypatch.setenv("RAY_memory_usage_threshold", str((total - available + works.FILLED_BYTES) / total))
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    specs, recorder = [spec(seed=seed) for seed in (works.FILLING_ONCE, 0)], Recorder()
    RayRunner(Resources(device="cpu", cpus=1.0), Faults())(
        specs, tmp_path, recorder, works.filling_memory, StopSignal()
    )
    assert {trial_id: result.status for trial_id, result in recorder.ended.items()} == {
        each.trial_id: "done" for each in specs
    }
    retried = {trial_id: (result.kind, result.error, decision) for trial_id, result, decision in recorder.retried}
    kind, error, decision = retried[specs[0].trial_id]
    assert (kind, decision) == ("out_of_memory", "retrying with 2 times the resources")
    assert "killed due to the node running low on memory" in error
    assert recorder.ended[specs[0].trial_id].attempt == 2


EXPERIMENT = small_experiment(
    """
training: {epochs: 100000, passes_per_epoch: 1, threads: 1}
faults: {checkpoint_every: 1 epochs}
keep: {pictures: none}
seeds: 1
""",
    classes='["3"]',
)


def raylet_of(driver):
    listed = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(driver)], capture_output=True, text=True).stdout
    (pid,) = (line.split()[0] for line in listed.splitlines() if line.split()[1] == "raylet")
    return int(pid)


def epochs_of(run, number):
    logs = run.attempts.glob(f"*/{number}/leaf/log.txt")
    return [int(epoch) for log in logs for epoch in re.findall(r"epoch (\d+)/", log.read_text())]


def wait_until(condition, program, seconds=120):
    limit = time.monotonic() + seconds
    while not condition():
        assert program.poll() is None and time.monotonic() < limit
        time.sleep(0.1)


def test_a_raylet_that_dies_is_noticed_soon_and_the_same_command_continues(tmp_path):
    (tmp_path / "small.yaml").write_text(EXPERIMENT)
    command = [sys.executable, "-m", "fcdd_sweep", str(tmp_path / "small.yaml"), "--output", str(tmp_path)]
    run = RunPaths(tmp_path / "small")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as started:
        wait_until(lambda: max(epochs_of(run, 1), default=0) >= 3, started)
        raylet = raylet_of(started.pid)
        os.kill(raylet, signal.SIGKILL)
        killed = time.monotonic()
        try:
            output, _ = started.communicate(timeout=30)
        finally:
            started.kill()
        took_s = time.monotonic() - killed
    assert started.returncode == 1 and took_s < 30, output
    (said,) = (line for line in output.splitlines() if line.startswith("error: "))
    assert f"(raylet, process {raylet}) has died" in said and "rerun the same command to continue" in said
    assert "Traceback" not in output
    assert read_progress(run.progress.parent).state == "interrupted"

    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as again:
        wait_until(lambda: epochs_of(run, 2), again)
        again.terminate()
    assert again.returncode == 130 and min(epochs_of(run, 2)) >= 3
