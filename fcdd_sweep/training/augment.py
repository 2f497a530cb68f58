"""Augmentation of whole batches: cropping, flipping, color jitter and noise, on the device that holds the batch.

Images are (N, C, H, W) float in 0..1 unless a docstring states otherwise. Decisions per sample come from a numpy
generator on the host, which never waits for the device; noise comes from a torch generator on the batch's device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.training.device import to_device

_LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R 601), as torchvision's jitter uses them."""


def nearest_index(size: int, source: int) -> npt.NDArray[np.int64]:
    """Return which of `source` pixels each of `size` pixels shows when resized by nearest neighbor: (size,) int64."""
    return np.arange(size) * source // size


@dataclass(frozen=True)
class Geometry:
    """The source pixel that each output pixel shows, separately for rows and columns.

    Attributes:
        rows, columns: (N, S) int64; indices outside of the source show 0 (padding).
    """

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]

    def apply(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) of any dtype to (N, C, S, S) of that dtype, in one gather."""
        n, channels, height, width = images.shape
        rows, columns = (to_device(index, images.device) for index in (self.rows, self.columns))
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        flat = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
        side = rows.shape[1]
        gathered = images.flatten(2).gather(2, flat.flatten(1)[:, None].expand(-1, channels, -1))
        return gathered.view(n, channels, side, side) * inside[:, None]


def resized(n: int, raw: int, size: int) -> Geometry:
    """Return the geometry that resizes every image to size x size by nearest neighbor."""
    index = np.tile(nearest_index(size, raw), (n, 1))
    return Geometry(index, index)


def center_cropped(n: int, raw: int, size: int) -> Geometry:
    """Return the geometry of the central size x size pixels of every image."""
    index = np.tile(np.arange(size) + (raw - size) // 2, (n, 1))
    return Geometry(index, index)


def randomly_cropped(rng: np.random.Generator, n: int, raw: int, size: int, padding: int = 0) -> Geometry:
    """Return the geometry of a random size x size crop per image, with up to `padding` black pixels around it."""
    start = rng.integers(-padding, raw + padding - size + 1, size=(2, n, 1))
    return Geometry(start[0] + np.arange(size), start[1] + np.arange(size))


def choose_geometry(rng: np.random.Generator, first: Geometry, second: Geometry) -> Geometry:
    """Return for each image one of two geometries, with probability 0.5 each."""
    choice = rng.random((len(first.rows), 1)) < 0.5
    return Geometry(np.where(choice, first.rows, second.rows), np.where(choice, first.columns, second.columns))


def randomly_flipped(rng: np.random.Generator, geometry: Geometry) -> Geometry:
    """Return the geometry with each image mirrored left to right with probability 0.5."""
    flip = rng.random((len(geometry.rows), 1)) < 0.5
    return Geometry(geometry.rows, np.where(flip, geometry.columns[:, ::-1], geometry.columns))


@dataclass(frozen=True)
class Jitter:
    """Maximal relative changes of brightness, contrast and saturation, and the maximal hue shift in full turns."""

    brightness: float
    contrast: float
    saturation: float
    hue: float

    def amounts(self) -> npt.NDArray[np.float64]:
        return np.array([self.brightness, self.contrast, self.saturation, self.hue])


def color_jitter(rng: np.random.Generator, images: Tensor, choices: tuple[Jitter, ...]) -> Tensor:
    """Jitter each image by one of `choices`, with amounts drawn per image.

    Source: torchvision.transforms.ColorJitter.
    Departure: the order is always brightness, contrast, saturation, hue, where torchvision draws an order per sample;
    at the strengths in use (at most 0.1) the order changes less than a gray level.
    """
    n = len(images)
    strength = np.stack([jitter.amounts() for jitter in choices])[rng.integers(len(choices), size=n)]
    amounts = to_device((rng.uniform(-1, 1, (n, 4)) * strength).astype(np.float32), images.device)
    brightness, contrast, saturation, hue = amounts.view(n, 4, 1, 1, 1).unbind(1)
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


def gaussian_noise(generator: torch.Generator, images: Tensor, std: float | Tensor) -> Tensor:
    """Add independent Gaussian noise to every value; `std` in units of the images, or a tensor that broadcasts."""
    noise = torch.empty_like(images).normal_(generator=generator)
    return images + noise * std


def noise_on_half(rng: np.random.Generator, generator: torch.Generator, images: Tensor, share: float) -> Tensor:
    """Add noise to half of the images, with `share` times the image's standard deviation; clamp all to 0..1."""
    chosen = to_device(rng.random(len(images)) < 0.5, images.device)
    std = images.flatten(1).std(1) * share * chosen
    return gaussian_noise(generator, images, std.view(-1, 1, 1, 1)).clamp(0, 1)
