"""The queue of a runner: which trial runs next, and what follows the result of an attempt.

Trials come from a source: a sweep knows all of them at once, a search makes some only when others have ended.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.planning.packs import front_key, pack_key
from fcdd_sweep.runners.failures import POLICIES, wait_s
from fcdd_sweep.runners.trial_result import TrialResult


class TrialSource(Protocol):
    """Supplies trials as long as there are any; learns of their ends from the events of the sweep."""

    @property
    def examples(self) -> Sequence[TrialSpec]:
        """Trials that together need of a machine what all trials need; they may be supplied later, too."""
        ...

    def begin(self, slots: int) -> None:
        """Prepare to supply trials, of which `slots` run at once. Called once, before `more`."""

    def more(self) -> Sequence[TrialSpec]:
        """Return trials that may start now, each once. An empty answer while none runs means that all have ended."""
        ...

    def unwanted(self, trial_id: str) -> bool:
        """Return whether a trial that was supplied need not start, or may stop where it is."""
        ...


class FixedTrials:
    """A source of trials that are all known from the start."""

    def __init__(self, specs: Sequence[TrialSpec]) -> None:
        self.examples = self._remaining = tuple(specs)

    def begin(self, slots: int) -> None:
        """Do nothing: the number of slots does not matter."""

    def more(self) -> Sequence[TrialSpec]:
        supplied, self._remaining = self._remaining, ()
        return supplied

    def unwanted(self, trial_id: str) -> bool:
        return False


Trials = Sequence[TrialSpec] | TrialSource


def source_of(trials: Trials) -> TrialSource:
    return FixedTrials(trials) if isinstance(trials, Sequence) else trials


@dataclass(frozen=True)
class Packing:
    """How jobs become packs.

    Attributes:
        size: the most trials of one.
        key: returns what its trials have in common; None for a trial that runs alone.
        nearer: returns what trials have in common that are rather put together than others; None for one without.
    """

    size: int = 1
    key: Callable[[TrialSpec], str | None] = pack_key
    nearer: Callable[[TrialSpec], str | None] = front_key


_LOOKED_THROUGH = 1000
"""Waiting jobs among which those of a pack are looked for."""
_MAX_UNCOUNTED = 100
"""Retries that use up none of `faults.retries`, such as preemptions: a machine that only preempts must end some day."""


@dataclass(frozen=True)
class Job:
    """An attempt to be made.

    Attributes:
        spec: the trial.
        shares: multiple of a trial's usual resources, 1 unless earlier attempts ran out of memory.
        counted, uncounted: retries so far that use up, or do not use up, `faults.retries`.
        packs: whether it may be part of a pack; not after a failure, but for one of a pack that was too large.
        not_before: earliest start on the queue's clock, in seconds.
    """

    spec: TrialSpec
    shares: int = 1
    counted: int = 0
    uncounted: int = 0
    packs: bool = True
    not_before: float = 0.0


def no_failure_limit(trial_id: str) -> float:
    """Return infinity: a trial may fail without limit."""
    return math.inf


class JobQueue:
    """Supplies jobs and decides what follows their results.

    Attributes:
        source: where trials come from.
        stopped: no further job starts; running ones may end.
    """

    def __init__(
        self,
        trials: Trials,
        retries: int,
        clock: Callable[[], float] = time.monotonic,
        failures_left: Callable[[str], float] = no_failure_limit,
    ) -> None:
        """
        Args:
            trials: the trials, or their source.
            retries: how often a trial is tried again after failures that count, see `faults.retries`.
            clock: returns seconds.
            failures_left: returns by trial id how often it may still fail, over all starts of the driver.
        """
        self.source = source_of(trials)
        self._retries, self._clock, self._failures_left = retries, clock, failures_left
        self._fresh: deque[Job] = deque()
        self._to_retry: list[Job] = []
        self._running: dict[str, Job] = {}
        self._packed: dict[str, tuple[str, int]] = {}
        self._largest: dict[str, int] = {}
        self.stopped = False

    @property
    def empty(self) -> bool:
        """Whether no job runs and none will start."""
        return not self._running and (self.stopped or not self._any_waiting())

    def _any_waiting(self) -> bool:
        """Drop unwanted jobs, and ask the source for more when all fresh ones have started."""
        self._to_retry = [job for job in self._to_retry if not self.source.unwanted(job.spec.trial_id)]
        while self._fresh and self.source.unwanted(self._fresh[0].spec.trial_id):
            self._fresh.popleft()
        if not self._fresh:
            self._fresh.extend(Job(spec) for spec in self.source.more())
        return bool(self._fresh or self._to_retry)

    @property
    def any_running(self) -> bool:
        return bool(self._running)

    def next(self) -> Job | None:
        """Return a job that may start now, or None."""
        if self.stopped or not self._any_waiting():
            return None
        job = self._due_retry() or (self._fresh.popleft() if self._fresh else None)
        if job is not None:
            self._running[job.spec.trial_id] = job
        return job

    def next_pack(self, packing: Packing, at_most: int | None = None) -> tuple[Job, ...]:
        """Return jobs that may start now, as one.

        Where trials of a pack ran out of memory, later packs with the same in common have at most half as many.

        Args:
            packing: how jobs become packs.
            at_most: a further limit of their number; None: there is none.
        """
        size = packing.size if at_most is None else min(packing.size, at_most)
        first = self.next()
        if first is None:
            return ()
        wanted = packing.key(first.spec) if size > 1 and first.packs else None
        if wanted is None:
            return (first,)
        others = self._others(first, wanted, min(size, self._largest.get(wanted, size)) - 1, packing)
        for job in others:
            (self._to_retry if job in self._to_retry else self._fresh).remove(job)
            self._running[job.spec.trial_id] = job
        pack = (first, *others)
        self._packed.update({job.spec.trial_id: (wanted, len(pack)) for job in pack})
        return pack

    def _due_retries(self) -> list[Job]:
        """Return the retries whose wait is over, first the one that is due longest."""
        due = [job for job in self._to_retry if job.not_before <= self._clock()]
        return sorted(due, key=lambda job: job.not_before)

    def _others(self, first: Job, wanted: str, count: int, packing: Packing) -> list[Job]:
        """Return waiting jobs for the pack of the first one, those that it shares most with before the others."""
        nearest, near, others = packing.nearer(first.spec), list[Job](), list[Job]()
        for job in itertools.chain(self._due_retries(), itertools.islice(self._fresh, _LOOKED_THROUGH)):
            if len(near) == count or (nearest is None and len(others) == count):
                break
            if job.packs and not self.source.unwanted(job.spec.trial_id) and packing.key(job.spec) == wanted:
                (near if nearest is not None and packing.nearer(job.spec) == nearest else others).append(job)
        return [*near, *others][:count]

    def _due_retry(self) -> Job | None:
        """Return a retry whose wait is over; in a large sweep, retries do not wait for all fresh jobs."""
        for job in self._due_retries():
            self._to_retry.remove(job)
            return job
        return None

    def ended(self, result: TrialResult) -> Job | None:
        """Record the result of a running job, and return the job of the next attempt if there is one."""
        job = self._running.pop(result.trial_id)
        key, size = self._packed.pop(result.trial_id, ("", 1))
        if result.kind == "pack_too_large":
            self._largest[key] = min(self._largest.get(key, size), -(-size // 2))
        retry = None if result.kind is None else self._retry(job, result)
        if retry is not None:
            self._to_retry.append(retry)
        return retry

    def _retry(self, job: Job, result: TrialResult) -> Job | None:
        assert result.kind is not None
        policy = POLICIES[result.kind]
        if policy.counts:  # `failures_left` does not know of this failure yet
            spent = job.counted >= self._retries or self._failures_left(job.spec.trial_id) <= 1
        else:
            spent = job.uncounted >= _MAX_UNCOUNTED
        if not policy.retry or spent:
            return None
        earlier = job.counted if policy.counts else 0
        return Job(
            job.spec,
            shares=job.shares * 2 if policy.more_resources else job.shares,
            counted=job.counted + policy.counts,
            uncounted=job.uncounted + (not policy.counts),
            packs=job.packs and result.kind == "pack_too_large",
            not_before=self._clock() + wait_s(result.kind, earlier),
        )

    def stop(self) -> None:
        self.stopped = True


def retry_text(retry: Job, job: Job) -> str:
    """Return the decision on an attempt that is repeated, for the user."""
    if retry.shares != job.shares:
        return f"retrying with {retry.shares} times the resources"
    return "retrying with fewer trials in a pack" if retry.packs else "retrying"
