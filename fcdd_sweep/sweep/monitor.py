"""What a runner tells the driver, and the runners' common shape."""

from __future__ import annotations

from collections.abc import Callable
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

    def retried(self, spec: TrialSpec, result: TrialResult, decision: str) -> None:
        """An attempt ended without a result, and there will be another one; `decision` says when and how."""

    def ended(self, spec: TrialSpec, result: TrialResult) -> None: ...

    def said(self, sentence: str) -> None:
        """Something worth knowing about what trials run on."""


class Runner(Protocol):
    """Gets trials done, in any order, and tells a monitor.

    Returns when none is left, or when the sweep was asked to stop and what ran has saved itself.
    """

    def __call__(self, trials: Trials, run_dir: Place, monitor: Monitor, work: Work, stop: Stop) -> None: ...
