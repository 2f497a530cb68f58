"""Training batches: nominal images, some replaced by anomalies, augmented, with labels and maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.anomalies.malform import malform
from fcdd_sweep.anomalies.registry import SOURCES
from fcdd_sweep.anomalies.synthetic import render
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.training.anomaly_pools import AnomalyPool, Draw, StreamedPool, read_ahead
from fcdd_sweep.training.device import to_device
from fcdd_sweep.training.preprocessing import Preprocessor
from fcdd_sweep.training.streams import Stream, Streams


@dataclass(frozen=True)
class Batch:
    """Network input.

    Attributes:
        inputs: (N, C, S, S) float32.
        labels: (N,) int64, 0 is pulled to the center, 1 is pushed away.
        gt_maps: (N, 1, S, S) uint8 of 0 and 1; None unless `training.supervision` is `maps`.
    """

    inputs: Tensor
    labels: Tensor
    gt_maps: Tensor | None


class Decisions(NamedTuple):
    """The host's decisions about a batch, made before the device composes it.

    Attributes:
        replaced: (N,) bool, which samples are anomalies.
        drawn: a draw of the pool, one image per replaced sample; None without a pool.
    """

    replaced: npt.NDArray[np.bool_]
    drawn: Draw | None


class DrawKey(NamedTuple):
    """Which draws a batch is composed under: stream of rendered anomalies, epoch and step."""

    stream: Stream
    epoch: int = 0
    step: int = 0


@dataclass(frozen=True)
class BatchMaker:
    """Composes the batches of one trial from data on the training device.

    A sample is a number below `len(nominal) + appended`: first the nominal images, then, offline, the anomalies.

    Attributes:
        settings: the trial's settings.
        nominal: (N, C, R, R) uint8.
        pool: anomalies to draw from; None where they are rendered while training or there are none.
        preprocessor: fitted on `nominal`.
        streams: the trial's random streams.
        appended: offline, how many anomalies follow the nominal images: those of the pool in turn; 0 online.
    """

    settings: Settings
    nominal: Tensor
    pool: AnomalyPool | None
    preprocessor: Preprocessor
    streams: Streams
    appended: int = 0

    @property
    def makes_anomalies(self) -> bool:
        """Whether the mode trains on anomalies at all."""
        return self.settings.anomalies.mode != "unsupervised"

    @property
    def distinct_anomalies(self) -> int | None:
        """Number of distinct real or outlier-exposure anomalies; None for synthetic ones and without anomalies."""
        return None if self.pool is None or self.settings.anomalies.source in SOURCES else len(self.pool)

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the samples of an epoch in order, each as often as there are passes: int64."""
        n = len(self.nominal) + self.appended
        passes = self.settings.training.passes_over(n)
        return self.streams.numpy("order", epoch).permutation(n * passes) % n

    @property
    def unreadable(self) -> set[int]:
        """Numbers of exposure images that were drawn and could not be read; the set grows while images are read."""
        return self.pool.unreadable if isinstance(self.pool, StreamedPool) else set()

    def epoch(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, without composing the first `done`.

        Images of a streamed pool are read some steps ahead.
        """
        steps = list(enumerate(in_batches(self.order(epoch), self.settings.training.batch_size)))[done:]
        tasks = (partial(self._decide, chosen, epoch, step) for step, chosen in steps)
        streamed = isinstance(self.pool, StreamedPool)
        decided = read_ahead(tasks) if streamed else (task() for task in tasks)
        for (step, chosen), decisions in zip(steps, decided, strict=True):
            yield self._compose(chosen, decisions, DrawKey("anomalies", epoch, step))

    def batch(self, chosen: npt.NDArray[np.int64], epoch: int, step: int) -> Batch:
        """Return the batch of samples `chosen` under the draws of the given epoch and step."""
        return self._compose(chosen, self._decide(chosen, epoch, step), DrawKey("anomalies", epoch, step))

    def preview(self, count: int) -> Batch:
        """Return `count` nominal samples and, where the mode makes any, `count` anomalous ones."""
        chosen = np.arange(count) % len(self.nominal)
        if self.appended:
            chosen = np.concatenate([chosen, len(self.nominal) + np.arange(count) % self.appended])
            return self._compose(chosen, self._decide_offline(chosen), DrawKey("preview"))
        replaced = np.zeros(count, dtype=bool)
        if self.makes_anomalies:
            chosen, replaced = np.tile(chosen, 2), np.repeat([False, True], count)
        decisions = self._draw(replaced, self.streams.numpy("preview"))
        return self._compose(chosen, decisions, DrawKey("preview"))

    def _decide(self, chosen: npt.NDArray[np.int64], epoch: int, step: int) -> Decisions:
        """Online, replace each chosen nominal image with `anomalies.probability`; offline, labels are fixed."""
        if self.appended:
            return self._decide_offline(chosen)
        rng = self.streams.numpy("anomalies", epoch, step)
        probability = self.settings.anomalies.probability if self.makes_anomalies else 0.0
        return self._draw(rng.random(len(chosen)) < probability, rng)

    def _decide_offline(self, chosen: npt.NDArray[np.int64]) -> Decisions:
        replaced = chosen >= len(self.nominal)
        return Decisions(replaced, (chosen[replaced] - len(self.nominal)) % len(self.pool or ()))

    def _draw(self, replaced: npt.NDArray[np.bool_], rng: np.random.Generator) -> Decisions:
        drawn = self.pool.draw(rng, int(replaced.sum())) if self.pool is not None and replaced.any() else None
        return Decisions(replaced, drawn)

    def _compose(self, chosen: npt.NDArray[np.int64], decisions: Decisions, key: DrawKey) -> Batch:
        """Gather nominal images, put anomalies in place of the replaced ones, and augment all on the device."""
        device, replaced = self.nominal.device, decisions.replaced
        raw = self.nominal[to_device(chosen % len(self.nominal), device)]
        label = replaced ^ bool(self.settings.images.nominal_label)
        on_maps = self.settings.training.supervision == "maps"
        gt_maps = self._blank_maps(label) if on_maps else None
        if replaced.any():
            where = to_device(np.flatnonzero(replaced), device)
            anomalies, changed = self._anomalies(raw, where, decisions.drawn, key)
            slots = _Slots.of(replaced, device)
            raw = slots.filled(raw, anomalies)
            if gt_maps is not None and changed is not None and not self.settings.images.nominal_label:
                gt_maps = slots.filled(gt_maps, changed)
        prepared = self.preprocessor.train(raw, gt_maps, self.streams, key.epoch, key.step)
        labels = to_device(label.astype(np.int64), device)
        return Batch(prepared[0], labels, prepared[1] if on_maps else None)

    def _blank_maps(self, label: npt.NDArray[np.bool_]) -> Tensor:
        """Return (N, 1, R, R) uint8 maps for samples without one: all ones where the label is 1, else all zeros."""
        side = self.preprocessor.recipe.load_size
        ones = to_device(label.astype(np.uint8), self.nominal.device)
        return ones.view(-1, 1, 1, 1).repeat(1, 1, side, side)

    def _anomalies(self, raw: Tensor, where: Tensor, drawn: Draw | None, key: DrawKey) -> tuple[Tensor, Tensor | None]:
        """Return uint8 anomalies in place of `raw[where]`, and uint8 maps of their anomalous pixels or None."""
        if self.pool is not None and drawn is not None:
            return self.pool.take(drawn, raw.device)
        mode, source = self.settings.anomalies.mode, str(self.settings.anomalies.source)
        generator = self.streams.torch(key.stream, key.epoch, key.step, raw.device)
        noise = render(source, len(where), tuple(raw.shape[1:]), generator, raw.device)
        if mode == "noise":
            return noise.clamp(0, 255).to(torch.uint8), None
        malformed, changed = malform(raw[where], noise)
        return malformed, changed.to(torch.uint8) if mode == "malformed_normal_gt" else None


class _Slots(NamedTuple):
    """The samples of a batch that anomalies replace, on the device.

    With deterministic kernels a GPU sorts the index of `batch[index] = anomalies`, so no batch is assigned to.

    Attributes:
        replaced: (N, 1, 1, 1) bool.
        source: (N,) int64, for each replaced sample its number among them.
    """

    replaced: Tensor
    source: Tensor

    @classmethod
    def of(cls, replaced: npt.NDArray[np.bool_], device: torch.device) -> _Slots:
        """Return the slots of `replaced`, (N,) bool with at least one True."""
        source = np.maximum(replaced.cumsum() - 1, 0)
        return cls(to_device(replaced, device).view(-1, 1, 1, 1), to_device(source, device))

    def filled(self, batch: Tensor, others: Tensor) -> Tensor:
        """Return a (N, C, R, R) batch with `others`, one per replaced sample in their order, in the slots."""
        return torch.where(self.replaced, others[self.source], batch)


def in_batches(order: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """Split samples into batches of `size`; a single one left over joins the last batch, as batch norm needs two."""
    starts = list(range(0, len(order), size))
    if len(starts) > 1 and len(order) - starts[-1] == 1:
        starts.pop()
    return np.split(order, starts[1:])
