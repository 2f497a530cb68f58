"""Images that training draws anomalies from: outlier exposure. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


class ImagePool(Protocol):
    """Images by number, decoded already or when they are read."""

    @property
    def fingerprint(self) -> str:
        """A digest of what the images are, or where that costs too much, of the files that hold them."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: npt.NDArray[np.int64]) -> tuple[Pixels, Flags]:
        """Images `index`: (n, C, R, R) uint8, and (n,) whether each could be read; those that could not are 0.

        It may be called from several threads, and gives the same pixels every time.
        """
        ...


@dataclass(frozen=True)
class ArrayPool:
    """Images of a decoded corpus or folder; nothing is copied before it is read.

    Attributes:
        images: (M, C, R, R) uint8, usually memory-mapped.
        rows: (n,) which of them are in the pool, or None for all.
        fingerprint: see `ImagePool`.
    """

    images: Pixels
    rows: npt.NDArray[np.int64] | None = None
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.images if self.rows is None else self.rows)

    def read(self, index: npt.NDArray[np.int64]) -> tuple[Pixels, Flags]:
        rows = index if self.rows is None else self.rows[index]
        return np.asarray(self.images[rows]), np.ones(len(index), np.bool_)
