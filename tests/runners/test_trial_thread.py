"""A trial in a thread: its epochs, its end, its stop, and how long it has stood still."""

from __future__ import annotations

import threading
import time

import pytest

from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.runners.trial_thread import EpochUpdate, TrialGroup, TrialThread
from fcdd_sweep.training.result import EpochRecord
from tests.specs import spec

SPEC = spec()


def record(epoch, auroc=float("nan")):
    return EpochRecord(epoch, 0.5, 0.4, 0.6, 0.01, 100.0, auroc)


def ended(thread):
    while not isinstance(update := thread.wait(5), TrialResult):
        assert update is not None
    return update


def test_an_error_that_a_work_raises_is_a_failed_result_with_its_stack(tmp_path):
    def work(trial, run_dir, observer):
        raise ValueError("the disk is on fire")

    result = ended(TrialThread(work, SPEC, tmp_path))
    assert (result.status, result.kind) == (TrialStatus.FAILED, "error")
    assert result.error == "ValueError: the disk is on fire" and "in work" in result.traceback


def test_the_newest_epoch_is_returned_once_with_all_aurocs_of_the_attempt(tmp_path):
    go_on, seen = threading.Event(), threading.Event()

    def work(trial, run_dir, observer):
        for epoch, auroc in ((1, 0.5), (2, float("nan")), (3, 0.75)):
            observer.epoch_done(record(epoch, auroc), 4)
        seen.set()
        go_on.wait(10)
        return TrialResult(trial.trial_id, TrialStatus.DONE, 1)

    thread = TrialThread(work, SPEC, tmp_path)
    assert seen.wait(10)
    assert thread.wait(0.01) == EpochUpdate(3, 4, 0.5, ((1, 0.5), (3, 0.75)))
    assert thread.wait(0.01) is None
    go_on.set()
    assert ended(thread).status == TrialStatus.DONE
    assert thread.stalled_s == 0.0


def test_a_stop_reaches_the_trial_at_its_next_step(tmp_path):
    def work(trial, run_dir, observer):
        while not observer.stop_asked():
            time.sleep(0.01)
        return TrialResult(trial.trial_id, TrialStatus.STOPPED, 1)

    thread = TrialThread(work, SPEC, tmp_path)
    thread.ask_to_stop()
    assert ended(thread).status == TrialStatus.STOPPED


def test_a_trial_without_a_step_stands_still_and_its_stack_says_where(tmp_path):
    go_on = threading.Event()

    def stuck(trial, run_dir, observer):
        go_on.wait(10)
        return TrialResult(trial.trial_id, TrialStatus.DONE, 1)

    thread = TrialThread(stuck, SPEC, tmp_path)
    time.sleep(0.2)
    assert thread.stalled_s == pytest.approx(0.2, abs=0.15) and "in stuck" in thread.stack()
    go_on.set()
    ended(thread)


def test_a_group_hangs_when_all_that_run_stand_still_since_they_wait_for_one_another(tmp_path):
    specs, go_on = [spec(seed=seed) for seed in range(3)], threading.Event()

    def work(each, run_dir, observer):
        while each.seed == 1 and not go_on.wait(0.01):
            observer.stop_asked()
        while each.seed and not go_on.wait(0.01):
            pass
        return TrialResult(each.trial_id, TrialStatus.DONE, 1)

    group = TrialGroup(work, specs, tmp_path)
    assert [*group.wait(30)[0]] == [specs[0].trial_id]
    time.sleep(0.3)
    assert group.hung(0.2) == [] and len(group.running) == 2  # one of them takes steps
    time.sleep(0.05)
    assert {result.trial_id for result in group.hung(-1)} == {each.trial_id for each in specs[1:]}
    assert not group.running and not group.stalled(-1)
    go_on.set()


def test_a_group_returns_results_as_they_come_and_the_newest_epoch_of_each(tmp_path):
    specs, go = [spec(seed=seed) for seed in range(2)], threading.Event()

    def work(each, run_dir, observer):
        for epoch in (1, 2):
            observer.epoch_done(EpochRecord(epoch, 1.0 / epoch, 0.0, 0.0, 0.1, 1.0), 9)
        if each.seed:
            assert go.wait(30)
            return TrialResult(each.trial_id, "stopped" if observer.stop_asked() else "done", 1)
        return TrialResult(each.trial_id, "done", 1)

    group = TrialGroup(work, specs, tmp_path)
    results, updates = group.wait(30)
    assert [*results] == [specs[0].trial_id] and updates == {}
    results, updates = group.wait(0.05)
    assert results == {} and updates[specs[1].trial_id].epoch == 2
    assert group.wait(0.05) == ({}, {})
    group.ask_to_stop(specs[0].trial_id)
    group.ask_to_stop(specs[1].trial_id)
    go.set()
    results, _ = group.wait(30)
    assert results[specs[1].trial_id].status == "stopped" and not group.running
