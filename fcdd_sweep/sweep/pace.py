"""How fast the trials of a start are, and how long what is left of them takes."""

from __future__ import annotations

import heapq
import statistics
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from fcdd_sweep.config.schema import Settings
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.runners.events import EpochDone

_LATEST = 99
"""Finished trials that an estimate takes into account."""
_MOST_PLACED = 1000
"""Waiting trials that are placed on slots one by one; of more the mean is taken."""


@dataclass
class _Attempt:
    """When a running trial started and which epochs it has reported: epoch and time of the first and the latest."""

    settings: Settings
    started: float
    first: tuple[int, float] | None = None
    latest: tuple[int, float] | None = None

    def report(self, epoch: int, now: float) -> None:
        self.first = self.first or (epoch, now)
        self.latest = (epoch, now)

    @property
    def measured(self) -> tuple[int, float]:
        """Passes between the first and the latest report, and their seconds.

        What came before the first report is left out: it holds the start-up, or was trained before an interruption.
        """
        if self.first is None or self.latest is None:
            return 0, 0.0
        epochs = self.latest[0] - self.first[0]
        return epochs * self.settings.training.passes_per_epoch, self.latest[1] - self.first[1]

    def pace(self, usual: float) -> float:
        """Return its seconds per pass; the usual ones where it has not reported two epochs."""
        passes, seconds = self.measured
        return seconds / passes if passes else usual

    @property
    def passes_left(self) -> int:
        done = 0 if self.latest is None else self.latest[0]
        return (self.settings.total_epochs - done) * self.settings.training.passes_per_epoch


@dataclass
class Pace:
    """The pace of a start, from its own trials: seconds per pass through the data, and of the rest of a trial.

    A live display asks from a thread of its own, so that what events change is copied before it is looked through.

    Attributes:
        slots: trials that ran at once when the latest one started.
    """

    slots: int = 1
    _running: dict[str, _Attempt] = field(default_factory=dict)
    _started_passes: dict[str, int] = field(default_factory=dict)
    _waiting_again: set[str] = field(default_factory=set)
    _passes: int = 0
    _seconds: float = 0.0
    _rest_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST))
    _after_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST))

    def start(self, spec: TrialSpec) -> None:
        self._running[spec.trial_id] = _Attempt(spec.settings, time.monotonic())
        self._started_passes[spec.trial_id] = spec.settings.total_passes
        self._waiting_again.discard(spec.trial_id)
        self.slots = len(self._running)

    def report(self, event: EpochDone) -> None:
        if attempt := self._running.get(event.spec.trial_id):
            attempt.report(event.epoch, time.monotonic())

    def retry(self, spec: TrialSpec) -> None:
        """Count a trial as waiting again."""
        self._close(spec)
        self._waiting_again.add(spec.trial_id)

    def end(self, spec: TrialSpec, *, whole: bool) -> None:
        """Take in a trial that ended; `whole` if it was trained in this attempt from its first epoch to its last."""
        attempt = self._close(spec)
        if attempt is None or not whole:
            return
        now, rate = time.monotonic(), attempt.pace(self._rate() or 0.0)
        self._rest_s.append(max(0.0, now - attempt.started - rate * attempt.settings.total_passes))
        if attempt.latest is not None:
            self._after_s.append(max(0.0, now - attempt.latest[1] - rate * attempt.passes_left))

    def _close(self, spec: TrialSpec) -> _Attempt | None:
        attempt = self._running.pop(spec.trial_id, None)
        if attempt is not None:
            passes, seconds = attempt.measured
            self._passes, self._seconds = self._passes + passes, self._seconds + seconds
        return attempt

    def _rate(self) -> float | None:
        """Return the seconds per pass over all trials; None when unknown."""
        measured = [attempt.measured for attempt in list(self._running.values())]
        passes = self._passes + sum(passes for passes, _ in measured)
        return (self._seconds + sum(seconds for _, seconds in measured)) / passes if passes else None

    def left_s(self, waiting: int, passes: int) -> float | None:
        """Return the seconds until all trials have ended; None while nothing is known.

        Args:
            waiting: trials that have not started.
            passes: of all trials of this start; 0 when unknown: those that wait then are like those that started.
        """
        rate = self._rate()
        if rate is None and not self._rest_s:
            return None
        ends = [self._seconds_left(attempt, rate or 0.0) for attempt in list(self._running.values())]
        if waiting <= 0:
            return max(ends, default=0.0)
        whole = _middle(self._rest_s) + (rate or 0.0) * self._passes_of_waiting(waiting, passes)
        return _last_end(ends + [0.0] * (self.slots - len(ends)), waiting, whole)

    def _passes_of_waiting(self, waiting: int, passes: int) -> float:
        """Return the mean number of passes of the trials that wait; see `left_s`."""
        if not passes:
            return statistics.fmean(list(self._started_passes.values()) or [0])
        started = list(self._started_passes.items())
        return (passes - sum(each for trial_id, each in started if trial_id not in self._waiting_again)) / waiting

    def _seconds_left(self, attempt: _Attempt, usual: float) -> float:
        """Return the seconds until a running trial ends, at its own pace or the usual one."""
        rate, now = attempt.pace(usual), time.monotonic()
        if attempt.latest is None:
            return max(0.0, _middle(self._rest_s) + rate * attempt.settings.total_passes - (now - attempt.started))
        return max(0.0, _middle(self._after_s) + rate * attempt.passes_left - (now - attempt.latest[1]))


def _middle(seconds: Collection[float]) -> float:
    return statistics.median(seconds) if seconds else 0.0


def _last_end(ends: list[float], waiting: int, each_s: float) -> float:
    """Return when the last of equal trials ends that wait for slots which become free after `ends` seconds."""
    if waiting > _MOST_PLACED:
        return max((sum(ends) + waiting * each_s) / len(ends), *ends)
    heapq.heapify(ends)
    for _ in range(waiting):
        heapq.heapreplace(ends, ends[0] + each_s)
    return max(ends)
