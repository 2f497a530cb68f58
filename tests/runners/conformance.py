"""What every runner promises, as tests that each of them inherits: `class TestX(RunnerConformance)` with a `runner`."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from fcdd_sweep.config.schema import Faults
from fcdd_sweep.runners.events import AttemptRetried, EpochDone, TrialEnded, TrialStarted, ValidationMeasured
from fcdd_sweep.runners.stop_signal import StopSignal
from tests import works
from tests.events import Recorder
from tests.specs import spec


class Feeding(Recorder):
    """A search in small: a source of trials that makes the next ones when others have ended.

    Attributes:
        slots: given to `begin`, once.
    """

    def __init__(self, specs, *, unwanted_after_start=()):
        super().__init__()
        self.examples, self._waiting = specs, list(specs)
        self._unwanted, self._to_stop = set(), set(unwanted_after_start)
        self._running = 0
        self.slots, self.supplied = None, []

    def begin(self, slots):
        assert self.slots is None
        self.slots = slots

    def more(self):
        assert self.slots is not None
        if self._running or not self._waiting:
            return ()
        chosen, self._waiting = self._waiting[:2], self._waiting[2:]
        self._running += len(chosen)
        self.supplied.append([each.trial_id for each in chosen])
        return chosen

    def unwanted(self, trial_id):
        return trial_id in self._unwanted

    def handle(self, event):
        super().handle(event)
        match event:
            case TrialStarted(started) if started.trial_id in self._to_stop:
                self._unwanted.add(started.trial_id)
            case TrialEnded():
                self._running -= 1


class StopAtFirst(Recorder):
    """Requests a stop, `times` times, when the first trial starts."""

    def __init__(self, times=1):
        super().__init__()
        self.stop, self._times = StopSignal(), times

    def handle(self, event):
        super().handle(event)
        if isinstance(event, TrialStarted) and not self.stop.asked:
            for _ in range(self._times):
                self.stop.ask()


class StoppingConformance:
    """Tests of how a runner stops; subclasses define the fixture `runner`: from `Faults` and keywords to a `Runner`."""

    def test_an_unwanted_trial_is_stopped_or_does_not_start_and_the_others_run(self, runner, tmp_path):
        specs = [spec(seed=seed) for seed in (works.WAITING, 1, 2)]
        source = Feeding(specs, unwanted_after_start=[specs[0].trial_id])
        runner(Faults())(source, tmp_path, source, works.waiting_if_seed_says, StopSignal())
        statuses = {trial_id: result.status for trial_id, result in source.ended.items()}
        assert statuses == {specs[0].trial_id: "stopped", specs[1].trial_id: "done", specs[2].trial_id: "done"}

    def test_a_stop_lets_running_trials_save_themselves_and_starts_no_others(self, runner, tmp_path):
        specs, recorder = [spec(seed=seed) for seed in range(30)], StopAtFirst()
        runner(Faults())(specs, tmp_path, recorder, works.waiting_to_be_stopped, recorder.stop)
        assert recorder.ended and {result.status for result in recorder.ended.values()} == {"stopped"}
        assert set(recorder.ended) == set(recorder.started_ids) and len(recorder.ended) < 10


class RunnerConformance(StoppingConformance):
    """All tests of a runner."""

    smaller_packs = 0
    """Attempts of a trial that always runs out of memory before it is alone."""

    def test_all_trials_run_and_each_ends_once(self, runner, tmp_path):
        specs, recorder = [spec(seed=seed) for seed in range(5)], Recorder()
        runner(Faults())(specs, tmp_path, recorder, works.empty, StopSignal())
        assert Counter(recorder.started_ids) == Counter(each.trial_id for each in specs)
        assert {trial_id: result.status for trial_id, result in recorder.ended.items()} == dict.fromkeys(
            (each.trial_id for each in specs), "done"
        )
        assert all(result.image_auroc == 0.5 for result in recorder.ended.values())
        assert recorder.retried == []

    def test_failures_are_retried_by_policy_and_counted(self, runner, tmp_path):
        specs, recorder = [spec(seed=seed) for seed in works.FAILING_SEEDS], Recorder()
        runner(Faults(retries=2))(specs, tmp_path, recorder, works.failing_by_seed, StopSignal())
        attempts = Counter(recorder.started_ids)
        lost, broken, short, preempted = specs
        assert {recorder.ended[each.trial_id].kind for each in specs[:3]} == {"worker_lost", "error", "out_of_memory"}
        assert (attempts[lost.trial_id], attempts[broken.trial_id]) == (3, 1)
        assert attempts[short.trial_id] == 3 + self.smaller_packs
        assert (recorder.ended[preempted.trial_id].status, attempts[preempted.trial_id]) == ("done", 5)
        decisions = Counter((trial_id, decision) for trial_id, _, decision in recorder.retried)
        smaller = {(short.trial_id, "retrying with fewer trials in a pack"): self.smaller_packs}
        assert decisions == Counter(smaller) + Counter(
            {
                (lost.trial_id, "retrying"): 2,
                (short.trial_id, "retrying with 2 times the resources"): 1,
                (short.trial_id, "retrying with 4 times the resources"): 1,
                (preempted.trial_id, "retrying"): 4,
            }
        )

    def test_no_trials_are_no_error(self, runner, tmp_path):
        source = Feeding([spec()])
        source.more = lambda: ()
        runner(Faults())(source, tmp_path, source, works.empty, StopSignal())
        assert source.events == []

    def test_a_trial_fails_no_more_often_than_it_may_over_all_starts(self, runner, tmp_path):
        recorder = Recorder()
        only = spec(seed=works.FAILING_SEEDS[0])
        run = runner(Faults(retries=5), failures_left=lambda trial_id: 2 - len(recorder.retried))
        run([only], tmp_path, recorder, works.failing_by_seed, StopSignal())
        assert len(recorder.retried) == 1 and recorder.ended[only.trial_id].status == "failed"

    def test_events_of_a_trial_come_in_order_from_one_thread(self, runner, tmp_path):
        threads = set()

        class Threads(Recorder):
            def handle(self, event):
                threads.add(threading.current_thread())
                super().handle(event)

        recorder, only = Threads(), spec()
        runner(Faults())([only], tmp_path, recorder, works.measured_by_epochs, StopSignal())
        kinds = [type(event) for event in recorder.events]
        assert kinds[0] is TrialStarted and kinds[-1] is TrialEnded and AttemptRetried not in kinds
        assert set(kinds[1:-1]) == {EpochDone, ValidationMeasured}
        epochs = [(event.epoch, event.epochs, event.loss) for event in recorder.of(EpochDone)]
        assert epochs == sorted(set(epochs)) and set(epochs) <= set(works.EPOCHS)  # some may be left out
        measured = {}
        for event in recorder.of(ValidationMeasured):
            measured |= event.aurocs
        assert measured == {epoch: works.MEASURED[epoch] for epoch in measured} and measured
        assert {event.spec.trial_id for event in recorder.events} == {only.trial_id}
        assert threads == {threading.main_thread()}

    def test_trials_are_fed_by_a_source_as_others_end(self, runner, tmp_path):
        specs = [spec(seed=seed) for seed in range(5)]
        source = Feeding(specs)
        runner(Faults())(source, tmp_path, source, works.empty, StopSignal())
        ids = [each.trial_id for each in specs]
        assert source.supplied == [ids[:2], ids[2:4], ids[4:]] and source.slots >= 1
        assert set(source.ended) == set(ids)

    def test_a_second_stop_ends_at_once(self, runner, tmp_path):
        recorder = StopAtFirst(times=2)
        with pytest.raises(KeyboardInterrupt):
            runner(Faults())([spec()], tmp_path, recorder, works.waiting_to_be_stopped, recorder.stop)
        assert recorder.of(TrialEnded) == []
