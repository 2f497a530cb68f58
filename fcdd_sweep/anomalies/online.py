"""Anomalies made from nominal images while training: pure functions of whole batches."""

from __future__ import annotations

import torch
from torch import Tensor

TOO_SLIGHT = 0.025
"""Grey levels by which noise must move an image's mean, or it is negated if that moves it more."""


def malform(images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Nominal images with noise added, and where they changed.

    Dark noise on a black image would change nothing. So the noise of an image is negated where adding it moves the
    mean of the image by less than `TOO_SLIGHT` and subtracting it moves the mean by more than adding does.

    Args:
        images: (N, C, H, W), whole grey levels 0..255 of any type.
        noise: (N, C, H, W) integers in grey levels, either sign.

    Returns:
        (N, C, H, W) uint8 images, and (N, 1, H, W) bool, True where any channel of a pixel changed.
    """
    clean = images.to(torch.int16)
    added, subtracted = (clean + noise).clamp_(0, 255), (clean - noise).clamp_(0, 255)
    moved, moved_back = _mean_shift(added, clean), _mean_shift(subtracted, clean)
    negate = (moved < TOO_SLIGHT) & (moved_back > moved)
    malformed = torch.where(negate.view(-1, 1, 1, 1), subtracted, added)
    return malformed.to(torch.uint8), (malformed != clean).any(dim=1, keepdim=True)


def _mean_shift(changed: Tensor, clean: Tensor) -> Tensor:
    """How far the mean of each image moved, (N,) in grey levels; the sum is exact."""
    difference = (changed - clean).flatten(start_dim=1)
    return difference.sum(dim=1).abs() / difference.shape[1]
