"""The runner in this process."""

import functools
import threading

import pytest

from fcdd_sweep.config.schema import Faults
from fcdd_sweep.runners import failures
from fcdd_sweep.runners.local import LocalRunner
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_result import TrialResult
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


class TestPacks(RunnerConformance):
    """The same promises where several trials run at once in this process."""

    @pytest.fixture
    def runner(self):
        return functools.partial(LocalRunner, pack=3)


def test_trials_of_a_pack_run_at_once_and_a_retry_runs_alone(tmp_path):
    specs, recorder = [spec(seed=seed) for seed in range(4)], Recorder()
    waiting = threading.Barrier(3, timeout=30)
    tried = []

    def meeting(each, run_dir, observer):
        tried.append(each.seed)
        if tried.count(each.seed) == 1 and each.seed < 3:
            waiting.wait()
        if each.seed == 1 and tried.count(1) == 1:
            return TrialResult(each.trial_id, "failed", 1, "its worker has died", kind="worker_lost")
        return TrialResult(each.trial_id, "done", tried.count(each.seed))

    LocalRunner(Faults(retries=1), pack=3)(specs, tmp_path, recorder, meeting, StopSignal())
    assert {result.status for result in recorder.ended.values()} == {"done"}
    assert recorder.ended[specs[1].trial_id].attempt == 2 and sorted(tried[:3]) == [0, 1, 2]


def test_after_a_failure_of_the_gpu_this_process_starts_no_further_trial(tmp_path):
    specs, recorder = [spec(seed=seed) for seed in range(3)], Recorder()
    LocalRunner(Faults())(specs, tmp_path, recorder, works.breaking_its_gpu_once, StopSignal())
    assert recorder.started_ids == [specs[0].trial_id]
    ((_, result, decision),) = recorder.retried
    assert (result.kind, decision) == ("gpu_failed", "the next start runs it again")
    assert any("rerun the same command" in text for text in recorder.messages)
