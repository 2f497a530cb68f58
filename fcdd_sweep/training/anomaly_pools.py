"""Pools that training draws anomalies from: resident on the device, or read step by step.

Which image a sample gets is decided on the host (`step_plan`) and depends on the key of the draw alone. A pool can
therefore be read ahead of the training step, and yields the same samples either way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fcdd_sweep.anomalies.draws import HostGenerator
from fcdd_sweep.data.decoding.store import name_list
from fcdd_sweep.data.pools import ImagePool
from fcdd_sweep.training.result import TrainingError

RESIDENT_BYTES = 2**30
"""Pools up to this many bytes of uint8 pixels are read once and stay on the device."""
READERS = 4
"""Threads that read images. They make no draws, so their number changes no bits."""
AHEAD = 8
"""Training steps whose images are read before they are needed."""
CHUNK = 64
"""Images that one thread reads at a time when a pool is made resident."""
MOST_TRIES = 100
"""Draws in place of unreadable images before training fails."""
_Result = TypeVar("_Result")


class AnomalyPool(Protocol):
    """Distinct anomalies to draw from."""

    def __len__(self) -> int: ...

    @property
    def notes(self) -> list[str]:
        """Sentences for the log about the draws so far."""
        ...


@dataclass(frozen=True)
class ResidentPool:
    """Distinct anomalies on the training device.

    Attributes:
        images: (M, C, R, R) uint8.
        gt_maps: (M, 1, R, R) uint8 of 0 and 1, or None where the data has no maps.
    """

    images: Tensor
    gt_maps: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, drawn: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return images `drawn`, (n,) int64 to (n, C, R, R) uint8, and their maps, (n, 1, R, R) uint8 or None."""
        maps = self.gt_maps
        return self.images.index_select(0, drawn), None if maps is None else maps.index_select(0, drawn)

    @property
    def notes(self) -> list[str]:
        return []


@dataclass(frozen=True)
class StreamedPool:
    """Distinct anomalies that are read when they are drawn.

    Attributes:
        source: the images.
        order: (n,) int64, a permutation of all of them.
        wanted: how many of the first ones the limit leaves; 1 to n.
        unreadable: numbers of the images that were drawn and could not be read.
    """

    source: ImagePool
    order: npt.NDArray[np.int64]
    wanted: int
    unreadable: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return self.wanted

    def read(self, position: npt.NDArray[np.int64], rng: HostGenerator) -> npt.NDArray[np.uint8]:
        """Read the images at `position`, (count,) int64 below the pool's length: (count, C, R, R) uint8.

        An unreadable image is replaced by one beyond the limit, always by the same one, so that a limit keeps its
        number of distinct images. Without a limit none is beyond it, and another one is drawn from `rng`.

        Raises:
            TrainingError: hardly any image of the pool can be read.
        """
        drawn = self.order[position]
        pixels, readable = self.source.read(drawn)
        for attempt in range(MOST_TRIES):
            if readable.all():
                return pixels
            missing = np.flatnonzero(~readable)
            self.unreadable.update(drawn[missing].tolist())
            drawn[missing] = self._replacements(position[missing], attempt, rng)
            pixels, readable = np.array(pixels), np.array(readable)
            pixels[missing], readable[missing] = self.source.read(drawn[missing])
        raise TrainingError(
            f"{len(self.unreadable)} outlier-exposure images of {len(self.order)} were drawn and cannot be read, "
            f"nor could those of {MOST_TRIES} further draws; check anomalies.source"
        )

    def _replacements(self, position: npt.NDArray[np.int64], attempt: int, rng: HostGenerator) -> npt.NDArray[np.int64]:
        """Return the images that replace unreadable ones at `position` of the order, in the given attempt."""
        others = self.order[self.wanted :]
        if len(others):
            return others[(position + attempt * self.wanted) % len(others)]
        return self.order[rng.integers(0, self.wanted, size=len(position))]

    @property
    def notes(self) -> list[str]:
        if not self.unreadable:
            return []
        counts = f"{len(self.unreadable)} outlier-exposure images of {len(self.order)} were drawn and cannot be read"
        return [f"{counts}; others took their places: {name_list(self.source.names(sorted(self.unreadable)))}"]


def read_first(
    source: ImagePool, order: npt.NDArray[np.int64], wanted: int, shape: tuple[int, int, int]
) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Read the first `wanted` images of `order` that can be read.

    Args:
        source: the pool.
        order: (n,) int64, images in the order of preference.
        wanted: how many to read.
        shape: channels, height and width of an image.

    Returns:
        (k, C, R, R) uint8, k below `wanted` only where too few can be read; and the numbers of the unreadable ones.
    """
    images, found, position = np.empty((wanted, *shape), dtype=np.uint8), 0, 0
    unreadable: list[int] = []
    while found < wanted and position < len(order):
        candidates = order[position : position + wanted - found]
        position += len(candidates)
        chunks = [candidates[start : start + CHUNK] for start in range(0, len(candidates), CHUNK)]
        for chunk, (pixels, readable) in zip(chunks, read_ahead(partial(source.read, c) for c in chunks), strict=True):
            unreadable += chunk[~readable].tolist()
            count = int(readable.sum())
            images[found : found + count] = pixels[readable]
            found += count
    return images[:found], unreadable


def read_ahead(tasks: Iterable[Callable[[], _Result]]) -> Iterator[_Result]:
    """Yield the results of tasks in order, computed ahead by `READERS` threads.

    At most `AHEAD` tasks are submitted before their results are consumed. An error of a task is raised in its turn.
    """
    with ThreadPoolExecutor(READERS, thread_name_prefix="read_ahead") as readers:
        waiting: deque[Future[_Result]] = deque()
        try:
            for task in tasks:
                waiting.append(readers.submit(task))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
