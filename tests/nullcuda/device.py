"""The null device as seen from a process that runs on it: its log, and what a test may set."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

library = ctypes.CDLL(os.environ["NULLCUDA"])
library.null_log_end.restype = ctypes.c_char_p
for size in (library.null_used, library.null_refused):
    size.restype = ctypes.c_size_t
library.null_set_total.argtypes = [ctypes.c_size_t]

MIB = 2**20


class Call(NamedTuple):
    """A launch, a copy, a filling or a wait.

    Attributes:
        kind: KERNEL, which the launch of a graph is too, COPY, MEMSET, WAIT, or CAPTURED for what became part of a
            graph.
        name: mangled name of the kernel, or direction of the copy.
        number: thread blocks of the kernel, or bytes.
    """

    kind: str
    name: str
    number: int


@contextmanager
def logged() -> Iterator[list[Call]]:
    """Yield a list that holds the calls made meanwhile when it is left."""
    calls: list[Call] = []
    library.null_log_begin()
    try:
        yield calls
    finally:
        for line in library.null_log_end().decode().splitlines():
            kind, name, number = line.split("\t")
            calls.append(Call(kind, name, int(number)))


def leave_free(mib: int) -> None:
    """Make the device as small as what is used now and so many MiB more."""
    library.null_set_total(library.null_used() + mib * MIB)


def break_after(launches: int, error: int) -> None:
    """Let every call fail with an error of CUDA after so many launches: 700 illegal address, 710 assert."""
    library.null_break_after(launches, error)
