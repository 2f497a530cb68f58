"""Images that training draws anomalies from: outlier exposure. Needs no torch."""

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
"""How many unreadable images a pool writes to the log."""


class ImagePool(Protocol):
    """Images by number, decoded already or when they are read."""

    @property
    def fingerprint(self) -> str:
        """A digest of what the images are, or where that costs too much, of the files that hold them."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report, such as which classes are left out."""
        ...

    def names(self, index: Sequence[int]) -> list[str]:
        """What the log calls images `index`."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: npt.NDArray[np.int64]) -> tuple[PixelArray, Flags]:
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
    """Some images of a pool.

    Attributes:
        whole: all of them.
        rows: (n,) int64, which.
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
    """Images in files or tars, decoded when they are read: for collections that no cache can hold.

    It keeps no image and no open file, and may be read from several threads at once: Pillow decodes without holding
    Python's lock, and whoever wants speed calls `read` from a few threads.

    Attributes:
        fingerprint: a digest of the files' names, and in tars of their sizes; see `FileTable`.
        notes: see `ImagePool`.
        bytes_each: what a decoded image takes in memory.
    """

    def __init__(self, table: ImageIndex, groups: Sequence[int], images: Images, notes: tuple[str, ...] = ()) -> None:
        """The images of some of a table's groups, `groups` in increasing order, brought to the size of `images`."""
        self.notes = notes
        self.bytes_each = images.channels * images.load_size**2
        self.fingerprint = digest([table.fingerprint, [table.groups[i] for i in groups], DECODER_VERSION])
        self._table, self._images = table, images
        self._first = table.begin[:-1][list(groups)]
        self._end = np.cumsum(np.diff(table.begin)[list(groups)])
        self._unreadable: set[int] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._end[-1]) if len(self._end) else 0

    def names(self, index: Sequence[int]) -> list[str]:
        rows = self._rows(np.asarray(index, np.int64))
        return [self._table.label(int(row)) for row in rows]

    def read(self, index: npt.NDArray[np.int64]) -> tuple[PixelArray, Flags]:
        """See `ImagePool`.

        Raises:
            IndexError: a number outside of the pool.
            DataError: a whole folder or tar is gone.
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
        """Numbers in the pool to rows of the table."""
        if len(index) and not 0 <= index.min() <= index.max() < len(self):
            raise IndexError(f"the pool has {len(self)} images, found {index.min()} to {index.max()}")
        group = np.searchsorted(self._end, index, side="right")
        behind: npt.NDArray[np.int64] = self._end[group] - index
        count = np.diff(self._end, prepend=0)[group]
        return np.asarray(self._first[group] + count - behind)

    def _decoded(self, row: int) -> PixelArray | None:
        try:
            content = self._table.content(row)
            return fit_image(
                decode_image(content, self._table.label(row)),
                self._images.load_size,
                self._images.resize,
                self._images.color,
                self._images.aspect,
            )
        except DataError as error:
            self._skip(row, error.problems[0].what)
        except OSError as error:
            holder = self._table.holder(row)
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
            _LOG.warning("%s: %s: %s; it is skipped%s", self._table.root, self._table.label(row), reason, last)
