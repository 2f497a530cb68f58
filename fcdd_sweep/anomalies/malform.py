"""Anomalies made from nominal images by adding noise: pure functions of whole batches.

`malform` serves training online, `malform_once` makes anomalies once before training.
"""

from __future__ import annotations

import torch
from torch import Tensor

BRIGHT = 0.11 * 255
"""Gray levels above which noise is negated in a pixel."""


def malform_once(images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return nominal images with noise added, and where they changed.

    The noise of a pixel is negated where the mean of its channels is above `BRIGHT`, so that bright noise is also
    visible on a bright ground. Online, `malform` has another rule.

    Source: the offline noise of the program of Liznerski et al., ICLR 2021.

    Args:
        images: (N, C, H, W), whole gray levels 0..255 of any type.
        noise: (N, C, H, W) integers in gray levels, either sign.

    Returns:
        (N, C, H, W) uint8 images, and (N, 1, H, W) bool, True where any channel of a pixel changed.
    """
    clean = images.to(torch.int16)
    bright = clean.sum(dim=1, keepdim=True, dtype=torch.int32) > BRIGHT * clean.shape[1]
    malformed = torch.where(bright, clean - noise, clean + noise).clamp_(0, 255)
    return malformed.to(torch.uint8), (malformed != clean).any(dim=1, keepdim=True)


TOO_SLIGHT = 0.025
"""Gray levels by which noise must move an image's mean; otherwise it is negated if that moves the mean more."""


def malform(images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return nominal images with noise added, and where they changed.

    Dark noise on a black image would change nothing. So the noise of an image is negated if adding it moves the mean of
    the image by less than `TOO_SLIGHT` and subtracting it moves the mean by more.

    Source: the online supervision of the program of Liznerski et al., ICLR 2021.

    Args:
        images: (N, C, H, W), whole gray levels 0..255 of any type.
        noise: (N, C, H, W) integers in gray levels, either sign.

    Returns:
        (N, C, H, W) uint8 images, and (N, 1, H, W) bool, True where any channel of a pixel changed.
    """
    clean = images.to(torch.int16)
    added, subtracted = (clean + noise).clamp_(0, 255), (clean - noise).clamp_(0, 255)
    before = _sum(clean)
    moved, moved_back = (_sum(added) - before).abs(), (_sum(subtracted) - before).abs()
    negate = (moved < TOO_SLIGHT * clean.shape[1:].numel()) & (moved_back > moved)
    malformed = torch.where(negate.view(-1, 1, 1, 1), subtracted, added)
    return malformed.to(torch.uint8), (malformed != clean).any(dim=1, keepdim=True)


def _sum(images: Tensor) -> Tensor:
    """Return the exact sum, (N,) int64; int32, which is faster, can hold a channel of up to 2900 x 2900 pixels."""
    return images.sum(dim=(2, 3), dtype=torch.int32).sum(dim=1)
