"""Slow, plain versions of what the package does quickly, written from the paper's description alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torchvision.transforms.v2.functional as tv
from scipy import ndimage
from torch import nn


def seen_pixels(network: nn.Module, in_shape: tuple[int, int, int], row: int, column: int) -> tuple[range, range]:
    """Rows and columns of the input that carry gradient for one output cell.

    The network is changed such that no gradient can cancel or be dropped: weights are positive, batch norms use fixed
    statistics, and windows are averaged, since a maximum would let gradient through to one of its pixels alone.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    for parameter in network.double().eval().parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    image = torch.rand(1, *in_shape, dtype=torch.float64, requires_grad=True)
    network(image)[0, 0, row, column].backward()
    seen = (image.grad[0] != 0).any(dim=0)
    rows, columns = seen.any(dim=1).nonzero(), seen.any(dim=0).nonzero()
    return range(int(rows.min()), int(rows.max()) + 1), range(int(columns.min()), int(columns.max()) + 1)


def slow_gaussian(size: int, std: float) -> list[float]:
    odd = size if size % 2 else size - 1
    values = [math.exp(-((i - odd // 2) ** 2) / (2 * std**2)) for i in range(odd)]
    if size % 2:
        return values
    middle = odd // 2
    return [v / 2 for v in (*values[:middle], values[middle], values[middle], *values[middle + 1 :])]


def slow_upsample(
    cells: np.ndarray, size: int, jump: int, shift: float, out_size: tuple[int, int], std: float
) -> np.ndarray:
    """One (U, V) map: every cell's Gaussian is placed on a large sheet, from which the image is cut."""
    kernel = np.outer(slow_gaussian(size, std), slow_gaussian(size, std))
    sheet = np.zeros(tuple((n - 1) * jump + size for n in cells.shape))
    for u in range(cells.shape[0]):
        for v in range(cells.shape[1]):
            sheet[u * jump : u * jump + size, v * jump : v * jump + size] += cells[u, v] * kernel
    image = np.zeros(out_size)
    start = (size - 1) // 2 - int(shift)
    for y in range(out_size[0]):
        for x in range(out_size[1]):
            if 0 <= y + start < sheet.shape[0] and 0 <= x + start < sheet.shape[1]:
                image[y, x] = sheet[y + start, x + start]
    return image


def slow_confetti(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    *,
    sides: tuple[int, int] = (8, 54),
    starts: float = 1.8e-5,
    blackest: int = -255,
) -> tuple[np.ndarray, int]:
    """One confetti image (c, h, w), square by square, and how many colored squares can be seen before the blur.

    The keywords change it into something that is not confetti, to show that the comparison notices.
    """
    colored, number = slow_layer(rng, shape, starts, sides, lambda: rng.integers(-256, 0, size=shape[0]))
    black, _ = slow_layer(rng, shape, 1.2e-5, sides, lambda: np.full(shape[0], blackest))
    taps = np.exp(-(np.arange(-12, 13) ** 2) / (2 * 5.0**2))
    blurred = colored + black
    for axis in (1, 2):
        blurred = ndimage.correlate1d(blurred, taps / taps.sum(), axis=axis, mode="mirror")
    return np.trunc(blurred), len(np.unique(number)) - bool((number == 0).any())


def slow_blobs(rng: np.random.Generator, shape: tuple[int, int, int], starts: float, side: int) -> np.ndarray:
    """White straight squares around the pixels that start one, (c, h, w); an image without any gets one somewhere."""
    begins = rng.random(shape[1:]) < starts
    if not begins.any():
        begins[rng.integers(shape[1]), rng.integers(shape[2])] = True
    image = np.zeros(shape)
    for row, column in np.argwhere(begins):
        top, left = row - (side - 1) // 2, column - (side - 1) // 2
        image[:, max(top, 0) : top + side, max(left, 0) : left + side] = 255
    return image


def slow_mixed_blobs(rng: np.random.Generator, shape: tuple[int, int, int], starts: float, side: int) -> np.ndarray:
    """White and colored straight squares, each starting with chance `starts`; later ones cover earlier ones, and an
    image without any begins again."""
    is_white = []

    def marked() -> np.ndarray:
        is_white.append(rng.random() < 0.5)
        return np.ones(shape[0])

    _, number = slow_layer(rng, shape, 2 * starts, (side, side), marked, largest_angle=0.0)
    image = np.zeros(shape)
    for row, column in np.argwhere(number > 0):
        white = is_white[number[row, column] - 1]
        image[:, row, column] = 255 if white else rng.integers(0, 256, size=shape[0])
    return image


def slow_layer(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    starts: float,
    sides: tuple[int, int],
    color: Callable[[], np.ndarray],
    largest_angle: float = math.pi / 4,
) -> tuple[np.ndarray, np.ndarray]:
    """Squares of random side and angle around every pixel that starts one; the pixels' colors and square numbers."""
    begins = rng.random(shape[1:]) < starts
    while not begins.any():
        begins = rng.random(shape[1:]) < starts
    layer, number = np.zeros(shape), np.zeros(shape[1:], dtype=int)
    for count, (row, column) in enumerate(np.argwhere(begins), start=1):
        side, angle = rng.integers(sides[0], sides[1] + 1), rng.uniform(-largest_angle, largest_angle)
        turn = np.exp(-1j * angle)
        middle = 0 if side % 2 else 0.5
        y, x = np.ogrid[: shape[1], : shape[2]]
        turned = ((x - column - middle) + 1j * (y - row - middle)) * turn
        inside = (np.abs(turned.real) < side / 2) & (np.abs(turned.imag) < side / 2)
        layer[:, inside], number[inside] = color()[:, None], count
    return layer, number


def slow_recipe(
    name: str,
    kind: str,
    size: int,
    raw: torch.Tensor,
    gt_maps: torch.Tensor,
    rng: np.random.Generator,
    generator: torch.Generator,
    *,
    maps: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Training input before it is scaled, (N, C, S, S) float64, and maps: the recipes of the paper, image by image.

    Draws are taken in the order in which the package takes them: places, flips, jitter, noise.
    """
    n, side, augments, lcn = len(raw), raw.shape[2], "aug1" in name, "lcn" in name
    crops, flips = augments and kind != "watermark", augments and kind not in ("watermark", "texture")
    padding = 0 if kind != "small" else 2 if lcn else 3 if size < 32 else 4
    mixes = crops and kind != "small" and (kind == "texture" or maps)
    places = rng.integers(-padding, side + padding - size + 1, size=(2, n, 1))[:, :, 0] if crops else None
    cropped = rng.random((n, 1))[:, 0] < 0.5 if mixes else np.full(n, crops)
    flipped = rng.random((n, 1))[:, 0] < 0.5 if flips else np.zeros(n, dtype=bool)
    plain = augments and not (kind == "small" and lcn)
    strength = 0.1 if kind == "small" and size < 32 else 0.01
    choices = [[strength] * 4] if kind != "texture" else [[0.04] * 4, [0.005, 0.0005, 0.0005, 0.0005]]
    which = rng.integers(len(choices), size=n) if plain else None
    amounts = rng.uniform(-1, 1, (n, 4)) if plain else None

    def placed(image: torch.Tensor, i: int) -> torch.Tensor:
        if not cropped[i]:
            image = torch.nn.functional.interpolate(image[None].double(), size=(size, size), mode="nearest")[0]
        else:
            padded = torch.nn.functional.pad(image, (padding,) * 4)
            top, left = places[:, i] + padding
            image = padded[:, top : top + size, left : left + size]
        return image.flip(2) if flipped[i] else image

    def jittered(image: torch.Tensor, i: int) -> torch.Tensor:
        if not plain:
            return image
        brightness, contrast, saturation, hue = amounts[i] * choices[which[i]]
        image = tv.adjust_contrast(tv.adjust_brightness(image, 1 + brightness), 1 + contrast)
        if len(image) == 1:
            return image
        return tv.adjust_hue(tv.adjust_saturation(image, 1 + saturation), hue)

    images, seen_maps = [], []
    for i, image in enumerate(raw.double() / 255):
        image = placed(jittered(image, i), i) if kind == "small" else jittered(placed(image, i), i)
        images.append(image)
        seen_maps.append(placed(gt_maps[i], i).to(torch.uint8))
    noisy = rng.random(n) < 0.5 if plain and kind == "texture" else np.full(n, plain)
    noise = torch.empty((n, *images[0].shape)).normal_(generator=generator) if plain else torch.zeros(n)
    for i, image in enumerate(images):
        if noisy[i] and kind == "texture":
            image = (image + noise[i] * 0.1 * image.std()).clamp(0, 1)
        elif noisy[i]:
            image = image + noise[i] * (0.01 if strength == 0.1 else 0.001)
        if "blackcenter" in name:
            center = torch.zeros(size, size, dtype=torch.bool)
            margin = int(0.2 * size)
            center[margin : size - margin, margin : size - margin] = True
            image = torch.where(center == name.endswith("_inverted"), image, 0.0)
        if lcn:
            image = image - image.mean()
            image = image / image.abs().mean()
        images[i] = image
    return torch.stack(images), torch.stack(seen_maps)
