"""Anomalies made from nominal images once, before training: pure functions of whole batches."""

from __future__ import annotations

import torch
from torch import Tensor

BRIGHT = 0.11 * 255
"""Grey levels above which noise is negated in a pixel."""


def malform_once(images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Nominal images with noise added, and where they changed.

    The noise of a pixel is negated where the mean of its channels is above `BRIGHT`: what brightens shows on dark
    ground and is turned into what darkens on bright ground. Online the rule is another one; see `online.malform`.

    Args:
        images: (N, C, H, W), whole grey levels 0..255 of any type.
        noise: (N, C, H, W) integers in grey levels, either sign.

    Returns:
        (N, C, H, W) uint8 images, and (N, 1, H, W) bool, True where any channel of a pixel changed.
    """
    clean = images.to(torch.int16)
    bright = clean.sum(dim=1, keepdim=True, dtype=torch.int32) > BRIGHT * clean.shape[1]
    malformed = torch.where(bright, clean - noise, clean + noise).clamp_(0, 255)
    return malformed.to(torch.uint8), (malformed != clean).any(dim=1, keepdim=True)
