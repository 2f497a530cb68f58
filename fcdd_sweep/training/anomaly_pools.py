"""Pools that training draws anomalies from: resident on the device, or read step by step.

Which image a sample gets is decided on the host and depends on nothing but the key of the draw, so a pool can be read
ahead of the training step, and gives the same samples either way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.data.decoding.store import name_list
from fcdd_sweep.data.pools import ImagePool
from fcdd_sweep.training.device import to_device
from fcdd_sweep.training.result import TrainingError

RESIDENT_BYTES = 2**30
"""Pools up to this size, in uint8 pixels, are read once and stay on the device."""
READERS = 4
"""Threads that read images; they decide nothing, so their number changes no bits."""
AHEAD = 8
"""Training steps whose images are read before they are needed."""
CHUNK = 64
"""Images that one thread reads at a time when a pool is made resident."""
MOST_TRIES = 100
"""How often an unreadable image is replaced by a further draw before training gives up."""
_Result = TypeVar("_Result")


class AnomalyPool(Protocol):
    """Distinct anomalies to draw from."""

    def __len__(self) -> int: ...

    def draw(self, rng: np.random.Generator, count: int) -> npt.NDArray[Any]:
        """On the host, in any thread: what `take` needs for `count` images, each drawn with equal chances."""
        ...

    def take(self, drawn: npt.NDArray[Any], device: torch.device) -> tuple[Tensor, Tensor | None]:
        """On the device: (n, C, R, R) uint8 images and (n, 1, R, R) uint8 maps, None where the pool has none."""
        ...

    @property
    def notes(self) -> list[str]:
        """Sentences for the log on what has been drawn so far."""
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

    def draw(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """(count,) indices into the pool."""
        return rng.integers(len(self.images), size=count)

    def take(self, drawn: npt.NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor | None]:
        index = to_device(drawn, device)
        return self.images[index], None if self.gt_maps is None else self.gt_maps[index]

    @property
    def notes(self) -> list[str]:
        return []


@dataclass(frozen=True)
class StreamedPool:
    """Distinct anomalies that are read when they are drawn.

    Attributes:
        source: the images.
        order: (n,) int64, all of them, permuted.
        wanted: how many of them, from the first on, a limit leaves; 1 to n.
        unreadable: numbers of those that were drawn and could not be read.
    """

    source: ImagePool
    order: npt.NDArray[np.int64]
    wanted: int
    unreadable: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return self.wanted

    def draw(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.uint8]:
        """(count, C, R, R) uint8.

        An image beyond the limit stands in for one that cannot be read, always the same for the same, so that a limit
        keeps its number of distinct images; without a limit there is none, and another one is drawn.

        Raises:
            TrainingError: hardly any image of the pool can be read.
        """
        place = rng.integers(self.wanted, size=count)
        drawn = self.order[place]
        pixels, readable = self.source.read(drawn)
        for turn in range(MOST_TRIES):
            if readable.all():
                return pixels
            missing = np.flatnonzero(~readable)
            self.unreadable.update(drawn[missing].tolist())
            drawn[missing] = self._instead(place[missing], turn, rng)
            pixels, readable = np.array(pixels), np.array(readable)
            pixels[missing], readable[missing] = self.source.read(drawn[missing])
        raise TrainingError(
            f"{len(self.unreadable)} outlier-exposure images of {len(self.order)} were drawn and cannot be read, "
            f"and {MOST_TRIES} others gave none in their place; check anomalies.source"
        )

    def _instead(self, place: npt.NDArray[np.int64], turn: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """For unreadable images at `place` of the order, what stands in for them in the turn-th try."""
        others = self.order[self.wanted :]
        if len(others):
            return others[(place + turn * self.wanted) % len(others)]
        return self.order[rng.integers(self.wanted, size=len(place))]

    def take(self, drawn: npt.NDArray[np.uint8], device: torch.device) -> tuple[Tensor, Tensor | None]:
        return to_device(drawn, device), None

    @property
    def notes(self) -> list[str]:
        if not self.unreadable:
            return []
        counts = f"{len(self.unreadable)} outlier-exposure images of {len(self.order)} were drawn and cannot be read"
        return [f"{counts}; others took their places: {name_list(self.source.names(sorted(self.unreadable)))}"]


def read_first(
    source: ImagePool, order: npt.NDArray[np.int64], wanted: int, shape: tuple[int, int, int]
) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """The first `wanted` images of `order` that can be read.

    Args:
        shape: channels, height and width of an image.

    Returns:
        (n, C, R, R) uint8, n below `wanted` only where there are not that many; and the numbers of those passed over.
    """
    images, found, position = np.empty((wanted, *shape), dtype=np.uint8), 0, 0
    unreadable: list[int] = []
    while found < wanted and position < len(order):
        part = order[position : position + wanted - found]
        position += len(part)
        chunks = [part[start : start + CHUNK] for start in range(0, len(part), CHUNK)]
        for chunk, (pixels, readable) in zip(chunks, read_ahead(partial(source.read, c) for c in chunks), strict=True):
            unreadable += chunk[~readable].tolist()
            count = int(readable.sum())
            images[found : found + count] = pixels[readable]
            found += count
    return images[:found], unreadable


def read_ahead(tasks: Iterable[Callable[[], _Result]]) -> Iterator[_Result]:
    """The tasks' results in their order, worked on by a few threads before they are asked for."""
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
