"""Several that hear of a sweep at once: what it shows, its `progress.json`, trackers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.sweep.monitor import Progress
from fcdd_sweep.sweep.trial import TrialResult


class Together(Progress):
    """Tells the first, then the others. One of the others that fails is told of once and hears no more."""

    def __init__(self, first: Progress, others: Sequence[Progress]) -> None:
        self._first, self._others = first, list(others)

    def begun(self, planned: int, kept: int, missing: int) -> None:
        self._first.begun(planned, kept, missing)
        self._tell(lambda other: other.begun(planned, kept, missing))

    def stopped(self) -> None:
        self._first.stopped()
        self._tell(lambda other: other.stopped())

    def said(self, sentence: str) -> None:
        self._first.said(sentence)

    def started(self, spec: TrialSpec) -> None:
        self._first.started(spec)
        self._tell(lambda other: other.started(spec))

    def epoch_done(self, spec: TrialSpec, epoch: int, epochs: int, loss: float) -> None:
        self._first.epoch_done(spec, epoch, epochs, loss)
        self._tell(lambda other: other.epoch_done(spec, epoch, epochs, loss))

    def retried(self, spec: TrialSpec, result: TrialResult, decision: str) -> None:
        self._first.retried(spec, result, decision)
        self._tell(lambda other: other.retried(spec, result, decision))

    def ended(self, spec: TrialSpec, result: TrialResult) -> None:
        self._first.ended(spec, result)
        self._tell(lambda other: other.ended(spec, result))

    def _tell(self, event: Callable[[Progress], None]) -> None:
        for other in list(self._others):
            try:
                event(other)
            except Exception as error:  # to be seen is not worth a sweep
                self._others.remove(other)
                self._first.said(f"{type(other).__name__} failed and hears no more: {error}")
