"""Where the trials of a runner come from: all known at once, or some only when others are done."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.runners.failures import POLICIES, wait_s
from fcdd_sweep.runners.trial_result import TrialResult


class TrialSource(Protocol):
    """Gives trials as long as there are any; hears of their ends through the runner's monitor."""

    @property
    def examples(self) -> Sequence[TrialSpec]:
        """Trials that ask of a machine what all of them ask; they may be among those that are given."""
        ...

    def begin(self, slots: int) -> None:
        """Called once, before anything is given: so many trials run at once."""

    def more(self) -> Sequence[TrialSpec]:
        """Trials that may start now, each given once. None of them while nothing runs means: there will be no more."""
        ...

    def unwanted(self, trial_id: str) -> bool:
        """Whether a trial that was given need not start any more, or may stop where it is."""
        ...


class FixedTrials:
    """Trials that are all known from the start."""

    def __init__(self, specs: Sequence[TrialSpec]) -> None:
        self.examples = self._left = tuple(specs)

    def begin(self, slots: int) -> None:
        """It makes no difference."""

    def more(self) -> Sequence[TrialSpec]:
        given, self._left = self._left, ()
        return given

    def unwanted(self, trial_id: str) -> bool:
        return False


Trials = Sequence[TrialSpec] | TrialSource


def source_of(trials: Trials) -> TrialSource:
    return FixedTrials(trials) if isinstance(trials, Sequence) else trials


_MOST_UNCOUNTED = 100
"""Retries that use up none of `faults.retries`, such as preemptions; a machine that only preempts must end some day."""


@dataclass(frozen=True)
class Job:
    """An attempt to be made.

    Attributes:
        spec: the trial.
        room: how many shares of a machine it gets, 1 unless earlier attempts ran out of memory.
        counted, uncounted: retries so far that use up, or do not use up, `faults.retries`.
        not_before: earliest start on the queue's clock.
    """

    spec: TrialSpec
    room: int = 1
    counted: int = 0
    uncounted: int = 0
    not_before: float = 0.0


def no_failure_limit(trial_id: str) -> float:
    """A trial may fail as often as it likes."""
    return math.inf


class JobQueue:
    """Gives jobs out and decides what follows their results.

    Attributes:
        source: where trials come from.
        stopped: nothing more is given out; what is out may end.
    """

    def __init__(
        self,
        trials: Trials,
        retries: int,
        clock: Callable[[], float] = time.monotonic,
        failures_left: Callable[[str], float] = no_failure_limit,
    ) -> None:
        """`failures_left` tells by trial id how often it may still fail, over all starts of the driver."""
        self.source = source_of(trials)
        self._retries, self._clock, self._failures_left = retries, clock, failures_left
        self._fresh: deque[Job] = deque()
        self._again: list[Job] = []
        self._out: dict[str, Job] = {}
        self.stopped = False

    @property
    def empty(self) -> bool:
        """Nothing is out, and nothing will be given out any more."""
        return not self._out and (self.stopped or not self._anything_waits())

    def _anything_waits(self) -> bool:
        """Forget what is no longer wanted, and ask for more when all that was fresh is out."""
        self._again = [job for job in self._again if not self.source.unwanted(job.spec.trial_id)]
        while self._fresh and self.source.unwanted(self._fresh[0].spec.trial_id):
            self._fresh.popleft()
        if not self._fresh:
            self._fresh.extend(Job(spec) for spec in self.source.more())
        return bool(self._fresh or self._again)

    @property
    def anything_out(self) -> bool:
        return bool(self._out)

    def next(self) -> Job | None:
        """A job that may start now."""
        if self.stopped or not self._anything_waits():
            return None
        job = self._due() or (self._fresh.popleft() if self._fresh else None)
        if job is not None:
            self._out[job.spec.trial_id] = job
        return job

    def _due(self) -> Job | None:
        """A retry whose wait is over; retries of a big sweep do not wait for all that is fresh."""
        due = [job for job in self._again if job.not_before <= self._clock()]
        if not due:
            return None
        job = min(due, key=lambda job: job.not_before)
        self._again.remove(job)
        return job

    def ended(self, result: TrialResult) -> Job | None:
        """Take a result in; gives the next attempt's job where there will be one."""
        job = self._out.pop(result.trial_id)
        again = None if result.kind is None else self._retry(job, result)
        if again is not None:
            self._again.append(again)
        return again

    def _retry(self, job: Job, result: TrialResult) -> Job | None:
        assert result.kind is not None
        policy = POLICIES[result.kind]
        if policy.counts:
            spent = job.counted >= self._retries or self._failures_left(job.spec.trial_id) <= 1  # this one counted
        else:
            spent = job.uncounted >= _MOST_UNCOUNTED
        if not policy.again or spent:
            return None
        earlier = job.counted if policy.counts else 0
        return Job(
            job.spec,
            room=job.room * 2 if policy.more_room else job.room,
            counted=job.counted + policy.counts,
            uncounted=job.uncounted + (not policy.counts),
            not_before=self._clock() + wait_s(result.kind, earlier),
        )

    def stop(self) -> None:
        self.stopped = True


def retry_text(again: Job, job: Job) -> str:
    """What will be done, for people."""
    return f"it is tried again with {again.room} shares of a machine" if again.room != job.room else "it is tried again"
