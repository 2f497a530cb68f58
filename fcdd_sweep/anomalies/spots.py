"""Spots: small round synthetic anomalies, for the choice of an image score.

Every other source but chips changes a large part of small images, so the mean of the map ranks its anomalies as well as
the largest values do, and nothing says that a small defect would be lost in a mean.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fcdd_sweep.anomalies.draws import Draws

DIAMETER = (0.04, 0.1)
"""Of a spot, as a share of the image's shorter side; logarithms are uniform."""
STRETCH = 2.0
"""Length of a spot over its width, at most; logarithms are uniform."""
SPOT_STRENGTH = (100.0, 200.0)
"""Gray levels in the middle of a spot, of each channel; less towards its rim, as on half a ball."""


def render_spots(n: int, shape: tuple[int, int, int], draws: Draws) -> Tensor:
    """Return values to add to nominal images, in gray levels: (n, c, h, w) int16, of one sign in each image.

    Each image has one spot, turned at random; its middle is a pixel of the image.
    """
    channels, height, width = shape
    drawn = draws.uniform(n, 6 + channels)
    row, column, size, long, turn, sign = (part.view(-1, 1, 1) for part in drawn[:, :6].unbind(1))
    down = torch.arange(height, device=draws.device).view(1, -1, 1) - (row * height).floor()
    right = torch.arange(width, device=draws.device).view(1, 1, -1) - (column * width).floor()
    radius = min(height, width) * DIAMETER[0] * (DIAMETER[1] / DIAMETER[0]) ** size / 2
    stretch, angle = STRETCH ** (long / 2), math.pi * turn
    along = (angle.cos() * right + angle.sin() * down) / (radius * stretch)
    across = (angle.cos() * down - angle.sin() * right) / (radius / stretch)
    height_of_ball = (1 - along.square() - across.square()).clamp(min=0).sqrt()
    color = SPOT_STRENGTH[0] + (SPOT_STRENGTH[1] - SPOT_STRENGTH[0]) * drawn[:, 6:].view(n, channels, 1, 1)
    return (torch.where(sign < 0.5, -height_of_ball, height_of_ball)[:, None] * color).round().to(torch.int16)
