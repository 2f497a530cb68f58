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


MOST_IN_VALIDATION = 500
"""Validation anomalies at most: by then the held-out nominal images decide how noisy an AUROC is."""


def reserved_of(pool_size: int) -> int:
    """How many images of a pool settings are selected on, and no config trains on.

    Half of them up to `MOST_IN_VALIDATION`, whether or not a config trains on the others: all configs of an experiment
    are judged by the same images.
    """
    return min(MOST_IN_VALIDATION, pool_size // 2)


def reservable(n: int, per_defect: int) -> int:
    """How many of `n` test images of a defect type leave the test set: at least one stays."""
    return max(0, min(per_defect, n - 1))


class TypeDraw(NamedTuple):
    """Images of one defect type that leave the test set, in the order in which smaller limits take them.

    Attributes:
        training: (n,) those that configs may train on.
        validation: (m,) those that settings are selected on; they do not depend on how many the others are.
    """

    training: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]


def drawn_by_type(
    types: Sequence[str], per_type: int, rngs: Sequence[np.random.Generator], for_validation: int = 0
) -> list[TypeDraw]:
    """Positions of the images of each type that are set aside.

    Both kinds come from one permutation, training from its beginning and validation from its end. Where there are too
    few for both, validation goes first; one image stays in the test set.

    Args:
        types: the type of each image.
        per_type: see `reservable`.
        for_validation: the same, of images that settings are selected on.
        rngs: one a distinct type, in the order of their names; each gives one permutation, so limits are nested.
    """
    names = sorted(set(types))
    found = [np.flatnonzero(np.array(types, dtype=object) == name) for name in names]
    return [
        _divided(rows[rng.permutation(len(rows))], per_type, for_validation)
        for rows, rng in zip(found, rngs, strict=True)
    ]


def _divided(rows: npt.NDArray[np.int64], per_type: int, for_validation: int) -> TypeDraw:
    left = len(rows) - reservable(len(rows), for_validation)
    return TypeDraw(rows[: reservable(left, per_type)], rows[left:][::-1])
