"""The runner on a real local Ray."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.schema import Faults, Resources
from fcdd_sweep.results import tree
from fcdd_sweep.sweep.tune import TuneRunner
from tests import works
from tests.specs import spec

pytestmark = pytest.mark.ray


class Recording:
    """A monitor that writes down what it hears."""

    def __init__(self):
        self.begun, self.epochs, self.results = [], [], {}
        self.terminal = threading.RLock()  # like a console's: it cannot be pickled

    def started(self, spec):
        self.begun.append(spec.trial_id)

    def epoch_done(self, spec, epoch, epochs, loss):
        self.epochs.append((spec.trial_id, epoch, epochs, loss))

    def ended(self, spec, result):
        assert spec.trial_id not in self.results
        self.results[spec.trial_id] = result


def run(work, specs, run_dir, **faults):
    monitor = Recording()
    TuneRunner(Resources(device="cpu"), Faults(**faults))(specs, run_dir, monitor, work)
    return monitor


def left_behind():
    """Processes of Ray that belong to a sweep's scratch folder."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if "fcdd-ray-" in line]


def test_every_trial_runs_once_and_nothing_is_left(tmp_path):
    before, home = dict(os.environ), Path.home() / ".ray"
    had_home = home.exists()
    specs = [spec(seed=seed) for seed in range(4)]
    monitor = run(works.empty, specs, tmp_path)
    assert {each.trial_id for each in specs} == set(monitor.results) == set(monitor.begun)
    assert all(result.status == "done" and result.image_auroc == 0.5 for result in monitor.results.values())
    assert left_behind() == []
    assert dict(os.environ) == before
    assert home.exists() == had_home
    assert list(tmp_path.iterdir()) == []


def test_epochs_are_heard_while_a_trial_runs(tmp_path):
    only = spec()
    monitor = run(works.telling, [only], tmp_path)
    assert [(trial, epoch, epochs) for trial, epoch, epochs, _ in monitor.epochs] == [
        (only.trial_id, epoch, 3) for epoch in (1, 2, 3)
    ]


def test_a_lost_worker_is_started_again(tmp_path):
    specs = [spec(seed=seed) for seed in range(3)]
    monitor = run(works.dying_once, specs, tmp_path, retries=2)
    assert [monitor.results[each.trial_id].status for each in specs] == ["done"] * 3
    assert monitor.results[specs[1].trial_id].attempt == 2


def test_a_trial_that_loses_every_worker_fails_alone_and_keeps_the_evidence(tmp_path):
    specs = [spec(seed=seed) for seed in range(3)]
    monitor = run(works.dying_always, specs, tmp_path, retries=1)
    assert [monitor.results[each.trial_id].status for each in specs] == ["done", "failed", "done"]
    lost = monitor.results[specs[1].trial_id]
    assert lost.error.startswith("worker lost 2 times")
    error = tree.attempts_of(tmp_path, lost.trial_id) / str(lost.attempt) / tree.ERROR
    assert error.read_text().count("worker process has died") == 2


def test_more_cores_than_there_are_is_refused_before_anything_waits(tmp_path):
    with pytest.raises(InputError, match=r"resources.cpus: a trial asks for 999 CPU cores, this machine has \d+"):
        TuneRunner(Resources(cpus=999.0))([spec()], tmp_path, Recording(), works.empty)
    assert left_behind() == []


def test_a_gpu_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match="resources.device: found 'cuda', but Ray sees no GPU"):
        TuneRunner(Resources(device="cuda"))([spec()], tmp_path, Recording(), works.empty)
