"""Training batches: nominal images, some of them replaced by anomalies, augmented, with labels and maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.anomalies.malform import malform
from fcdd_sweep.anomalies.registry import SOURCES
from fcdd_sweep.anomalies.synthetic import render
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.training.anomaly_pools import AnomalyPool, StreamedPool, read_ahead
from fcdd_sweep.training.device import to_device
from fcdd_sweep.training.preprocessing import Preprocessor
from fcdd_sweep.training.streams import Stream, Streams


@dataclass(frozen=True)
class Batch:
    """Network input.

    Attributes:
        inputs: (N, C, S, S) float32.
        labels: (N,) int64, 0 drawn to the center, 1 pushed away.
        gt_maps: (N, 1, S, S) uint8, only when training on maps.
    """

    inputs: Tensor
    labels: Tensor
    gt_maps: Tensor | None


class Decisions(NamedTuple):
    """What the host decides of a batch before the device makes it.

    Attributes:
        replaced: (N,) bool, which samples are anomalies.
        drawn: what the pool needs to give as many as are replaced; None without a pool.
    """

    replaced: npt.NDArray[np.bool_]
    drawn: npt.NDArray[Any] | None


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batches of one trial from data that lies on the training device.

    A sample is a number below `len(nominal) + appended`: first the nominal images, then, offline, the anomalies.

    Attributes:
        settings: the trial's settings.
        nominal: (N, C, R, R) uint8.
        pool: anomalies to draw from; None where they are rendered while training or there are none.
        preprocessor: fitted on `nominal`.
        streams: the trial's random streams.
        appended: offline, how many anomalies follow the nominal images: the pool's in turn. 0 online.
    """

    settings: Settings
    nominal: Tensor
    pool: AnomalyPool | None
    preprocessor: Preprocessor
    streams: Streams
    appended: int = 0

    @property
    def makes_anomalies(self) -> bool:
        return self.settings.anomalies.mode != "unsupervised"

    @property
    def distinct_anomalies(self) -> int | None:
        """Distinct real or outlier-exposure anomalies that are used; None for synthetic ones and for none."""
        return None if self.pool is None or self.settings.anomalies.source in SOURCES else len(self.pool)

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Samples in the order of an epoch, each `passes_per_epoch` times."""
        n, passes = len(self.nominal) + self.appended, self.settings.training.passes_per_epoch
        return self.streams.numpy("order", epoch).permutation(n * passes) % n

    @property
    def unreadable(self) -> set[int]:
        """Numbers of exposure images that were drawn and could not be read; grows while images are read."""
        return self.pool.unreadable if isinstance(self.pool, StreamedPool) else set()

    def epoch(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """The batches of an epoch but the first `done`, which are not made, either.

        Images that lie elsewhere are read some steps before they are needed.
        """
        steps = list(enumerate(in_batches(self.order(epoch), self.settings.training.batch_size)))[done:]
        decisions = (partial(self._decided, chosen, epoch, step) for step, chosen in steps)
        streamed = isinstance(self.pool, StreamedPool)
        decided = read_ahead(decisions) if streamed else (decide() for decide in decisions)
        for (step, chosen), made in zip(steps, decided, strict=True):
            yield self._composed(chosen, made, "anomalies", epoch, step)

    def batch(self, chosen: npt.NDArray[np.int64], epoch: int, step: int) -> Batch:
        """A single batch: the samples `chosen`, under the draws of that epoch and step."""
        return self._composed(chosen, self._decided(chosen, epoch, step), "anomalies", epoch, step)

    def preview(self, count: int) -> Batch:
        """`count` nominal and, where the mode makes any, `count` anomalous samples, from a stream of their own."""
        chosen = np.arange(count) % len(self.nominal)
        if self.appended:
            chosen = np.concatenate([chosen, len(self.nominal) + np.arange(count) % self.appended])
            return self._composed(chosen, self._by_number(chosen), "preview", 0, 0)
        replaced = np.zeros(count, dtype=bool)
        if self.makes_anomalies:
            chosen, replaced = np.tile(chosen, 2), np.repeat([False, True], count)
        decided = self._drawn(replaced, self.streams.numpy("preview"))
        return self._composed(chosen, decided, "preview", 0, 0)

    def _decided(self, chosen: npt.NDArray[np.int64], epoch: int, step: int) -> Decisions:
        """Online each of the chosen nominal images is replaced with the given probability; offline labels are fixed."""
        if self.appended:
            return self._by_number(chosen)
        rng = self.streams.numpy("anomalies", epoch, step)
        probability = self.settings.anomalies.probability if self.makes_anomalies else 0.0
        return self._drawn(rng.random(len(chosen)) < probability, rng)

    def _by_number(self, chosen: npt.NDArray[np.int64]) -> Decisions:
        replaced = chosen >= len(self.nominal)
        return Decisions(replaced, (chosen[replaced] - len(self.nominal)) % len(self.pool or ()))

    def _drawn(self, replaced: npt.NDArray[np.bool_], rng: np.random.Generator) -> Decisions:
        drawn = self.pool.draw(rng, int(replaced.sum())) if self.pool is not None and replaced.any() else None
        return Decisions(replaced, drawn)

    def _composed(
        self, chosen: npt.NDArray[np.int64], decided: Decisions, stream: Stream, epoch: int, step: int
    ) -> Batch:
        device, replaced = self.nominal.device, decided.replaced
        raw = self.nominal[to_device(chosen % len(self.nominal), device)]
        label = replaced ^ bool(self.settings.images.nominal_label)
        on_maps = self.settings.training.supervision == "maps"
        gt_maps = self._blank_maps(label) if on_maps else None
        if replaced.any():
            where = to_device(np.flatnonzero(replaced), device)
            anomalies, changed = self._anomalies(raw, where, decided.drawn, stream, epoch, step)
            raw[where] = anomalies
            if gt_maps is not None and changed is not None and not self.settings.images.nominal_label:
                gt_maps[where] = changed
        prepared = self.preprocessor.train(raw, gt_maps, self.streams, epoch, step)
        labels = to_device(label.astype(np.int64), device)
        return Batch(prepared[0], labels, prepared[1] if on_maps else None)

    def _blank_maps(self, label: npt.NDArray[np.bool_]) -> Tensor:
        """Maps of samples that have none of their own: all ones where the label is 1."""
        raw = self.preprocessor.recipe.load_size
        ones = to_device(label.astype(np.uint8), self.nominal.device)
        return ones.view(-1, 1, 1, 1).repeat(1, 1, raw, raw)

    def _anomalies(
        self, raw: Tensor, where: Tensor, drawn: npt.NDArray[Any] | None, stream: Stream, epoch: int, step: int
    ) -> tuple[Tensor, Tensor | None]:
        """What takes the place of `raw[where]`, uint8, and maps of what is anomalous in it where the mode knows."""
        if self.pool is not None and drawn is not None:
            return self.pool.take(drawn, raw.device)
        mode, source = self.settings.anomalies.mode, str(self.settings.anomalies.source)
        generator = self.streams.torch(stream, epoch, step, raw.device)
        noise = render(source, len(where), tuple(raw.shape[1:]), generator, raw.device)
        if mode == "noise":
            return noise.clamp(0, 255).to(torch.uint8), None
        malformed, changed = malform(raw[where], noise)
        return malformed, changed.to(torch.uint8) if mode == "malformed_normal_gt" else None


def in_batches(order: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """Batches of `size`; a single sample left over joins the batch before it, as batch norm needs company."""
    starts = list(range(0, len(order), size))
    if len(starts) > 1 and len(order) - starts[-1] == 1:
        starts.pop()
    return np.split(order, starts[1:])
