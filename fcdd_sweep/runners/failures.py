"""Kinds of failures, and what follows each.

A failure of the trial itself is an answer: its attempt is over, and only a new start of the driver tries it again. A
failure of the machine or the storage is not: the trial is tried again in the same start, on another machine or with
more resources.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import Literal

from fcdd_sweep.results.storage import is_storage_error
from fcdd_sweep.training.result import DivergedError

FailureKind = Literal[
    "error",
    "diverged",
    "out_of_memory",
    "pack_too_large",
    "gpu_failed",
    "worker_lost",
    "node_lost",
    "node_unfit",
    "hung",
    "storage",
    "preempted",
]


@dataclass(frozen=True)
class FailurePolicy:
    """What follows a failure within one start of the driver.

    Attributes:
        retry: whether the trial is tried again.
        counts: whether the failure uses up one of `faults.retries` and counts for `faults.max_failures`.
        wait_s: seconds before the first retry; doubled with each further one, up to `MAX_WAIT_S`.
        more_resources: whether the next attempt gets twice the resources.
        ends_worker: whether the process that ran the trial must run no other one.
    """

    retry: bool
    counts: bool = True
    wait_s: float = 0.0
    more_resources: bool = False
    ends_worker: bool = False


MAX_WAIT_S = 120.0
POLICIES: dict[FailureKind, FailurePolicy] = {
    "error": FailurePolicy(retry=False),
    "diverged": FailurePolicy(retry=False),
    "out_of_memory": FailurePolicy(retry=True, more_resources=True),
    "pack_too_large": FailurePolicy(retry=True, counts=False),
    "gpu_failed": FailurePolicy(retry=True, wait_s=1.0, ends_worker=True),
    "worker_lost": FailurePolicy(retry=True, wait_s=0.5),
    "node_lost": FailurePolicy(retry=True, wait_s=1.0),
    "node_unfit": FailurePolicy(retry=True, counts=False, wait_s=5.0, ends_worker=True),
    "hung": FailurePolicy(retry=True, wait_s=1.0, ends_worker=True),
    "storage": FailurePolicy(retry=True, wait_s=15.0),
    "preempted": FailurePolicy(retry=True, counts=False, wait_s=1.0),
}


_NO_MEMORY = re.compile(
    r"CUDA error: out of memory"
    r"|CU\w+_STATUS_(ALLOC_FAILED|NOT_INITIALIZED|\w*ALLOCATION_FAILED)"  # a handle of cuBLAS needs memory, too
    r"|unable to find an engine to execute this computation"  # no engine of cuDNN got its workspace
    r"|can't allocate memory"  # torch on a CPU
)
_GPU_ERROR = re.compile(r"\b(CUDA|HIP) error: ")
"""After most of these, such as an illegal address, every later call of CUDA in the process fails, too."""


def kind_of(error: BaseException) -> FailureKind:
    """Return the kind of failure that an exception in a trial is; its causes are searched, too.

    torch's errors of GPUs are recognized by name and text: many have no class of their own, in older versions none.
    """
    for cause in _causes(error):
        if _is_memory_error(cause):
            return "out_of_memory"
        if isinstance(cause, RuntimeError) and _GPU_ERROR.search(str(cause)):
            return "gpu_failed"
        if isinstance(cause, DivergedError):
            return "diverged"
        if is_storage_error(cause):
            return "storage"
    return "error"


def _is_memory_error(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


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
