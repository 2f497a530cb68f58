"""Which anomalies a limit leaves, and which leave the test set. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt


class Limited(NamedTuple):
    """A pool under a limit.

    Attributes:
        order: (n,) all images of the pool in the order in which they are taken.
        wanted: how many of the first are used; more of them only in place of those that cannot be read.
        note: a sentence for the log when the limit exceeds the pool, otherwise "".
    """

    order: npt.NDArray[np.int64]
    wanted: int
    note: str


def limited(pool_size: int, limit: int | Literal["all"], rng: np.random.Generator) -> Limited:
    """The images of a pool that a limit leaves.

    They are the first ones of a single permutation, so that a smaller limit takes a part of what a larger one takes.
    A generator in the same state gives the same permutation whatever the limit.
    """
    order = rng.permutation(pool_size)
    if limit == "all" or limit <= pool_size:
        return Limited(order, pool_size if limit == "all" else limit, "")
    note = f"anomalies.limit asks for {limit} images, but there are {pool_size}: all are used"
    return Limited(order, pool_size, note)


def set_aside_of(n: int, per_defect: int) -> int:
    """How many of `n` test images of a defect type leave the test set: at least one stays."""
    return max(0, min(per_defect, n - 1))


def drawn_by_type(
    types: Sequence[str], per_type: int, rngs: Sequence[np.random.Generator]
) -> list[npt.NDArray[np.int64]]:
    """Positions of the images of each type that are set aside, in the order in which smaller limits take them.

    Args:
        types: the type of each image.
        per_type: see `set_aside_of`.
        rngs: one a distinct type, in the order of their names; each gives one permutation, so limits are nested.
    """
    names = sorted(set(types))
    found = [np.flatnonzero(np.array(types, dtype=object) == name) for name in names]
    return [
        rows[rng.permutation(len(rows))[: set_aside_of(len(rows), per_type)]]
        for rows, rng in zip(found, rngs, strict=True)
    ]
