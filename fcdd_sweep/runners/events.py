"""News of a sweep as values, the sinks that take them, and the shape that all runners share.

A runner emits events to one sink: the publisher, which enters results and passes each event on to the display,
`progress.json`, the trackers and the search. A sink picks the events that it needs with `match` and ignores the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.queue import Trials
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.training.result import Observer

Work = Callable[[TrialSpec, Location, Observer], TrialResult]
"""What a worker does with a trial; `sweep.trial.run_trial` outside of tests and benchmarks."""
Report = Callable[[str], None]
"""Takes one sentence for the user."""


@dataclass(frozen=True)
class SweepStarted:
    """The trials are known.

    Attributes:
        planned: all trials.
        kept: those that earlier starts finished.
        missing: those to run now.
        passes: through the training images that the missing ones make, over all epochs; 0 when unknown.
    """

    planned: int
    kept: int
    missing: int
    passes: int = 0


@dataclass(frozen=True)
class SweepStopped:
    """A signal ended the sweep, and the running trials have saved themselves."""


@dataclass(frozen=True)
class TrialStarted:
    """An attempt at a trial has started."""

    spec: TrialSpec


@dataclass(frozen=True)
class EpochDone:
    """A running trial has finished `epoch` of `epochs`; `loss` is the mean over its samples."""

    spec: TrialSpec
    epoch: int
    epochs: int
    loss: float


@dataclass(frozen=True)
class ValidationMeasured:
    """A running trial was scored on validation images: `aurocs` by epoch. Epochs may be repeated in later events."""

    spec: TrialSpec
    aurocs: Mapping[int, float]


@dataclass(frozen=True)
class AttemptRetried:
    """An attempt ended without a result, and another one will follow; `decision` describes it for the user."""

    spec: TrialSpec
    result: TrialResult
    decision: str


@dataclass(frozen=True)
class TrialEnded:
    """A trial has ended for this start: done, failed or stopped."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class Message:
    """A sentence for the user about the data, the machines or the run."""

    text: str


Event = (
    SweepStarted | SweepStopped | TrialStarted | EpochDone | ValidationMeasured | AttemptRetried | TrialEnded | Message
)


class EventSink(Protocol):
    """Takes the events of a sweep, one at a time, in the driver's main thread; messages may come from any thread."""

    def handle(self, event: Event) -> None: ...


class NullSink:
    """A sink that ignores everything."""

    def handle(self, event: Event) -> None:
        """Ignore the event."""


class EventFanout:
    """Passes every event to a first sink, then to the others.

    The first sink is the display. Its OSErrors are ignored, since the sweep goes on when its terminal is gone. Its
    other exceptions end the sweep. A sink among the others that raises is reported once, as a message to the first, and
    gets no further events.
    """

    def __init__(self, first: EventSink, others: Sequence[EventSink]) -> None:
        self._first, self._others = first, list(others)

    def handle(self, event: Event) -> None:
        self._show(event)
        for sink in list(self._others):
            try:
                sink.handle(event)
            except Exception as error:  # a view of the sweep is not worth the sweep
                self._others.remove(sink)
                self._show(Message(f"{type(sink).__name__} failed and gets no further events: {error}"))

    def _show(self, event: Event) -> None:
        with contextlib.suppress(OSError):
            self._first.handle(event)


def reporter(sink: EventSink) -> Report:
    """Return a function that sends a sentence to `sink` as a `Message`."""
    return lambda text: sink.handle(Message(text))


class Runner(Protocol):
    """Runs trials in any order and emits their events.

    Every attempt gives a `TrialStarted`, every attempt that failed and is repeated an `AttemptRetried`, and every trial
    exactly one `TrialEnded` at its end. Trials that do not start, because the source no longer wants them or the sweep
    was stopped, give no event.
    """

    def __call__(self, trials: Trials, run_dir: Location, sink: EventSink, work: Work, stop: StopSignal) -> None:
        """Return when no trial is left, or when `stop` was asked for and the running trials have saved themselves.

        Args:
            trials: the trials, or a source that makes them as others end.
            run_dir: the run's directory, passed to `work`.
            sink: takes the events; called in this thread.
            work: what a worker does with a trial.
            stop: the request to stop.
        Raises:
            RunnerLostError: what runs the trials has died.
            KeyboardInterrupt: `stop` was asked for twice, or trials took too long to save themselves.
        """
        ...
