"""One trial after the other in this process: for debugging, for tests, and where Ray cannot run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.results.place import Place
from fcdd_sweep.sweep.monitor import Monitor, Work
from fcdd_sweep.training.outcome import EpochRecord


@dataclass(frozen=True)
class _Passing:
    """Passes a trial's epochs on to the driver's monitor."""

    spec: TrialSpec
    monitor: Monitor

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        self.monitor.epoch_done(self.spec, record.epoch, epochs, record.loss)

    def stop_asked(self) -> bool:
        return False


def run_in_process(specs: Sequence[TrialSpec], run_dir: Place, monitor: Monitor, work: Work) -> None:
    """See `sweep.monitor.Runner`."""
    for spec in specs:
        monitor.started(spec)
        monitor.ended(spec, work(spec, run_dir, _Passing(spec, monitor)))
