"""Transforms of whole batches of images."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def local_contrast_normalization(images: Tensor, scale: Literal["l1", "l2"] = "l1") -> Tensor:
    """Center each image by its mean and divide it by its spread, over all channels and pixels together.

    Args:
        images: (N, C, H, W) floating point.
        scale: `l1` divides by the mean absolute value of the centered image, `l2` by the square root of its sum of
            squares over the number of its values, which is not the standard deviation.

    Returns:
        (N, C, H, W), 0 where an image is constant.

    Source: Ruff et al., ICML 2018, preprocessing; Liznerski et al., ICLR 2021, and their program.
    """
    centered = images - images.mean(dim=(1, 2, 3), keepdim=True)
    if scale == "l1":
        spread = centered.abs().mean(dim=(1, 2, 3), keepdim=True)
    else:
        spread = centered.square().sum(dim=(1, 2, 3), keepdim=True).sqrt() / centered.shape[1:].numel()
    # Rounding leaves a constant image a tiny spread, so constancy is tested on the images themselves.
    low, high = images.flatten(1).aminmax(dim=1)
    constant = (low == high).view(-1, 1, 1, 1)
    return torch.where(constant, 0.0, centered / spread)
