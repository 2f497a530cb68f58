"""From a step's row and data on the device to a batch: network input, labels and maps.

Nothing here waits for the device or draws on the host. On a GPU all shapes are fixed, so that a CUDA graph can repeat
the work: an anomaly is rendered in place of every sample, and the replaced ones are chosen by `torch.where`. On a CPU
anomalies are rendered for the replaced samples alone, which takes half of the time and other draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fcdd_sweep.anomalies.draws import CounterDraws, Draws, GeneratorDraws
from fcdd_sweep.anomalies.malform import malform
from fcdd_sweep.anomalies.synthetic import render
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.training.anomaly_pools import ResidentPool
from fcdd_sweep.training.preprocessing import Preprocessor
from fcdd_sweep.training.step_plan import ANOMALIES, AUGMENTATION, StepPlan


@dataclass(frozen=True)
class Batch:
    """Network input.

    Attributes:
        inputs: (N, C, S, S) float32.
        labels: (N,) int64, 0 is pulled to the center, 1 is pushed away.
        gt_maps: (N, 1, S, S) uint8 of 0 and 1; None unless `training.supervision` is `maps`.
        front: what the network's frozen front makes of the inputs, where that is known already.
    """

    inputs: Tensor
    labels: Tensor
    gt_maps: Tensor | None
    front: Tensor | None = None


@dataclass(frozen=True)
class Composer:
    """Makes batches of one trial's data.

    Attributes:
        settings: the trial's settings.
        nominal: (n, C, R, R) uint8.
        pool: anomalies on the device; None where they are rendered or read while training, or there are none.
        preprocessor: fitted on `nominal`.
        fixed: whether shapes must not depend on values, and draws not on the device.
    """

    settings: Settings
    nominal: Tensor
    pool: ResidentPool | None
    preprocessor: Preprocessor
    fixed: bool

    def compose(self, plan: StepPlan) -> Batch:
        """Gather nominal images, put anomalies in place of the replaced ones, and augment all."""
        swapped = bool(self.settings.images.nominal_label)
        label = ~plan.replaced if swapped else plan.replaced
        raw, gt_maps = self.nominal.index_select(0, plan.pick), self._blank_maps(label)
        if self.fixed or bool(plan.replaced.any()):
            raw, marked = self._with_anomalies(raw, gt_maps, plan)
            gt_maps = gt_maps if swapped else marked
        draws = self.draws(plan.keys[AUGMENTATION])
        inputs, gt_maps = self.preprocessor.train(raw, gt_maps, plan.augmentation, draws)
        return Batch(inputs, label.to(torch.int64), gt_maps)

    def draws(self, key: Tensor) -> Draws:
        """Return the draws under a key, int64 without axes."""
        return CounterDraws(key) if self.fixed else GeneratorDraws(torch.Generator(key.device).manual_seed(int(key)))

    def _blank_maps(self, label: Tensor) -> Tensor | None:
        """Return (N, 1, R, R) uint8 maps for samples without one: all ones where the label is 1, else all zeros."""
        if self.settings.training.supervision != "maps":
            return None
        side = self.preprocessor.recipe.load_size
        return label.to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, side, side)

    def _with_anomalies(self, raw: Tensor, gt_maps: Tensor | None, plan: StepPlan) -> tuple[Tensor, Tensor | None]:
        """Return images and maps with anomalies, and the maps of their anomalous pixels, in the replaced samples."""
        pool = self.pool if plan.pixels is None else ResidentPool(plan.pixels)
        if pool is None and self.settings.anomalies.mode == "unsupervised":
            return raw, gt_maps
        if not self.fixed:
            where = plan.replaced.nonzero()[:, 0]
            anomalies, changed = self._rendered(raw[where], plan) if pool is None else pool.take(plan.drawn[where])
            marked = gt_maps if gt_maps is None or changed is None else gt_maps.index_copy(0, where, changed)
            return raw.index_copy(0, where, anomalies), marked
        anomalies, changed = self._rendered(raw, plan) if pool is None else pool.take(plan.drawn)
        slots = plan.replaced.view(-1, 1, 1, 1)
        marked = gt_maps if gt_maps is None or changed is None else torch.where(slots, changed, gt_maps)
        return torch.where(slots, anomalies, raw), marked

    def _rendered(self, raw: Tensor, plan: StepPlan) -> tuple[Tensor, Tensor | None]:
        """Return uint8 anomalies in place of `raw`, and uint8 maps of their anomalous pixels or None."""
        mode, source = self.settings.anomalies.mode, str(self.settings.anomalies.source)
        shape = (raw.shape[1], raw.shape[2], raw.shape[3])
        noise = render(source, len(raw), shape, self.draws(plan.keys[ANOMALIES]))
        if mode == "noise":
            return noise.clamp(0, 255).to(torch.uint8), None
        malformed, changed = malform(raw, noise)
        return malformed, changed.to(torch.uint8) if mode == "malformed_normal_gt" else None
