"""The runner without Ray: one trial, or one pack of them, after the other in this process; for debugging, tests and
small machines.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fcdd_sweep.config.schema import Faults
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import (
    AttemptRetried,
    EpochDone,
    EventSink,
    Message,
    TrialEnded,
    TrialStarted,
    ValidationMeasured,
    Work,
)
from fcdd_sweep.runners.failures import POLICIES
from fcdd_sweep.runners.queue import Job, JobQueue, Packing, Trials, TrialSource, no_failure_limit, retry_text
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.runners.trial_thread import TrialGroup
from fcdd_sweep.training.result import EpochRecord

_WAIT_FOR_RETRY_S = 0.1
_LOOK_EVERY_S = 0.2
_UNUSABLE = "this process can run no further trial after this failure; rerun the same command to run what is missing"


@dataclass(frozen=True)
class _EventObserver:
    """A trial's observer that turns its epochs into events."""

    spec: TrialSpec
    sink: EventSink
    stop: StopSignal
    source: TrialSource

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        self.sink.handle(EpochDone(self.spec, record.epoch, epochs, record.loss))
        if not math.isnan(record.validation_image_auroc):
            self.sink.handle(ValidationMeasured(self.spec, {record.epoch: record.validation_image_auroc}))

    def stop_asked(self) -> bool:
        return self.stop.asked or self.source.unwanted(self.spec.trial_id)


@dataclass(frozen=True)
class LocalRunner:
    """A `Runner` that works in this process. A trial that hangs blocks the sweep: nothing watches it.

    Attributes:
        faults: how often a trial is tried again.
        failures_left: see `JobQueue`.
        pack: how many trials are trained together, see `JobQueue.next_pack`.
    """

    faults: Faults
    failures_left: Callable[[str], float] = no_failure_limit
    pack: int = 1

    def __call__(self, trials: Trials, run_dir: Location, sink: EventSink, work: Work, stop: StopSignal) -> None:
        queue = JobQueue(trials, self.faults.retries, failures_left=self.failures_left)
        queue.source.begin(slots=1)
        with stop.listening():
            while not queue.empty and not stop.asked:
                jobs = queue.next_pack(Packing(self.pack))
                for job in jobs:
                    sink.handle(TrialStarted(job.spec))
                if not jobs:
                    time.sleep(_WAIT_FOR_RETRY_S)
                elif len(jobs) == 1:
                    (job,) = jobs
                    observer = _EventObserver(job.spec, sink, stop, queue.source)
                    _end(queue, sink, job, work(job.spec, run_dir, observer))
                else:
                    _run_together(queue, sink, jobs, TrialGroup(work, [job.spec for job in jobs], run_dir), stop)


def _run_together(queue: JobQueue, sink: EventSink, jobs: Sequence[Job], group: TrialGroup, stop: StopSignal) -> None:
    """Emit the events of trials in threads until all have ended."""
    of_trial = {job.spec.trial_id: job for job in jobs}
    while group.running:
        results, updates = group.wait(_LOOK_EVERY_S)
        for name, update in updates.items():
            sink.handle(EpochDone(of_trial[name].spec, update.epoch, update.epochs, update.loss))
            if update.aurocs:
                sink.handle(ValidationMeasured(of_trial[name].spec, dict(update.aurocs)))
        for name, result in results.items():
            _end(queue, sink, of_trial[name], result)
        for name in [name for name in group.running if stop.asked or queue.source.unwanted(name)]:
            group.ask_to_stop(name)


def _end(queue: JobQueue, sink: EventSink, job: Job, result: TrialResult) -> None:
    """Enter the result of an attempt, and emit what follows."""
    if result.kind is not None and POLICIES[result.kind].ends_worker and not queue.stopped:
        queue.stop()
        sink.handle(Message(_UNUSABLE))
    retry = queue.ended(result)
    if retry is not None:
        decision = "the next start runs it again" if queue.stopped else retry_text(retry, job)
        sink.handle(AttemptRetried(job.spec, result, decision))
    else:
        sink.handle(TrialEnded(job.spec, result))
