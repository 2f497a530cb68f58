"""Pools of images that training draws anomalies from (outlier exposure). Needs no torch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.schema import Images
from fcdd_sweep.config.trial_spec import digest
from fcdd_sweep.data.decoding.pixels import DECODER_VERSION, PixelArray, decode_image, fit_image
from fcdd_sweep.data.image_index import ImageIndex

Flags = npt.NDArray[np.bool_]
_LOG = logging.getLogger(__name__)
_LOGGED = 10
"""Number of unreadable images that a pool writes to the log."""


class ImagePool(Protocol):
    """Images by number, decoded before or when they are read."""

    @property
    def fingerprint(self) -> str:
        """A digest of the images or, where that costs too much, of the files that contain them."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report, such as which classes are left out."""
        ...

    def names(self, index: Sequence[int]) -> list[str]:
        """Return the names of images `index` for the log."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: npt.NDArray[np.int64]) -> tuple[PixelArray, Flags]:
        """Return images `index`, (n, C, R, R) uint8, and (n,) whether each could be read; unreadable images are 0.

        It may be called from several threads and returns the same pixels every time.
        """
        ...


@dataclass(frozen=True)
class ArrayPool:
    """Images of a decoded corpus or folder; nothing is copied before `read`.

    Attributes:
        images: (M, C, R, R) uint8, usually memory-mapped.
        rows: (n,) int64, the images in the pool, or None for all.
        fingerprint, notes: see `ImagePool`.
    """

    images: PixelArray
    rows: npt.NDArray[np.int64] | None = None
    fingerprint: str = ""
    notes: tuple[str, ...] = ()

    def names(self, index: Sequence[int]) -> list[str]:
        return [f"image {i}" for i in index]

    def __len__(self) -> int:
        return len(self.images if self.rows is None else self.rows)

    def read(self, index: npt.NDArray[np.int64]) -> tuple[PixelArray, Flags]:
        rows = index if self.rows is None else self.rows[index]
        return np.asarray(self.images[rows]), np.ones(len(index), np.bool_)


@dataclass(frozen=True)
class SubsetPool:
    """A part of a pool.

    Attributes:
        whole: the pool.
        rows: (n,) int64, the images of `whole` that belong to the part.
    """

    whole: ImagePool
    rows: npt.NDArray[np.int64]

    @property
    def fingerprint(self) -> str:
        return self.whole.fingerprint

    @property
    def notes(self) -> tuple[str, ...]:
        return self.whole.notes

    def names(self, index: Sequence[int]) -> list[str]:
        return self.whole.names(self.rows[np.asarray(index, np.int64)].tolist())

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: npt.NDArray[np.int64]) -> tuple[PixelArray, Flags]:
        return self.whole.read(self.rows[index])


class FilePool:
    """Images in files or tars, decoded when they are read: for collections that are too large for the cache.

    It keeps no image in memory. Several threads may read it at once, which is faster: Pillow decodes without holding
    Python's lock.

    Attributes:
        fingerprint: a digest of the files' names, and in tars of their sizes; see `ImageIndex`.
        notes: see `ImagePool`.
        bytes_each: bytes of a decoded image.
    """

    def __init__(self, index: ImageIndex, groups: Sequence[int], images: Images, notes: tuple[str, ...] = ()) -> None:
        """Make a pool of some groups of an index, `groups` in increasing order, at the size of `images`."""
        self.notes = notes
        self.bytes_each = images.channels * images.load_size**2
        self.fingerprint = digest([index.fingerprint, [index.groups[i] for i in groups], DECODER_VERSION])
        self._index, self._images = index, images
        self._first = index.begin[:-1][list(groups)]
        self._end = np.cumsum(np.diff(index.begin)[list(groups)])
        self._unreadable: set[int] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._end[-1]) if len(self._end) else 0

    def names(self, index: Sequence[int]) -> list[str]:
        rows = self._rows(np.asarray(index, np.int64))
        return [self._index.label(int(row)) for row in rows]

    def read(self, index: npt.NDArray[np.int64]) -> tuple[PixelArray, Flags]:
        """Return images by number; see `ImagePool`.

        Raises:
            IndexError: a number is outside of the pool.
            DataError: a whole folder or tar no longer exists.
        """
        rows, side = self._rows(index), self._images.load_size
        pixels = np.zeros((len(rows), self._images.channels, side, side), np.uint8)
        readable = np.zeros(len(rows), np.bool_)

        for place, row in enumerate(rows):
            image = self._decoded(int(row))
            if image is not None:
                pixels[place], readable[place] = image, True
        return pixels, readable

    def _rows(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the rows of the index for numbers in the pool."""
        if len(index) and not 0 <= index.min() <= index.max() < len(self):
            raise IndexError(f"the pool has {len(self)} images, found {index.min()} to {index.max()}")
        group = np.searchsorted(self._end, index, side="right")
        behind: npt.NDArray[np.int64] = self._end[group] - index
        count = np.diff(self._end, prepend=0)[group]
        return np.asarray(self._first[group] + count - behind)

    def _decoded(self, row: int) -> PixelArray | None:
        try:
            content = self._index.content(row)
            return fit_image(
                decode_image(content, self._index.label(row), self._images.max_megapixels),
                self._images.load_size,
                self._images.resize,
                self._images.color,
                self._images.aspect,
            )
        except DataError as error:
            self._skip(row, error.problems[0].what)
        except OSError as error:
            holder = self._index.holder(row)
            if not holder.exists():
                raise DataError(Problem(str(holder), "is gone; outlier exposure reads images from it")) from error
            self._skip(row, f"cannot be read ({error.strerror or error})")
        return None

    def _skip(self, row: int, reason: str) -> None:
        with self._lock:
            known = row in self._unreadable
            self._unreadable.add(row)
            count = len(self._unreadable)
        if not known and count <= _LOGGED:
            last = "; further ones are not logged" if count == _LOGGED else ""
            _LOG.warning("%s: %s: %s; it is skipped%s", self._index.root, self._index.label(row), reason, last)
