"""Kinds of failures, and what follows each.

A failure of the trial itself is an answer: its attempt is over, and only a new start of the driver tries it again. A
failure of the machine or the storage is not: the trial is tried again in the same start, on another machine or with
more resources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fcdd_sweep.results.storage import is_storage_error
from fcdd_sweep.training.result import DivergedError

FailureKind = Literal[
    "error", "diverged", "out_of_memory", "worker_lost", "node_lost", "node_unfit", "hung", "storage", "preempted"
]


@dataclass(frozen=True)
class FailurePolicy:
    """What follows a failure within one start of the driver.

    Attributes:
        retry: whether the trial is tried again.
        counts: whether the failure uses up one of `faults.retries` and counts for `faults.max_failures`.
        wait_s: seconds before the first retry; doubled with each further one, up to `MAX_WAIT_S`.
        more_resources: whether the next attempt gets twice the resources.
    """

    retry: bool
    counts: bool = True
    wait_s: float = 0.0
    more_resources: bool = False


MAX_WAIT_S = 120.0
POLICIES: dict[FailureKind, FailurePolicy] = {
    "error": FailurePolicy(retry=False),
    "diverged": FailurePolicy(retry=False),
    "out_of_memory": FailurePolicy(retry=True, more_resources=True),
    "worker_lost": FailurePolicy(retry=True, wait_s=0.5),
    "node_lost": FailurePolicy(retry=True, wait_s=1.0),
    "node_unfit": FailurePolicy(retry=True, counts=False, wait_s=5.0),
    "hung": FailurePolicy(retry=True, wait_s=1.0),
    "storage": FailurePolicy(retry=True, wait_s=15.0),
    "preempted": FailurePolicy(retry=True, counts=False, wait_s=1.0),
}


def kind_of(error: BaseException) -> FailureKind:
    """Return the kind of failure that an exception in a trial is; its causes are searched, too."""
    for cause in _causes(error):
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return "out_of_memory"
        if isinstance(cause, DivergedError):
            return "diverged"
        if is_storage_error(cause):
            return "storage"
    return "error"


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def kind_of_loss(message: str) -> FailureKind:
    """Return the kind of loss that the scheduler's message about a dead worker describes."""
    lower = message.lower()
    if "out of memory" in lower or "running low on memory" in lower or "outofmemoryerror" in lower:
        return "out_of_memory"
    if "modulenotfounderror" in lower or "can't get attribute" in lower:  # the machine lacks the code
        return "node_unfit"
    if "node has died" in lower or "node was terminated" in lower or "node is dead" in lower or "owner's node" in lower:
        return "node_lost"
    return "worker_lost"


def wait_s(kind: FailureKind, earlier: int) -> float:
    """Return the seconds before the next attempt when `earlier` ones have been retried already."""
    return min(POLICIES[kind].wait_s * 2**earlier, MAX_WAIT_S)
