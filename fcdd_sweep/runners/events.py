"""What a runner tells the driver, and the runners' common shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.queue import Trials
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.training.result import Observer

Work = Callable[[TrialSpec, Location, Observer], TrialResult]
"""What a worker does with a trial; `sweep.trial.run_trial` outside of tests and benchmarks."""


class Monitor(Protocol):
    """Hears of trials while they run."""

    def started(self, spec: TrialSpec) -> None: ...

    def epoch_done(self, spec: TrialSpec, epoch: int, epochs: int, loss: float) -> None: ...

    def measured(self, spec: TrialSpec, measured: Mapping[int, float]) -> None:
        """AUROC over validation images after some epochs, where the trial was told to look; it may be told again."""

    def retried(self, spec: TrialSpec, result: TrialResult, decision: str) -> None:
        """An attempt ended without a result, and there will be another one; `decision` says when and how."""

    def ended(self, spec: TrialSpec, result: TrialResult) -> None: ...

    def said(self, sentence: str) -> None:
        """Something worth knowing about what trials run on."""


class Progress(Monitor):
    """A monitor that is also told how much there is to do, and what goes on outside of trials."""

    def begun(self, planned: int, kept: int, missing: int) -> None:
        """The trials are known; `missing` of them run now."""

    def stopped(self) -> None:
        """A signal ended the sweep, and what ran has saved itself."""

    def said(self, sentence: str) -> None:
        """Something worth knowing."""

    def started(self, spec: TrialSpec) -> None:
        """See `Monitor`."""

    def epoch_done(self, spec: TrialSpec, epoch: int, epochs: int, loss: float) -> None:
        """See `Monitor`."""

    def measured(self, spec: TrialSpec, measured: Mapping[int, float]) -> None:
        """See `Monitor`."""

    def retried(self, spec: TrialSpec, result: TrialResult, decision: str) -> None:
        """See `Monitor`."""

    def ended(self, spec: TrialSpec, result: TrialResult) -> None:
        """See `Monitor`."""


class SearchObserver:
    """Hears what a sweep's next trials may depend on; this one does not care."""

    def heard(self, spec: TrialSpec, result: TrialResult) -> None:
        """A trial has ended, and its result was entered."""

    def epoch_done(self, spec: TrialSpec, epoch: int) -> None:
        """See `Monitor`."""

    def measured(self, spec: TrialSpec, measured: Mapping[int, float]) -> None:
        """See `Monitor`."""


class Runner(Protocol):
    """Gets trials done, in any order, and tells a monitor.

    Returns when none is left, or when the sweep was asked to stop and what ran has saved itself.
    """

    def __call__(self, trials: Trials, run_dir: Location, monitor: Monitor, work: Work, stop: StopSignal) -> None: ...


class EventFanout(Progress):
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
