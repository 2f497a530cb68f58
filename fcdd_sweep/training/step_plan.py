"""What the host decides about a training step, in one row of bytes that one copy brings to the device.

Which image a sample shows, whether an anomaly takes its place, how it is cropped: all is drawn here, by generators that
are keyed by (stream, epoch, step), and written into a row of fixed layout. `compose` makes the batch of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.anomalies.registry import SOURCES
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.training.anomaly_pools import AnomalyPool, StreamedPool, read_ahead
from fcdd_sweep.training.preprocessing import Augmentation, Recipe
from fcdd_sweep.training.streams import Stream, Streams

ANOMALIES, AUGMENTATION, DROPOUT = range(3)
"""Places of the keys of what the device draws itself."""
_WHOLE_NUMBERS = ("pick", "drawn", "replaced", "top", "left", "whole", "flipped", "noisy")
"""Fields of a row with an int64 for each sample."""


class StepPlan(NamedTuple):
    """A row as tensors on the device, all views of it but the flags.

    Attributes:
        keys: (3,) int64, of the draws of anomalies, augmentation and dropout.
        pick: (N,) int64, the nominal image of each sample.
        drawn: (N,) int64, the image of the pool that replaces it; 0 for samples that stay.
        replaced: (N,) bool, which samples are anomalies.
        augmentation: of each sample.
        pixels: (N, C, R, R) uint8, the pool of this step where images are read while training, else None.
    """

    keys: Tensor
    pick: Tensor
    drawn: Tensor
    replaced: Tensor
    augmentation: Augmentation
    pixels: Tensor | None


class RowLayout(NamedTuple):
    """Where the fields of a row lie: keys, whole numbers, jitter, pixels.

    Attributes:
        samples: number of samples, N.
        image: channels, height and width of images that are read while training; None: there are none.
    """

    samples: int
    image: tuple[int, int, int] | None = None

    @property
    def starts(self) -> tuple[int, int, int]:
        """First byte of the whole numbers, of the jitter and of the pixels."""
        jitter = 3 * 8 + len(_WHOLE_NUMBERS) * self.samples * 8
        return 3 * 8, jitter, jitter + self.samples * 4 * 4

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.starts[2] + (0 if self.image is None else self.samples * math.prod(self.image))

    def tensors(self, row: Tensor) -> StepPlan:
        """Return a row, (size,) uint8, as the tensors in it."""
        whole, jitter, pixels = self.starts
        numbers = row[whole:jitter].view(torch.int64).view(len(_WHOLE_NUMBERS), self.samples)
        pick, drawn, replaced, top, left, shrunk, flipped, noisy = numbers.unbind(0)
        amounts = row[jitter:pixels].view(torch.float32).view(self.samples, 4)
        augmentation = Augmentation(top, left, shrunk != 0, flipped != 0, noisy != 0, amounts)
        images = None if self.image is None else row[pixels : self.size].view(self.samples, *self.image)
        return StepPlan(row[:whole].view(torch.int64), pick, drawn, replaced != 0, augmentation, images)


class PlanRow:
    """A row on the host.

    Attributes:
        layout: of the row.
        used: bytes from its beginning that the step reads.
        content: (size,) uint8.
        keys: (3,) int64, see `StepPlan`.
    """

    def __init__(self, layout: RowLayout) -> None:
        whole, jitter, pixels = layout.starts
        self.layout = layout
        self.used = pixels
        self.content = np.empty(pixels if layout.image is None else layout.size, np.uint8)
        self.content[:pixels] = 0
        self.keys = self.content[:whole].view(np.int64)
        self._numbers = self.content[whole:jitter].view(np.int64).reshape(len(_WHOLE_NUMBERS), layout.samples)
        self._jitter = self.content[jitter:pixels].view(np.float32).reshape(layout.samples, 4)

    def equals(self, other: PlanRow) -> bool:
        """Return whether another row decides the same in every byte that the step reads."""
        same = self.layout == other.layout and self.used == other.used
        return same and np.array_equal(self.content[: self.used], other.content[: other.used])

    def put_samples(self, pick: npt.NDArray[np.int64], replaced: npt.NDArray[np.bool_]) -> None:
        """Write which nominal images are shown, and which of them are replaced."""
        self._numbers[0] = pick
        self._numbers[2] = replaced

    def put_drawn(self, replaced: npt.NDArray[np.bool_], drawn: npt.NDArray[np.int64]) -> None:
        """Write which images of the pool replace samples, in the order of the samples."""
        self._numbers[1][replaced] = drawn

    def put_pixels(self, replaced: npt.NDArray[np.bool_], pixels: npt.NDArray[np.uint8]) -> None:
        """Write images, (k, C, R, R), that replace k samples."""
        end = self.used + pixels.nbytes
        self.content[self.used : end] = pixels.reshape(-1)
        self.used = end
        self.put_drawn(replaced, np.arange(len(pixels)))

    def put_augmentation(self, decided: Augmentation) -> None:
        """Write how the samples are augmented."""
        for place, values in enumerate(decided[:-1], start=3):
            self._numbers[place] = values
        self._jitter[:] = decided.jitter


@dataclass(frozen=True)
class StepPlanner:
    """Decides about the steps of one trial.

    A sample is a number below `nominal + appended`: first the nominal images, then, offline, the anomalies.

    Attributes:
        settings: the trial's settings.
        nominal: number of nominal images.
        pool: see `BatchMaker`.
        recipe: of the preprocessing.
        streams: the trial's random streams.
        appended: see `BatchMaker`.
        counted: whether the device draws by counting, under keys that `Streams.key` gives.
    """

    settings: Settings
    nominal: int
    pool: AnomalyPool | None
    recipe: Recipe
    streams: Streams
    appended: int = 0
    counted: bool = False

    @property
    def makes_anomalies(self) -> bool:
        """Whether the mode trains on anomalies at all."""
        return self.settings.anomalies.mode != "unsupervised"

    @property
    def renders(self) -> bool:
        """Whether anomalies are rendered while training."""
        return self.pool is None and self.settings.anomalies.source in SOURCES and self.makes_anomalies

    @property
    def samples(self) -> int:
        """Number of samples of all batches of an epoch but the last."""
        n = self.nominal + self.appended
        every_pass = np.arange(n * self.settings.training.passes_over(n))
        return len(in_batches(every_pass, self.settings.training.batch_size)[0])

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the samples of an epoch in order, each as often as there are passes: int64."""
        n = self.nominal + self.appended
        passes = self.settings.training.passes_over(n)
        return self.streams.numpy("order", epoch).permutation(n * passes) % n

    def rows(self, epoch: int, done: int = 0, *, dropout: bool = False) -> Iterator[PlanRow]:
        """Yield the rows of an epoch's steps, without the first `done`; images of a streamed pool are read ahead.

        Args:
            epoch: from 1.
            done: steps that are left out.
            dropout: whether the network draws.
        """
        steps = list(enumerate(in_batches(self.order(epoch), self.settings.training.batch_size)))[done:]
        tasks = (partial(self.row, chosen, epoch, step, dropout=dropout) for step, chosen in steps)
        yield from read_ahead(tasks) if isinstance(self.pool, StreamedPool) else (task() for task in tasks)

    def row(self, chosen: npt.NDArray[np.int64], epoch: int, step: int, *, dropout: bool = False) -> PlanRow:
        """Return the row of samples `chosen` under the draws of the given epoch and step.

        Online, each nominal image is replaced with `anomalies.probability`; offline, labels are fixed.
        """
        if self.appended:
            row = self._offline(chosen)
        else:
            rng = self.streams.numpy("anomalies", epoch, step)
            probability = self.settings.anomalies.probability if self.makes_anomalies else 0.0
            row = self._online(chosen, rng.random(len(chosen)) < probability, rng)
        if dropout:
            row.keys[DROPOUT] = self._key("dropout", epoch, step)
        return self._finished(row, "anomalies", epoch, step)

    def preview(self, count: int) -> PlanRow:
        """Return the row of `count` nominal samples and, where the mode makes any, `count` anomalous ones."""
        chosen = np.arange(count) % self.nominal
        if self.appended:
            chosen = np.concatenate([chosen, self.nominal + np.arange(count) % self.appended])
            return self._finished(self._offline(chosen), "preview")
        replaced = np.zeros(count, dtype=bool)
        if self.makes_anomalies:
            chosen, replaced = np.tile(chosen, 2), np.repeat([False, True], count)
        return self._finished(self._online(chosen, replaced, self.streams.numpy("preview")), "preview")

    def _offline(self, chosen: npt.NDArray[np.int64]) -> PlanRow:
        row, replaced = PlanRow(RowLayout(len(chosen))), chosen >= self.nominal
        row.put_samples(chosen % self.nominal, replaced)
        row.put_drawn(replaced, (chosen[replaced] - self.nominal) % len(self.pool or ()))
        return row

    def _online(
        self, chosen: npt.NDArray[np.int64], replaced: npt.NDArray[np.bool_], rng: np.random.Generator
    ) -> PlanRow:
        images = self.settings.images
        shape = (images.channels, images.load_size, images.load_size)
        streamed = isinstance(self.pool, StreamedPool)
        row = PlanRow(RowLayout(len(chosen), shape if streamed else None))
        row.put_samples(chosen, replaced)
        if self.pool is not None and replaced.any():
            put = row.put_pixels if streamed else row.put_drawn
            put(replaced, self.pool.draw(rng, int(replaced.sum())))
        return row

    def _finished(self, row: PlanRow, stream: Stream, epoch: int = 0, step: int = 0) -> PlanRow:
        """Add the augmentation, and the keys of what the device draws; anomalies are rendered by draws of `stream`."""
        row.put_augmentation(self.recipe.draw(self.streams.numpy("augmentation", epoch, step), row.layout.samples))
        if self.renders:
            row.keys[ANOMALIES] = self._key(stream, epoch, step)
        if self.recipe.changes_values:
            row.keys[AUGMENTATION] = self._key("augmentation", epoch, step)
        return row

    def _key(self, stream: Stream, epoch: int, step: int) -> int:
        return (self.streams.key if self.counted else self.streams.integer)(stream, epoch, step)


def in_batches(order: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """Split samples into batches of `size`; a single one left over joins the last batch, as batch norm needs two."""
    starts = list(range(0, len(order), size))
    if len(starts) > 1 and len(order) - starts[-1] == 1:
        starts.pop()
    return np.split(order, starts[1:])
