"""The runner in this process."""

import pytest

from fcdd_sweep.config.schema import Faults
from fcdd_sweep.runners import failures
from fcdd_sweep.runners.local import LocalRunner
from fcdd_sweep.runners.stop_signal import StopSignal
from tests import works
from tests.events import Recorder
from tests.runners.conformance import RunnerConformance
from tests.specs import spec


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(failures, "MAX_WAIT_S", 0.05)


class TestLocalRunner(RunnerConformance):
    @pytest.fixture
    def runner(self):
        return LocalRunner


def test_after_a_failure_of_the_gpu_this_process_starts_no_further_trial(tmp_path):
    specs, recorder = [spec(seed=seed) for seed in range(3)], Recorder()
    LocalRunner(Faults())(specs, tmp_path, recorder, works.breaking_its_gpu_once, StopSignal())
    assert recorder.started_ids == [specs[0].trial_id]
    ((_, result, decision),) = recorder.retried
    assert (result.kind, decision) == ("gpu_failed", "the next start runs it again")
    assert any("rerun the same command" in text for text in recorder.messages)
