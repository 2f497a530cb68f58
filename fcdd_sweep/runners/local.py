"""One trial after the other in this process: for debugging, for tests, and where Ray cannot run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from fcdd_sweep.config.schema import Faults
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import Monitor, Work
from fcdd_sweep.runners.queue import JobQueue, Trials, TrialSource, no_failure_limit, retry_text
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.training.result import EpochRecord

_NAP_S = 0.1


@dataclass(frozen=True)
class _Passing:
    """Passes a trial's epochs on to the driver's monitor."""

    spec: TrialSpec
    monitor: Monitor
    stop: StopSignal
    source: TrialSource

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        self.monitor.epoch_done(self.spec, record.epoch, epochs, record.loss)
        if not math.isnan(record.validation_image_auroc):
            self.monitor.measured(self.spec, {record.epoch: record.validation_image_auroc})

    def stop_asked(self) -> bool:
        return self.stop.asked or self.source.unwanted(self.spec.trial_id)


@dataclass(frozen=True)
class LocalRunner:
    """See `runners.events.Runner`. A trial that hangs, hangs all: there is nobody to watch it."""

    faults: Faults
    failures_left: Callable[[str], float] = no_failure_limit

    def __call__(self, trials: Trials, run_dir: Location, monitor: Monitor, work: Work, stop: StopSignal) -> None:
        queue = JobQueue(trials, self.faults.retries, failures_left=self.failures_left)
        queue.source.begin(slots=1)
        with stop.listening():
            while not queue.empty and not stop.asked:
                job = queue.next()
                if job is None:
                    time.sleep(_NAP_S)  # a retry waits
                    continue
                monitor.started(job.spec)
                result = work(job.spec, run_dir, _Passing(job.spec, monitor, stop, queue.source))
                again = queue.ended(result)
                if again is not None:
                    monitor.retried(job.spec, result, retry_text(again, job))
                else:
                    monitor.ended(job.spec, result)
