"""Kinds of failures, and what is done about each.

A failure of the trial itself is an answer: its attempt is over, and the same command tries it again. A failure of
what it ran on is not: the trial is tried again in the same start, elsewhere or with more of the machine.
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
class Policy:
    """What follows a failure within one start of the driver.

    Attributes:
        again: whether the trial is tried again.
        counts: whether that uses up one of `faults.retries`, and counts for `faults.max_failures`.
        wait_s: seconds before the first retry; doubled with each further one, up to `MOST_WAIT_S`.
        more_room: whether the next attempt gets twice the share of a machine.
        words: what happened, for people.
    """

    again: bool
    counts: bool = True
    wait_s: float = 0.0
    more_room: bool = False
    words: str = ""


MOST_WAIT_S = 120.0
POLICIES: dict[FailureKind, Policy] = {
    "error": Policy(again=False, words="an error in the trial"),
    "diverged": Policy(again=False, words="the training diverged"),
    "out_of_memory": Policy(again=True, more_room=True, words="out of memory"),
    "worker_lost": Policy(again=True, wait_s=0.5, words="its worker was lost"),
    "node_lost": Policy(again=True, wait_s=1.0, words="its machine was lost"),
    "node_unfit": Policy(again=True, counts=False, wait_s=5.0, words="its machine cannot run it"),
    "hung": Policy(again=True, wait_s=1.0, words="it made no progress"),
    "storage": Policy(again=True, wait_s=15.0, words="its files could not be written"),
    "preempted": Policy(again=True, counts=False, wait_s=1.0, words="its machine was told to stop"),
}


def kind_of(error: BaseException) -> FailureKind:
    """What kind of failure an exception in a trial is."""
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


def kind_of_loss(words: str) -> FailureKind:
    """What kind of loss the scheduler's words on a dead worker tell of."""
    lower = words.lower()
    if "out of memory" in lower or "running low on memory" in lower or "outofmemoryerror" in lower:
        return "out_of_memory"
    if "modulenotfounderror" in lower or "can't get attribute" in lower:  # it has no such code
        return "node_unfit"
    if "node has died" in lower or "node was terminated" in lower or "node is dead" in lower or "owner's node" in lower:
        return "node_lost"
    return "worker_lost"


def wait_s(kind: FailureKind, earlier: int) -> float:
    """Seconds before the next attempt when `earlier` ones have been retried already."""
    return min(POLICIES[kind].wait_s * 2**earlier, MOST_WAIT_S)
