"""One attempt at a trial: what is left of it in the process when it has ended, and what is recorded of a failure."""

import datetime as dt
import weakref

import pytest
import torch

from fcdd_sweep.results.schemas import METRICS
from fcdd_sweep.sweep import trial
from fcdd_sweep.sweep.trial import run_trial
from fcdd_sweep.sweep.trial_rows import finished_result
from fcdd_sweep.training.result import TrainingResult
from tests.specs import spec
from tests.works import SILENT


class Gpu:
    """Stands in for the functions of `torch.cuda` that concern memory.

    Attributes:
        broken: whether every call fails.
        alive: at each release, whether the tensors of the trial were still held.
    """

    def __init__(self, patch):
        self.broken, self.alive, self.tensor = False, [], lambda: None
        patch.setattr(trial, "fingerprint_of", lambda made: "f" * 12)
        patch.setattr(trial, "_train", self._train)
        for name in ("is_initialized", "synchronize", "empty_cache"):
            patch.setattr(torch.cuda, name, getattr(self, name))

    def _train(self, *arguments):
        activations = torch.ones(3)
        circle = [activations]
        circle.append(circle)
        self.tensor = weakref.ref(activations)
        self.run(activations)

    def run(self, activations):
        raise MemoryError

    def is_initialized(self):
        return True

    def synchronize(self):
        if self.broken:
            raise RuntimeError("CUDA error: unspecified launch failure")

    def empty_cache(self):
        self.synchronize()
        self.alive.append(self.tensor() is not None)


@pytest.fixture
def gpu(monkeypatch):
    return Gpu(monkeypatch)


def test_nothing_holds_the_tensors_of_a_failed_trial_when_its_memory_is_given_back(gpu, tmp_path):
    result = run_trial(spec(), tmp_path, SILENT)
    assert (result.kind, result.error) == ("out_of_memory", "MemoryError")
    assert "activations" in result.traceback
    assert gpu.alive == [False]


def test_memory_is_given_back_after_a_trial_that_was_stopped(gpu, tmp_path):
    def stop(activations):
        raise trial.Stopped("stopped after epoch 1")

    gpu.run = stop
    assert run_trial(spec(), tmp_path, SILENT).status == "stopped"
    assert gpu.alive == [False]


@pytest.mark.parametrize("error", [RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), MemoryError()])
def test_a_failure_on_a_gpu_that_does_not_work_any_more_is_one_of_the_gpu(gpu, tmp_path, error):
    def fail(activations):
        gpu.broken = True
        raise error

    gpu.run = fail
    result = run_trial(spec(), tmp_path, SILENT)
    assert (result.status, result.kind) == ("failed", "gpu_failed")
    assert str(error) in result.error


def test_the_line_that_says_what_happened_is_recorded(gpu, tmp_path):
    def fail(activations):
        raise RuntimeError("CUDA error: device-side assert triggered\nFor debugging consider passing X=1\n")

    gpu.run = fail
    result = run_trial(spec(), tmp_path, SILENT)
    assert result.error == "RuntimeError: CUDA error: device-side assert triggered"
    assert "For debugging" in result.traceback


def test_a_row_says_how_many_trials_shared_the_gpu(monkeypatch):
    result = TrainingResult([], {}, {}, {}, {}, {}, {}, [])
    monkeypatch.setattr(trial, "fingerprint_of", lambda made: "f" * 12)
    for device, made, sharing in (
        ("cpu", spec(), None),
        ("cpu", spec().sharing_gpu(3), None),
        ("cuda", spec().sharing_gpu(3), 3),
        ("cuda", spec(), 1),  # without a runner that divides it
    ):
        monkeypatch.setattr(trial, "choose_device", lambda wanted, device=device: torch.device(device))
        row = trial.metrics_row(made, 1, result, dt.datetime.now(dt.UTC), 1.0)
        assert row["trials_per_gpu"] == sharing
        assert finished_result({**dict.fromkeys(METRICS.names), **row}, 1).trials_per_gpu == sharing
