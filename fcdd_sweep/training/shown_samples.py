"""What a trained detector says of training samples, for pictures: after augmentation, anomalies as they were made."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.metrics.shown_images import NO_MAP, shown_images
from fcdd_sweep.training.batches import BatchMaker
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.preprocessing import Preprocessor
from fcdd_sweep.training.scoring import references

PER_LABEL = 60
"""Samples of each label that pictures choose from; the first 20 are the preview of the training data."""
_TOGETHER = 20


def shown_samples(detector: Detector, batches: BatchMaker) -> dict[str, npt.NDArray[Any]]:
    """The arrays of `maps.npz` that begin with `train_`; see `results.tree.MAPS`."""
    batch = batches.preview(PER_LABEL)
    found = detector.detect_inputs(batch.inputs.split(_TOGETHER))
    label, score = batch.labels.to(torch.int8).cpu().numpy(), found.scores.numpy()
    kept = shown_images(label, score)
    arrays = {
        "label": label[kept],
        "score": score[kept],
        "anomaly_maps": found.maps[kept, 0].numpy(),
        **_shown(batch.inputs[torch.from_numpy(kept).to(batch.inputs.device)], label[kept], detector.preprocessor),
        **references(detector, label, found.maps),
    }
    if batch.gt_maps is not None:
        arrays["gt_maps"] = _told_apart(batch.gt_maps[:, 0].cpu().numpy()[kept])
    return {f"train_{name}": array for name, array in arrays.items()}


def _shown(inputs: Tensor, label: npt.NDArray[np.int8], preprocessor: Preprocessor) -> dict[str, npt.NDArray[Any]]:
    """(N, C, S, S) network input as uint8, and whether its brightness is relative: see `results.tree.MAPS`.

    The affine normalization is undone, which gives the images back. What the normalization of local contrast took is
    gone: those samples share one range, that of the nominal ones, as anomalies may lie far outside.
    """
    values = preprocessor.denormalized(inputs)
    low, high = torch.zeros(1, device=values.device), torch.ones(1, device=values.device)
    shared = preprocessor.recipe.local_contrast
    if shared and len(values):
        nominal = values[torch.from_numpy(label == label.min()).to(values.device)]
        low, high = nominal.amin(), nominal.amax()
    scaled = ((values - low) / (high - low).clamp_min(1e-6)).clamp(0, 1) * 255
    return {"images": scaled.round().to(torch.uint8).cpu().numpy(), "shared_range": np.array(shared)}


def _told_apart(gt_maps: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(N, S, S) of 0 and 1; 2 throughout for samples that were trained as anomalous throughout."""
    return np.where(gt_maps.all((1, 2), keepdims=True), np.uint8(NO_MAP), gt_maps)
