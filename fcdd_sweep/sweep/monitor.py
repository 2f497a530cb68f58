"""What a runner tells the driver, and the runners' common shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.results.place import Place
from fcdd_sweep.sweep.trial import TrialResult
from fcdd_sweep.training.outcome import Observer

Work = Callable[[TrialSpec, Place, Observer], TrialResult]
"""What a worker does with a trial; `sweep.trial.run_trial` outside of tests and benchmarks."""


class Monitor(Protocol):
    """Hears of trials while they run."""

    def started(self, spec: TrialSpec) -> None: ...

    def epoch_done(self, spec: TrialSpec, epoch: int, epochs: int, loss: float) -> None: ...

    def ended(self, spec: TrialSpec, result: TrialResult) -> None: ...


class Runner(Protocol):
    """Gets trials done, in any order, and tells a monitor; returns when none is left."""

    def __call__(self, specs: Sequence[TrialSpec], run_dir: Place, monitor: Monitor, work: Work) -> None: ...
