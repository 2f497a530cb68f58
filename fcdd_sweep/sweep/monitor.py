"""What a runner tells the driver, and the runners' common shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.results.place import Place
from fcdd_sweep.sweep.source import Trials
from fcdd_sweep.sweep.stopping import Stop
from fcdd_sweep.sweep.trial import TrialResult
from fcdd_sweep.training.outcome import Observer

Work = Callable[[TrialSpec, Place, Observer], TrialResult]
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


class Follower:
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

    def __call__(self, trials: Trials, run_dir: Place, monitor: Monitor, work: Work, stop: Stop) -> None: ...
