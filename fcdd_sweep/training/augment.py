"""Augmentation of whole batches: cropping, flipping, color jitter and noise, on the device that holds the batch.

Images are (N, C, H, W) float in 0..1 unless a docstring states otherwise. What is decided for each sample is drawn by
the host and given as tensors on the device; noise is drawn on the batch's device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from fcdd_sweep.anomalies.draws import Draws, HostGenerator

_LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R 601), as torchvision's jitter uses them."""


def nearest_index(size: int, source: int) -> npt.NDArray[np.int64]:
    """Return which of `source` pixels each of `size` pixels shows when resized by nearest neighbor: (size,) int64."""
    return np.arange(size) * source // size


@dataclass(frozen=True)
class Geometry:
    """The source pixel that each output pixel shows, separately for rows and columns.

    Attributes:
        rows, columns: (N, S) int64, or (1, S) for all images alike; indices outside of the source show 0 (padding).
    """

    rows: Tensor
    columns: Tensor

    def apply(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) of any dtype to new (N, C, S, S) of that dtype, in one gather from framed images."""
        n, channels, height, width = images.shape
        framed = pad(images, (1, 1, 1, 1))
        rows = self.rows.to(images.device).clamp(-1, height) + 1
        columns = self.columns.to(images.device).clamp(-1, width) + 1
        flat = rows[:, :, None] * (width + 2) + columns[:, None, :]
        side = rows.shape[1]
        gathered = framed.flatten(2).gather(2, flat.flatten(1)[:, None].expand(n, channels, -1))
        return gathered.view(n, channels, side, side)


def resized(raw: int, size: int, device: torch.device | None = None) -> Geometry:
    """Return the geometry that resizes every image to size x size by nearest neighbor."""
    index = (torch.arange(size, device=device) * raw // size)[None]
    return Geometry(index, index)


def center_cropped(raw: int, size: int) -> Geometry:
    """Return the geometry of the central size x size pixels of every image."""
    index = (torch.arange(size) + (raw - size) // 2)[None]
    return Geometry(index, index)


def cropped(top: Tensor, left: Tensor, size: int) -> Geometry:
    """Return the geometry of crops that begin at row `top` and column `left`, (N,) int64 each, which may be below 0."""
    pixel = torch.arange(size, device=top.device)
    return Geometry(top[:, None] + pixel, left[:, None] + pixel)


def chosen(choice: Tensor, first: Geometry, second: Geometry) -> Geometry:
    """Return for each image the first geometry where `choice`, (N,) bool, is true, else the second."""
    by_image = choice[:, None]
    rows, columns = torch.where(by_image, first.rows, second.rows), torch.where(by_image, first.columns, second.columns)
    return Geometry(rows, columns)


def flipped(flip: Tensor, geometry: Geometry) -> Geometry:
    """Return the geometry with the images mirrored left to right where `flip`, (N,) bool, is true."""
    return Geometry(geometry.rows, torch.where(flip[:, None], geometry.columns.flip(1), geometry.columns))


class Jitter(NamedTuple):
    """Maximal relative changes of brightness, contrast and saturation, and the maximal hue shift in full turns."""

    brightness: float
    contrast: float
    saturation: float
    hue: float


def draw_jitter(rng: HostGenerator, n: int, choices: tuple[Jitter, ...]) -> npt.NDArray[np.float32]:
    """Draw changes of brightness, contrast, saturation and hue, (n, 4), each image's by one of `choices`."""
    strength = np.array(choices)[rng.integers(0, len(choices), size=n)]
    return (rng.uniform(-1, 1, size=(n, 4)) * strength).astype(np.float32)


def color_jitter(images: Tensor, amounts: Tensor) -> Tensor:
    """Jitter each image by its amounts, (N, 4) float32, see `draw_jitter`.

    Source: torchvision.transforms.ColorJitter.
    Departure: the order is always brightness, contrast, saturation, hue, where torchvision draws an order per sample;
    at the strengths in use (at most 0.1) the order changes less than a gray level.
    """
    brightness, contrast, saturation, hue = amounts.view(len(images), 4, 1, 1, 1).unbind(1)
    images = (images * (1 + brightness)).clamp(0, 1)
    mean = _gray(images).mean((1, 2, 3), keepdim=True)
    images = torch.lerp(mean.expand_as(images), images, 1 + contrast).clamp(0, 1)
    if images.shape[1] == 1:
        return images
    images = torch.lerp(_gray(images).expand_as(images), images, 1 + saturation).clamp(0, 1)
    return shift_hue(images, hue[:, 0])


def _gray(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, 1)
    return red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Shift the hue of (N, 3, H, W) images by `turns`, in full turns, broadcastable to (N, H, W).

    The color wheel is piecewise linear: with V the largest and m the smallest channel, channel k is
    V - (V - m) * clip(min(h_k, 4 - h_k), 0, 1) where h_k is the hue in sixths relative to that channel (the HSV to RGB
    conversion in closed form).
    """
    top, bottom = images.amax(1), images.amin(1)
    chroma = top - bottom
    red, green, blue = images.unbind(1)
    safe = chroma.clamp_min(1e-12)
    hue = torch.where(
        top == red,
        (green - blue) / safe,
        torch.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue + 6 * turns
    channels = []
    for offset in (5, 3, 1):
        relative = torch.remainder(hue + offset, 6)
        channels.append(top - chroma * torch.minimum(relative, 4 - relative).clamp(0, 1))
    return torch.stack(channels, 1)


def blackened(images: Tensor, *, inverted: bool) -> Tensor:
    """Set the central square of images, 60% of either side, to 0; `inverted`: everything but that square."""
    height, width = images.shape[2:]
    top, left = height * 2 // 10, width * 2 // 10
    center = torch.zeros((height, width), dtype=torch.bool, device=images.device)
    center[top : height - top, left : width - left] = True
    return images * (center if inverted else ~center)


def gaussian_noise(draws: Draws, images: Tensor, std: float | Tensor) -> Tensor:
    """Add independent Gaussian noise to every value; `std` in units of the images, or a tensor that broadcasts."""
    return images + draws.normal(*images.shape) * std


def noise_on_some(noisy: Tensor, draws: Draws, images: Tensor, share: float) -> Tensor:
    """Add noise where `noisy`, (N,) bool, with `share` times the image's standard deviation; clamp all to 0..1."""
    std = images.flatten(1).std(1) * share * noisy
    return gaussian_noise(draws, images, std.view(-1, 1, 1, 1)).clamp(0, 1)
