"""Which of the images of a pool serve as anomalies. Needs no torch."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt


def limited(pool_size: int, limit: int | Literal["all"], rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], str]:
    """The images of a pool that a limit leaves.

    They are the first ones of a single permutation, so that a smaller limit takes a part of what a larger one takes.
    A generator in the same state gives the same permutation whatever the limit.

    Returns:
        (n,) indices into the pool, and a sentence for the log when the limit exceeds the pool, otherwise "".
    """
    order = rng.permutation(pool_size)
    if limit == "all":
        return order, ""
    note = f"anomalies.limit asks for {limit} images, but there are {pool_size}: all are used"
    return order[:limit], note if limit > pool_size else ""
