"""What a trained detector says of training samples, for pictures: after augmentation, anomalies as they were made."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.metrics.pictured import pictured
from fcdd_sweep.training.batches import BatchMaker
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.scoring import references

PER_LABEL = 60
"""Samples of each label that pictures choose from; the first 20 are the preview of the training data."""
_TOGETHER = 20


def training_pictures(detector: Detector, batches: BatchMaker) -> dict[str, npt.NDArray[Any]]:
    """The arrays of `maps.npz` that begin with `train_`; see `results.tree.MAPS`."""
    batch = batches.preview(PER_LABEL)
    found = detector.detect_inputs(batch.inputs.split(_TOGETHER))
    label, score = batch.labels.to(torch.int8).cpu().numpy(), found.scores.numpy()
    kept = pictured(label, score)
    arrays = {
        "label": label[kept],
        "score": score[kept],
        "anomaly_maps": found.maps[kept, 0].numpy(),
        "images": _shown(batch.inputs[torch.from_numpy(kept).to(batch.inputs.device)]),
        **references(detector, label, found.maps),
    }
    if batch.gt_maps is not None:
        arrays["gt_maps"] = batch.gt_maps[:, 0].cpu().numpy()[kept]
    return {f"train_{name}": array for name, array in arrays.items()}


def _shown(inputs: Tensor) -> npt.NDArray[np.uint8]:
    """(N, C, S, S) network input as uint8, each sample scaled to its own range."""
    low, high = inputs.amin((1, 2, 3), keepdim=True), inputs.amax((1, 2, 3), keepdim=True)
    scaled = (inputs - low) / (high - low).clamp_min(1e-6) * 255
    return scaled.round().to(torch.uint8).cpu().numpy()
