"""Training batches: nominal images, some of them replaced by anomalies, augmented, with labels and maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.anomalies.online import malform
from fcdd_sweep.anomalies.synthetic import render
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.training.device import to_device
from fcdd_sweep.training.preprocessing import Preprocessor
from fcdd_sweep.training.streams import Stream, Streams


@dataclass(frozen=True)
class Pool:
    """Distinct anomalies to draw from: outlier exposure, or real ones of the training split.

    Attributes:
        images: (M, C, R, R) uint8 on the training device.
        gt_maps: (M, 1, R, R) uint8 of 0 and 1, or None where the data has no maps.
    """

    images: Tensor
    gt_maps: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Network input.

    Attributes:
        inputs: (N, C, S, S) float32.
        labels: (N,) int64, 0 drawn to the centre, 1 pushed away.
        gt_maps: (N, 1, S, S) uint8, only when training on maps.
    """

    inputs: Tensor
    labels: Tensor
    gt_maps: Tensor | None


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batches of one trial from data that lies on the training device.

    Attributes:
        settings: the trial's settings.
        nominal: (N, C, R, R) uint8.
        pool: anomalies to draw from, when the mode draws from any.
        preprocessor: fitted on `nominal`.
        streams: the trial's random streams.
    """

    settings: Settings
    nominal: Tensor
    pool: Pool | None
    preprocessor: Preprocessor
    streams: Streams

    @property
    def makes_anomalies(self) -> bool:
        return self.settings.anomalies.mode != "unsupervised"

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Indices into the nominal images in the order of an epoch, each `passes_per_epoch` times."""
        n, passes = len(self.nominal), self.settings.training.passes_per_epoch
        return self.streams.numpy("order", epoch).permutation(n * passes) % n

    def batch(self, chosen: npt.NDArray[np.int64], epoch: int, step: int) -> Batch:
        """Online supervision: each of the chosen nominal images is replaced with the given probability."""
        rng = self.streams.numpy("anomalies", epoch, step)
        probability = self.settings.anomalies.probability if self.makes_anomalies else 0.0
        replaced = rng.random(len(chosen)) < probability
        return self._composed(chosen, replaced, rng, "anomalies", epoch, step)

    def preview(self, count: int) -> Batch:
        """`count` nominal and, where the mode makes any, `count` anomalous samples, from a stream of their own."""
        rng = self.streams.numpy("preview")
        chosen = np.arange(count) % len(self.nominal)
        replaced = np.zeros(count, dtype=bool)
        if self.makes_anomalies:
            chosen, replaced = np.tile(chosen, 2), np.repeat([False, True], count)
        return self._composed(chosen, replaced, rng, "preview", 0, 0)

    def _composed(
        self,
        chosen: npt.NDArray[np.int64],
        replaced: npt.NDArray[np.bool_],
        rng: np.random.Generator,
        stream: Stream,
        epoch: int,
        step: int,
    ) -> Batch:
        device = self.nominal.device
        raw = self.nominal[to_device(chosen, device)]
        label = replaced ^ bool(self.settings.images.nominal_label)
        on_maps = self.settings.training.supervision == "maps"
        gt_maps = self._blank_maps(label) if on_maps else None
        if replaced.any():
            where = to_device(np.flatnonzero(replaced), device)
            generator = self.streams.torch(stream, epoch, step, device)
            anomalies, changed = self._anomalies(raw[where], rng, generator)
            raw[where] = anomalies
            if gt_maps is not None and changed is not None and not self.settings.images.nominal_label:
                gt_maps[where] = changed
        prepared = self.preprocessor.train(raw, gt_maps, self.streams, epoch, step)
        labels = to_device(label.astype(np.int64), device)
        return Batch(prepared[0], labels, prepared[1] if on_maps else None)

    def _blank_maps(self, label: npt.NDArray[np.bool_]) -> Tensor:
        """Maps of samples that have none of their own: all ones where the label is 1."""
        raw = self.preprocessor.recipe.raw_size
        ones = to_device(label.astype(np.uint8), self.nominal.device)
        return ones.view(-1, 1, 1, 1).repeat(1, 1, raw, raw)

    def _anomalies(
        self, nominal: Tensor, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """What takes the place of `nominal`, uint8, and maps of what is anomalous in it where the mode knows."""
        if self.pool is not None:
            drawn = to_device(rng.integers(len(self.pool.images), size=len(nominal)), nominal.device)
            return self.pool.images[drawn], None if self.pool.gt_maps is None else self.pool.gt_maps[drawn]
        mode, source = self.settings.anomalies.mode, str(self.settings.anomalies.source)
        noise = render(source, len(nominal), tuple(nominal.shape[1:]), generator, nominal.device)
        if mode == "noise":
            return noise.clamp(0, 255).to(torch.uint8), None
        malformed, changed = malform(nominal, noise)
        return malformed.to(torch.uint8), changed.to(torch.uint8) if mode == "malformed_normal_gt" else None
