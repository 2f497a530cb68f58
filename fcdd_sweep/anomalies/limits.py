"""The anomalies that a limit admits, and those that leave the test set. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt


class Limited(NamedTuple):
    """A pool under a limit.

    Attributes:
        order: (n,) all images of the pool in the order in which they are used.
        wanted: number of images in use; later images replace unreadable ones.
        note: a sentence for the log when the limit exceeds the pool, otherwise "".
    """

    order: npt.NDArray[np.int64]
    wanted: int
    note: str


def limited(pool_size: int, limit: int | Literal["all"], rng: np.random.Generator) -> Limited:
    """Return the images of a pool under a limit.

    They are the first images of one permutation, so a smaller limit uses a subset of what a larger limit uses. The
    permutation depends on the state of the generator, not on the limit.
    """
    order = rng.permutation(pool_size)
    if limit == "all" or limit <= pool_size:
        return Limited(order, pool_size if limit == "all" else limit, "")
    note = f"anomalies.limit asks for {limit} images, but there are {pool_size}: all are used"
    return Limited(order, pool_size, note)


MOST_IN_VALIDATION = 500
"""Largest number of validation anomalies: beyond it the held-out nominal images dominate the noise of an AUROC."""


def reserved_of(pool_size: int) -> int:
    """Return how many images of a pool are reserved for selecting settings; no config trains on them.

    Half of the pool up to `MOST_IN_VALIDATION`, whether or not a config trains on the rest: all configs of an
    experiment are evaluated on the same images.
    """
    return min(MOST_IN_VALIDATION, pool_size // 2)


def reservable(n: int, per_defect: int) -> int:
    """Return how many of `n` test images of a defect type leave the test set: at least one stays."""
    return max(0, min(per_defect, n - 1))


class TypeDraw(NamedTuple):
    """Images of one defect type that leave the test set, in the order in which smaller limits use them.

    Attributes:
        training: (n,) images that configs may train on.
        validation: (m,) images that settings are selected on; they do not depend on the number of training images.
    """

    training: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]


def drawn_by_type(
    types: Sequence[str], per_type: int, rngs: Sequence[np.random.Generator], for_validation: int = 0
) -> list[TypeDraw]:
    """Return the positions of the reserved images of each type.

    Both kinds come from one permutation, training from its beginning and validation from its end. If there are too few
    for both, validation has priority; one image stays in the test set.

    Args:
        types: the type of each image.
        per_type: see `reservable`.
        for_validation: the same, for images that settings are selected on.
        rngs: one per distinct type, in the order of the names; each draws one permutation, so limits are nested.
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
