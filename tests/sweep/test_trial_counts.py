"""The time left of a sweep, on a clock that tests move."""

import pytest

from fcdd_sweep.runners.events import AttemptRetried, EpochDone, SweepStarted, TrialEnded, TrialStarted
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.trial_counts import TrialCounts
from tests.specs import spec


class Sweep:
    """Counts whose events come at given seconds."""

    def __init__(self, monkeypatch, trials, epochs=10):
        self.now = 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        self.specs = [spec(seed=seed, training={"epochs": epochs}) for seed in range(trials)]
        self.counts = TrialCounts()
        self.at(0, SweepStarted(trials, 0, trials))

    def at(self, now, event):
        self.now = now
        self.counts = self.counts.after(event)
        if isinstance(event, SweepStarted):
            self.counts.since = now

    def start(self, now, number):
        self.at(now, TrialStarted(self.specs[number]))

    def epoch(self, now, number, epoch):
        which = self.specs[number]
        self.at(now, EpochDone(which, epoch, which.settings.training.epochs, 0.5))

    def end(self, now, number, status="done", attempt=1):
        which = self.specs[number]
        self.at(now, TrialEnded(which, TrialResult(which.trial_id, status, attempt, image_auroc=0.9)))

    @property
    def left(self):
        return self.counts.eta_s()


@pytest.fixture
def sweep(monkeypatch):
    return lambda *args, **options: Sweep(monkeypatch, *args, **options)


def test_the_time_left_is_that_of_all_models_of_a_trial(sweep):
    one = sweep(1, epochs=10)
    one.specs = [spec(training={"epochs": 10}, evaluation={"calibration": "cross", "folds": 4})]
    one.start(0, 0)
    one.epoch(5, 0, 1)
    one.epoch(7, 0, 2)
    assert one.left == pytest.approx(38 * 2) and one.counts.running[one.specs[0].trial_id].epoch == 2


def test_the_start_up_of_the_first_trial_is_not_taken_for_the_pace_of_all(sweep):
    one = sweep(1, epochs=40)
    one.start(0, 0)
    assert one.left is None
    one.epoch(60, 0, 1)  # a minute of start-up, 2 s of training
    assert one.left is None
    one.epoch(62, 0, 2)
    assert one.left == pytest.approx(38 * 2)


def test_trials_that_run_at_once_share_what_is_left(sweep):
    four = sweep(4)
    for number in (0, 1):
        four.start(0, number)
        four.epoch(1, number, 1)
        four.epoch(2, number, 2)
    assert four.left == pytest.approx(8 + 10)  # 8 s of the running ones, then two at once


def test_the_longest_running_trial_bounds_the_time_left(sweep):
    two = sweep(2)
    two.start(0, 0)
    two.start(0, 1)
    two.epoch(1, 0, 1)
    two.epoch(6, 0, 6)
    two.epoch(1, 1, 1)
    two.epoch(6, 1, 2)
    assert two.left == pytest.approx(8 * 5)


def test_epochs_of_an_earlier_start_are_not_taken_for_speed(sweep):
    one = sweep(1)
    one.start(0, 0)
    one.epoch(10, 0, 6)  # resumed after epoch 5
    one.epoch(20, 0, 7)
    assert one.left == pytest.approx(30)


def test_what_a_finished_trial_took_besides_its_epochs_is_expected_of_the_others(sweep):
    two = sweep(2)
    two.start(0, 0)
    two.epoch(3, 0, 1)
    two.epoch(12, 0, 10)
    two.end(17, 0)  # 10 s of epochs, 2 before and 5 after them
    assert two.left == pytest.approx(17)
    two.start(17, 1)
    two.epoch(20, 1, 1)
    two.epoch(29, 1, 10)
    assert two.left == pytest.approx(5)


def test_trials_that_report_no_epoch_in_time_count_whole(sweep):
    three = sweep(3)
    three.start(0, 0)
    three.end(4, 0)
    assert three.left == pytest.approx(8)


def test_a_trial_that_waits_with_more_epochs_takes_longer(sweep):
    short, long = spec(training={"epochs": 5}), spec(training={"epochs": 40})
    two = sweep(0)
    two.at(0, SweepStarted(2, 0, 2, 45))
    two.specs = [short, long]
    two.start(0, 0)
    two.epoch(1, 0, 1)
    two.epoch(5, 0, 5)
    two.end(5, 0)
    assert two.left == pytest.approx(40)


def test_a_trial_that_is_retried_waits_again(sweep):
    one = sweep(1)
    one.start(0, 0)
    one.epoch(1, 0, 1)
    one.epoch(3, 0, 3)
    one.at(3, AttemptRetried(one.specs[0], TrialResult(one.specs[0].trial_id, "failed", 1, "x"), "retrying"))
    assert one.left == pytest.approx(10)


def test_a_resumed_trial_does_not_shorten_what_the_others_need(sweep):
    two = sweep(2)
    two.start(0, 0)
    two.epoch(1, 0, 9)
    two.epoch(2, 0, 10)
    two.end(2, 0, attempt=2)
    assert two.left == pytest.approx(10)


def test_a_trial_that_nobody_wants_any_more_is_not_waited_for(sweep):
    two = sweep(2)
    for number in (0, 1):
        two.start(0, number)
        two.epoch(1, number, 1)
        two.epoch(2, number, 2)
    two.end(2, 0, status="stopped")
    assert two.left == pytest.approx(8)


def test_many_waiting_trials_are_estimated_at_once(sweep):
    many = sweep(5000)
    many.start(0, 0)
    many.end(2, 0)
    assert many.left == pytest.approx(4999 * 2)
