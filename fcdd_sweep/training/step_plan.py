"""What the host decides about a training step, in one row of bytes that one copy brings to the device.

Which image a sample shows, whether an anomaly takes its place, how it is cropped: all is drawn here and written into a
row of fixed layout. `compose` makes the batch of it.

For a CPU each step draws from generators that are keyed by (stream, epoch, step). For a GPU draws are counted: keyed by
(stream, epoch, place in the epoch, number), so that the rows of many steps are made at once, in a fraction of the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.anomalies.draws import HostGenerator
from fcdd_sweep.anomalies.registry import SOURCES
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.training.anomaly_pools import AnomalyPool, StreamedPool, read_ahead
from fcdd_sweep.training.preprocessing import Augmentation, Recipe
from fcdd_sweep.training.streams import Stream, Streams

ANOMALIES, AUGMENTATION, DROPOUT = range(3)
"""Places of the keys of what the device draws itself."""
_WHOLE_NUMBERS = ("pick", "drawn", "replaced", "top", "left", "whole", "flipped", "noisy")
"""Fields of a row with an int64 for each sample."""
_TOGETHER = 64
"""Steps whose rows are made at once where draws are counted. It changes no bits."""


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
        """Number of bytes, a multiple of 8, so that numbers of rows one behind the other are aligned."""
        pixels = 0 if self.image is None else self.samples * math.prod(self.image)
        return -(-(self.starts[2] + pixels) // 8) * 8

    def tensors(self, row: Tensor) -> StepPlan:
        """Return a row, (size,) uint8, as the tensors in it."""
        whole, jitter, pixels = self.starts
        numbers = row[whole:jitter].view(torch.int64).view(len(_WHOLE_NUMBERS), self.samples)
        pick, drawn, replaced, top, left, shrunk, flipped, noisy = numbers.unbind(0)
        amounts = row[jitter:pixels].view(torch.float32).view(self.samples, 4)
        augmentation = Augmentation(top, left, shrunk != 0, flipped != 0, noisy != 0, amounts)
        images = None
        if self.image is not None:
            end = pixels + self.samples * math.prod(self.image)
            images = row[pixels:end].view(self.samples, *self.image)
        return StepPlan(row[:whole].view(torch.int64), pick, drawn, replaced != 0, augmentation, images)


class PlanRow(NamedTuple):
    """A row on the host.

    Attributes:
        layout: of the row.
        used: bytes from its beginning that the step reads.
        memory: (size,) uint8.
    """

    layout: RowLayout
    used: int
    memory: Tensor

    def equals(self, other: PlanRow) -> bool:
        """Return whether another row decides the same in every byte that the step reads."""
        same = self.layout == other.layout and self.used == other.used
        return same and torch.equal(self.memory[: self.used], other.memory[: other.used])


class PlanRows:
    """Rows of one layout, those of consecutive steps, one behind the other in memory.

    Samples are given step by step: an array of them has the shape (steps, N), or (steps * N,).

    Attributes:
        layout: of the rows.
        keys: (steps, 3) int64, see `StepPlan`.
    """

    def __init__(self, layout: RowLayout, steps: int = 1, *, pinned: bool = False) -> None:
        """Begin with rows of zeros.

        Args:
            layout: of the rows.
            steps: number of rows; 1 where the layout has pixels.
            pinned: whether a GPU copies from the memory without the host. torch keeps it until its copies are done.
        """
        whole, jitter, pixels = layout.starts
        self.layout = layout
        self._used = pixels
        self._memory = torch.empty(steps, layout.size, dtype=torch.uint8, pin_memory=pinned)
        self._content: npt.NDArray[np.uint8] = self._memory.numpy()
        self._content[:, :pixels] = 0
        self.keys = self._content[:, :whole].view(np.int64)
        self._numbers = self._content[:, whole:jitter].view(np.int64).reshape(steps, len(_WHOLE_NUMBERS), -1)
        self._jitter = self._content[:, jitter:pixels].view(np.float32).reshape(steps, -1, 4)

    def __iter__(self) -> Iterator[PlanRow]:
        return (PlanRow(self.layout, self._used, memory) for memory in self._memory.unbind(0))

    def put_samples(self, pick: npt.NDArray[np.int64], replaced: npt.NDArray[np.bool_]) -> None:
        """Write which nominal images are shown, and which of them are replaced, (steps, N) each."""
        self._numbers[:, 0] = pick
        self._numbers[:, 2] = replaced

    def put_drawn(self, replaced: npt.NDArray[np.bool_], drawn: npt.NDArray[np.int64]) -> None:
        """Write which images of the pool replace samples, in the order of the samples."""
        self._numbers[:, 1][replaced] = drawn

    def put_pixels(self, replaced: npt.NDArray[np.bool_], pixels: npt.NDArray[np.uint8]) -> None:
        """Write images, (k, C, R, R), that replace k samples of the only step."""
        start, self._used = self._used, self._used + pixels.nbytes
        self._content[0, start : self._used] = pixels.reshape(-1)
        self.put_drawn(replaced, np.arange(len(pixels)))

    def put_augmentation(self, decided: Augmentation) -> None:
        """Write how the samples, (steps * N,), are augmented."""
        for place, values in enumerate(decided[:-1], start=3):
            self._numbers[:, place] = self._by_step(values)
        self._jitter[:] = self._by_step(decided.jitter)

    def _by_step(self, values: Any) -> Any:
        """Return the numbers of all samples by step; one number for all stays."""
        return values.reshape(len(self._numbers), -1, *values.shape[1:]) if isinstance(values, np.ndarray) else values


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
        counted: whether host and device draw by counting, see `Streams.counted` and `Streams.keys`.
        pinned: see `PlanRows`.
    """

    settings: Settings
    nominal: int
    pool: AnomalyPool | None
    recipe: Recipe
    streams: Streams
    appended: int = 0
    counted: bool = False
    pinned: bool = False

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
        batches = in_batches(self.order(epoch), self.settings.training.batch_size)
        streamed = isinstance(self.pool, StreamedPool)
        together = _TOGETHER if self.counted and not streamed else 1
        tasks = (
            partial(self._planned, chosen, epoch, step, dropout=dropout)
            for step, chosen in _blocks(batches, done, together)
        )
        yield from chain.from_iterable(read_ahead(tasks) if streamed else (task() for task in tasks))

    def row(self, chosen: npt.NDArray[np.int64], epoch: int, step: int, *, dropout: bool = False) -> PlanRow:
        """Return the row of samples `chosen` under the draws of the given epoch and step."""
        return next(iter(self._planned(chosen[None], epoch, step, dropout=dropout)))

    def _planned(self, chosen: npt.NDArray[np.int64], epoch: int, step: int, *, dropout: bool) -> PlanRows:
        """Return the rows of samples `chosen`, (steps, N), under the draws of an epoch from the given step on.

        Online, each nominal image is replaced with `anomalies.probability`; offline, labels are fixed.
        """
        if self.appended:
            rows = self._offline(chosen)
        else:
            rng = self._generator("anomalies", epoch, step)
            probability = self.settings.anomalies.probability if self.makes_anomalies else 0.0
            rows = self._online(chosen, rng.random(chosen.size).reshape(chosen.shape) < probability, rng)
        if dropout:
            rows.keys[:, DROPOUT] = self._keys("dropout", epoch, step, len(chosen))
        return self._finished(rows, "anomalies", epoch, step)

    def preview(self, count: int) -> PlanRow:
        """Return the row of `count` nominal samples and, where the mode makes any, `count` anomalous ones."""
        chosen = np.arange(count) % self.nominal
        if self.appended:
            chosen = np.concatenate([chosen, self.nominal + np.arange(count) % self.appended])
            rows = self._offline(chosen[None])
        else:
            replaced = np.zeros(count, dtype=bool)
            if self.makes_anomalies:
                chosen, replaced = np.tile(chosen, 2), np.repeat([False, True], count)
            rows = self._online(chosen[None], replaced[None], self._generator("preview"))
        return next(iter(self._finished(rows, "preview")))

    def _offline(self, chosen: npt.NDArray[np.int64]) -> PlanRows:
        rows, replaced = self._blank(chosen), chosen >= self.nominal
        rows.put_samples(chosen % self.nominal, replaced)
        rows.put_drawn(replaced, (chosen[replaced] - self.nominal) % len(self.pool or ()))
        return rows

    def _online(self, chosen: npt.NDArray[np.int64], replaced: npt.NDArray[np.bool_], rng: HostGenerator) -> PlanRows:
        rows = self._blank(chosen)
        rows.put_samples(chosen, replaced)
        if self.pool is None or not replaced.any():
            return rows
        if self.counted:  # for all samples, as each has its own draws
            drawn = rng.integers(0, len(self.pool), size=chosen.size)[replaced.reshape(-1)]
        else:
            drawn = rng.integers(0, len(self.pool), size=int(replaced.sum()))
        if isinstance(self.pool, StreamedPool):
            rows.put_pixels(replaced, self.pool.read(drawn, rng))
        else:
            rows.put_drawn(replaced, drawn)
        return rows

    def _blank(self, chosen: npt.NDArray[np.int64]) -> PlanRows:
        images, (steps, samples) = self.settings.images, chosen.shape
        streamed = isinstance(self.pool, StreamedPool)
        shape = (images.channels, images.load_size, images.load_size) if streamed else None
        return PlanRows(RowLayout(samples, shape), steps, pinned=self.pinned)

    def _finished(self, rows: PlanRows, stream: Stream, epoch: int = 0, step: int = 0) -> PlanRows:
        """Add the augmentation, and the keys of what the device draws; anomalies are rendered by draws of `stream`."""
        steps, samples = len(rows.keys), rows.layout.samples
        rows.put_augmentation(self.recipe.draw(self._generator("augmentation", epoch, step), steps * samples))
        if self.renders:
            rows.keys[:, ANOMALIES] = self._keys(stream, epoch, step, steps)
        if self.recipe.changes_values:
            rows.keys[:, AUGMENTATION] = self._keys("augmentation", epoch, step, steps)
        return rows

    def _generator(self, stream: Stream, epoch: int = 0, step: int = 0) -> HostGenerator:
        """Return the draws of the host from a step on; without counting those of this step alone."""
        if self.counted:
            return self.streams.counted(stream, epoch, step * self.settings.training.batch_size)
        return self.streams.numpy(stream, epoch, step)

    def _keys(self, stream: Stream, epoch: int, step: int, steps: int) -> npt.NDArray[np.int64] | int:
        """Return the keys of what the device draws in steps, (steps,); without counting there is one step."""
        if self.counted:
            return self.streams.keys(stream, epoch, range(step, step + steps))
        return self.streams.integer(stream, epoch, step)


def in_batches(order: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """Split samples into batches of `size`; a single one left over joins the last batch, as batch norm needs two."""
    starts = list(range(0, len(order), size))
    if len(starts) > 1 and len(order) - starts[-1] == 1:
        starts.pop()
    return [order[start:end] for start, end in pairwise([*starts, len(order)])]


def _blocks(
    batches: Sequence[npt.NDArray[np.int64]], done: int, most: int
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield the batches without the first `done` in blocks of equal size, at most `most` each.

    Yields:
        The number of a block's first step, and its samples, (steps, N).
    """
    while done < len(batches):
        block = [batch for batch in batches[done : done + most] if len(batch) == len(batches[done])]  # but the last
        yield done, np.stack(block)
        done += len(block)
