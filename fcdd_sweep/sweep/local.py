"""One trial after the other in this process: for debugging, for tests, and where Ray cannot run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from fcdd_sweep.config.schema import Faults
from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.results.place import Place
from fcdd_sweep.sweep.monitor import Monitor, Work
from fcdd_sweep.sweep.queue import JobQueue, endless, told
from fcdd_sweep.sweep.source import Source, Trials
from fcdd_sweep.sweep.stopping import Stop
from fcdd_sweep.training.outcome import EpochRecord

_NAP_S = 0.1


@dataclass(frozen=True)
class _Passing:
    """Passes a trial's epochs on to the driver's monitor."""

    spec: TrialSpec
    monitor: Monitor
    stop: Stop
    source: Source

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        self.monitor.epoch_done(self.spec, record.epoch, epochs, record.loss)
        if not math.isnan(record.validation_image_auroc):
            self.monitor.measured(self.spec, {record.epoch: record.validation_image_auroc})

    def stop_asked(self) -> bool:
        return self.stop.asked or self.source.unwanted(self.spec.trial_id)


@dataclass(frozen=True)
class LocalRunner:
    """See `sweep.monitor.Runner`. A trial that hangs, hangs all: there is nobody to watch it."""

    faults: Faults
    failures_left: Callable[[str], float] = endless

    def __call__(self, trials: Trials, run_dir: Place, monitor: Monitor, work: Work, stop: Stop) -> None:
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
                    monitor.retried(job.spec, result, told(again, job))
                else:
                    monitor.ended(job.spec, result)
