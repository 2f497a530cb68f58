"""Synthetic anomalies, rendered for whole batches at once. Source: Liznerski et al., ICLR 2021, and their program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fcdd_sweep.anomalies.chips import render_chips
from fcdd_sweep.anomalies.draws import Draws, GeneratorDraws
from fcdd_sweep.anomalies.registry import SOURCES
from fcdd_sweep.anomalies.spots import render_spots
from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.metrics.heatmap_values import gaussian_kernel

RenderShape = tuple[int, int, int]
"""Channels, height, width."""
GAUSSIAN_STD = 64.0
WHITE = 255
BLOB_STARTS, BLOB_SIDE = 0.002, 6
MIXED_STARTS, MIXED_SIDE = 1e-5, 34
"""Chance that a pixel is the center of a square, for mixed blobs that of a white one and that of a colored one."""
COLORED_STARTS, BLACK_STARTS = 1.8e-5, 1.2e-5
"""Chance that a pixel is the center of one of confetti's squares, in its two layers."""
BLACK = -255
SMALLEST_SIDE, LARGEST_SIDE = 8, 54
LARGEST_ANGLE = math.pi / 4
NEGLIGIBLE = 1e-9
"""Probability that an image should have more squares than are drawn."""
REACH = math.ceil(LARGEST_SIDE / 2 * math.sqrt(2) + 0.5)
"""No square reaches farther than this from its pixel."""
BLUR_TAPS, BLUR_STD = 25, 5.0
BAND = 48
"""Pixels per product of the blur; a tap reaches 12 pixels, so larger products would multiply by more zeros."""
CPU_CHUNK = 8 * 240 * 240
"""Pixels that are rendered together on a CPU, 8 of the paper's images; more do not fit in its cache."""


def render(
    source: str,
    n: int,
    shape: RenderShape,
    draws: Draws | torch.Generator | None = None,
) -> Tensor:
    """Return synthetic anomalies, or values to add to nominal images, in gray levels, on the device of the draws.

    Args:
        source: one of `anomalies.registry.SOURCES`.
        n: number of images, 0 or more.
        shape: channels, height and width.
        draws: the source of all draws, or a generator to take them from, whose equal states yield equal bits; None:
            torch's global generator.

    Returns:
        (n, c, h, w) int16. `confetti` -511..0, `gaussian`, `chips` and `spots` either sign, all others 0..255. Every
        image of `confetti`, `blob` and `mixed_blob` has at least one square, of `chips` a chip, of `spots` one spot.

    Raises:
        InputError: an unknown source, or confetti on images that its blur does not fit.
    """
    if source not in SOURCES:
        raise InputError(
            Problem("anomalies.source", f"unknown source '{source}'", ", ".join(SOURCES), closest(source, SOURCES))
        )
    if draws is None or isinstance(draws, torch.Generator):
        draws = GeneratorDraws(draws)
    return RENDERERS[source](n, shape, draws)


def _solid(n: int, shape: RenderShape, draws: Draws) -> Tensor:
    colors = draws.integers(0, 256, n, shape[0], 1, 1, dtype=torch.int16)
    return colors.expand(n, *shape).contiguous()


def _uniform(n: int, shape: RenderShape, draws: Draws) -> Tensor:
    return draws.integers(0, 256, n, *shape, dtype=torch.int16)


def _gaussian(n: int, shape: RenderShape, draws: Draws) -> Tensor:
    return draws.normal(n, *shape).mul_(GAUSSIAN_STD).to(torch.int16)


def _blob(n: int, shape: RenderShape, draws: Draws) -> Tensor:
    """Render white squares. There are so many that every pixel draws, and all squares grow at once."""
    drawn = draws.uniform(n, 1, *shape[1:])
    starts = (drawn < BLOB_STARTS) | (drawn == drawn.amin(dim=(2, 3), keepdim=True))
    # a square with an even side reaches one pixel farther down and right than up and left, as confetti's do
    seen_before, seen_after = BLOB_SIDE // 2, (BLOB_SIDE - 1) // 2
    padded = functional.pad(starts.float(), (seen_before, seen_after, seen_before, seen_after))
    return (functional.max_pool2d(padded, BLOB_SIDE, stride=1) * WHITE).to(torch.int16).repeat(1, shape[0], 1, 1)


def _mixed_blob(n: int, shape: RenderShape, draws: Draws) -> Tensor:
    """Render squares that are white or random in every pixel, with equal probability."""
    sides = (MIXED_SIDE, MIXED_SIDE)
    top, most = _topmost(n, (shape[1], shape[2]), _Squares(2 * MIXED_STARTS, sides, largest_angle=0.0), draws)
    is_white = draws.uniform(n, most + 1) < 0.5
    colors = draws.integers(0, 256, n, *shape, dtype=torch.int16)
    white, square = (flags.view(n, 1, *shape[1:]) for flags in (is_white.gather(1, top), top > 0))
    return colors.masked_fill_(white, WHITE).mul_(square)


def _confetti(n: int, shape: RenderShape, draws: Draws) -> Tensor:
    """Render a layer of colored and one of black squares, summed, blurred and cut to whole gray levels."""
    if min(shape[1:]) <= BLUR_TAPS // 2:
        found = f"confetti's blur needs images of more than {BLUR_TAPS // 2} px, found {shape[1]} x {shape[2]}"
        raise InputError(Problem("images.load_size", found, next_step="Use larger images or another source"))
    if draws.fixed:
        down, right = (_blur_matrix(size, draws.device) for size in shape[1:])
        return (down @ _squares(n, shape, draws) @ right.mT).to(torch.int16)
    noise = torch.empty((n, *shape), dtype=torch.int16, device=draws.device)
    together = max(1, CPU_CHUNK // math.prod(shape[1:])) if draws.device.type == "cpu" else max(n, 1)
    for part in noise.split(together):
        _blur(_squares(len(part), shape, draws), out=part)
    return noise


def _squares(n: int, shape: RenderShape, draws: Draws) -> Tensor:
    """Return confetti before the blur, (n, c, h, w) float32; each colored square has one color of -256..-1."""
    channels, height, width = shape
    top, most = _topmost(n, (height, width), _Squares(COLORED_STARTS), draws)
    black, _ = _topmost(n, (height, width), _Squares(BLACK_STARTS), draws)
    colors = draws.integers(-256, 0, n, channels, most + 1).float()
    colors[:, :, 0] = 0.0
    layers = colors.gather(2, top[:, None].expand(-1, channels, -1))
    return layers.add_(BLACK * (black > 0)[:, None]).view(n, *shape)


class _Squares(NamedTuple):
    """How squares are drawn: how often one starts in a pixel, their sides in pixels, and how far they are turned."""

    starts: float
    sides: tuple[int, int] = (SMALLEST_SIDE, LARGEST_SIDE)
    largest_angle: float = LARGEST_ANGLE


def _topmost(n: int, size: tuple[int, int], squares: _Squares, draws: Draws) -> tuple[Tensor, int]:
    """Return the top square of each pixel, (n, height * width), 0 for none, else its number from 1 on.

    The second value is the largest number of squares of an image. Later squares cover earlier ones. There is no loop
    over squares: of all numbers that are sent to a pixel the largest stays, in any order.
    """
    height, width = size
    before = _chance_of_fewer(squares.starts * height * width, draws.device)
    exists = draws.uniform(n, 1) >= before
    drawn = draws.uniform(n, len(before), 4)
    image, number = _which(exists, fixed=draws.fixed)
    rows, columns, inside = _rasterized(drawn[image, number], size, squares)
    inside &= exists[image, number].view(-1, 1, 1)
    pixel = (image[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
    top = torch.zeros(n * height * width, dtype=torch.int64, device=draws.device)
    sent = inside * (number + 1).view(-1, 1, 1)
    top.scatter_reduce_(0, pixel.flatten(), sent.flatten(), "amax")
    return top.view(n, height * width), len(before)


def _which(exists: Tensor, *, fixed: bool) -> tuple[Tensor, Tensor]:
    """Return image and number of the squares to draw: the existing ones, or all where shapes are fixed."""
    if not fixed:
        return exists.nonzero(as_tuple=True)
    image = torch.arange(exists.shape[0], device=exists.device).repeat_interleave(exists.shape[1])
    return image, torch.arange(exists.shape[1], device=exists.device).repeat(exists.shape[0])


def _rasterized(drawn: Tensor, size: tuple[int, int], squares: _Squares) -> tuple[Tensor, Tensor, Tensor]:
    """Return rotated squares from uniform numbers.

    Args:
        drawn: (B, 4) in 0..1: center's row, center's column, side, angle.
        size: height and width of the image.
        squares: sides are at most `LARGEST_SIDE`, angles in radians, either way.

    Returns:
        (B, P) rows and (B, Q) columns of the pixels around each center, moved into the image, and (B, P, Q) bool,
        which of them are in both the square and the image.
    """
    (height, width), sides, largest_angle = size, squares.sides, squares.largest_angle
    row, column = (drawn[:, 0] * height).long(), (drawn[:, 1] * width).long()
    side = (sides[0] + drawn[:, 2] * (sides[1] - sides[0] + 1)).floor().clamp(max=sides[1]).view(-1, 1, 1)
    angle = ((2 * drawn[:, 3] - 1) * largest_angle).view(-1, 1, 1)
    rows, columns = _around(row, height), _around(column, width)
    # A square with an even side has its middle between two pixels.
    down = (rows - row[:, None])[:, :, None] - (1 - side % 2) / 2
    right = (columns - column[:, None])[:, None, :] - (1 - side % 2) / 2
    along, across = angle.cos() * right + angle.sin() * down, angle.cos() * down - angle.sin() * right
    inside = torch.maximum(along.abs(), across.abs()) < side / 2
    inside &= ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    return rows.clamp(0, height - 1), columns.clamp(0, width - 1), inside


def _around(center: Tensor, size: int) -> Tensor:
    """Return the (B, P) pixels of an axis that squares around (B,) centers can reach: all of them if it is short."""
    if size <= 2 * REACH + 1:
        return torch.arange(size, device=center.device).expand(len(center), -1)
    return center[:, None] + torch.arange(-REACH, REACH + 1, device=center.device)


@lru_cache(maxsize=16)
def _chance_of_fewer(mean: float, device: torch.device) -> Tensor:
    """Return the probability of at most r squares, r = 0, 1, ..., if their number is Poisson with `mean` but never 0.

    Square r + 1 exists when a uniform number is not below entry r. The list ends where further ones are negligible.
    """
    chances, term = [0.0], mean / math.expm1(mean)
    while 1.0 - chances[-1] > NEGLIGIBLE:
        chances.append(chances[-1] + term)
        term *= mean / len(chances)
    return torch.tensor(chances[:-1], device=device)


def _blur(images: Tensor, out: Tensor) -> None:
    """Write the Gaussian blur of (n, c, h, w) float32, with reflected borders, into `out`, cut to whole numbers.

    Products with a banded matrix, band by band, are several times faster on a CPU than a convolution.
    """
    down, right = (_blur_matrix(size, images.device) for size in images.shape[2:])
    for rows, seen in _bands(images.shape[2]):
        band = down[rows, seen] @ images[:, :, seen, :]
        done = [band[..., seen] @ right[columns, seen].mT for columns, seen in _bands(images.shape[3])]
        out[:, :, rows, :] = torch.cat(done, dim=3)


def _bands(size: int) -> Iterator[tuple[slice, slice]]:
    """Yield bands of pixels that cover an axis, each with the pixels that enter its blur."""
    for first in range(0, size, BAND):
        last = min(first + BAND, size)
        yield slice(first, last), slice(max(0, first - BLUR_TAPS // 2), min(size, last + BLUR_TAPS // 2))


@lru_cache(maxsize=16)
def _blur_matrix(size: int, device: torch.device) -> Tensor:
    """Return (size, size): row y has the weights of all pixels of an axis in blurred pixel y, borders reflected."""
    kernel = gaussian_kernel(BLUR_TAPS, BLUR_STD)
    source = np.pad(np.arange(size), BLUR_TAPS // 2, mode="reflect")
    matrix = np.zeros((size, size))
    for tap, weight in enumerate(kernel / kernel.sum()):
        np.add.at(matrix, (np.arange(size), source[tap : tap + size]), weight)
    return torch.tensor(matrix, dtype=torch.float32, device=device)


Renderer = Callable[[int, RenderShape, Draws], Tensor]
"""n, shape, draws to (n, c, h, w) int16."""
RENDERERS: dict[str, Renderer] = {
    "confetti": _confetti,
    "solid": _solid,
    "gaussian": _gaussian,
    "uniform": _uniform,
    "blob": _blob,
    "mixed_blob": _mixed_blob,
    "chips": render_chips,
    "spots": render_spots,
}
"""One renderer per source of `anomalies.registry.SOURCES`."""
