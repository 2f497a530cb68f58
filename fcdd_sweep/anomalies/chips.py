"""Chips: our own synthetic anomalies, from specks to bars, sharp or soft, lighter or darker than the image.

Unlike confetti's squares, whose sides are 8 to 54 px and which a blur of 5 px softens, chips are sized as shares of the
image, so that they fit small images, and some are as small and as sharp as a scratch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fcdd_sweep.anomalies.draws import Draws

MOST_CHIPS = 4
"""An image has 1 to this many chips, each number with the same chance."""
LENGTH = (0.03, 0.4)
"""Shortest and longest chip, as a share of the image's shorter side; logarithms of lengths are uniform."""
SLENDERNESS = 8.0
"""Longest side of a chip over its shortest, at most; logarithms are uniform."""
THINNEST = 1.5
"""Pixels below which no chip is thinner."""
SOFTNESS = (0.5, 3.0)
"""Width in pixels over which a chip's edge fades: most are sharp."""
CHIP_STRENGTH = (32.0, 160.0)
"""Gray levels by which a chip changes an image; a channel takes half to one and a half of it."""
FAINT = 0.05
"""Cover below this is not drawn."""


def render_chips(n: int, shape: tuple[int, int, int], draws: Draws) -> Tensor:
    """Return values to add to nominal images, in gray levels: (n, c, h, w) int16, either sign.

    Chips are rotated rectangles of one color each; later ones cover earlier ones. Each image has at least one.
    """
    channels, height, width = shape
    drawn = draws.uniform(n, MOST_CHIPS, 8 + channels)
    number = 1 + (drawn[:, 0, 0] * MOST_CHIPS).long()
    rows = torch.arange(height, device=draws.device, dtype=torch.float32).view(1, height, 1)
    columns = torch.arange(width, device=draws.device, dtype=torch.float32).view(1, 1, width)
    noise = torch.zeros((n, *shape), device=draws.device)
    for place in range(MOST_CHIPS):
        chip = drawn[:, place]
        cover = _cover(chip[:, 1:7], rows, columns) * (place < number).view(n, 1, 1)
        color = _strength(chip[:, 7]).view(n, 1) * (0.5 + chip[:, 8:])
        noise = torch.where(cover[:, None] > FAINT, cover[:, None] * color.view(n, channels, 1, 1), noise)
    return noise.round().to(torch.int16)


def _cover(drawn: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return how far a rectangle covers each pixel, (n, h, w) from 0 to 1.

    Args:
        drawn: (n, 6) in 0..1: row and column of the middle, length, slenderness, angle, softness.
        rows, columns: (1, h, 1) and (1, 1, w) of the image's pixels.
    """
    height, width = rows.shape[1], columns.shape[2]
    row, column, length, slender, turn, soft = (part.view(-1, 1, 1) for part in drawn.unbind(1))
    down, right = rows - (row * height).floor(), columns - (column * width).floor()
    long = (min(height, width) * LENGTH[0] * (LENGTH[1] / LENGTH[0]) ** length).clamp_min(THINNEST)
    short = (long / SLENDERNESS**slender).clamp_min(THINNEST)
    angle, fade = math.pi * turn, SOFTNESS[0] + (SOFTNESS[1] - SOFTNESS[0]) * soft.square()
    along = (angle.cos() * right + angle.sin() * down).abs() - long / 2
    across = (angle.cos() * down - angle.sin() * right).abs() - short / 2
    return (0.5 - along / fade).clamp(0, 1) * (0.5 - across / fade).clamp(0, 1)


def _strength(drawn: Tensor) -> Tensor:
    """Return signed gray levels of uniform numbers: the lower half of them darkens, the upper half lightens."""
    signed = 2 * drawn - 1
    return signed.sign() * (CHIP_STRENGTH[0] + (CHIP_STRENGTH[1] - CHIP_STRENGTH[0]) * signed.abs())
