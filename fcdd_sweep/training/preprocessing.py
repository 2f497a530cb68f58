"""From raw uint8 batches to network input: the paper's recipes by name and kind of data set.

Source: the paper's appendix, section 7, as the authors' program implements it. The recipe of each kind of data set:

- `small` (28 and 32 px): `aug1` jitters, crops with padding, flips, adds noise; `lcnaug1` crops with padding 2 and
  flips. The paper has no `lcnaug1` at 32 px; the recipe for 28 px is used.
- `texture` (MVTec-AD): a random crop or the whole image shrunk; strong or weak jitter; noise on half of the images.
- `photo` (own images) and `imagenet`: flip, random crop, jitter, noise; trained on maps, a crop or the whole image
  shrunk. Tested on the central crop, or trained on maps on the whole image.
- `watermark` (VOC): the whole image shrunk, never cropped or flipped, so that the mark stays; jitter, noise.

`none` and `lcn` do not augment and show the whole image shrunk to `images.size`; `lcn` and `lcnaug1` normalize by local
contrast, then to the range of the nominal training images; the others by their mean and standard deviation per channel,
`imagenet` by constants. `aug1_blackcenter` is `aug1` with the central 60% of every side black, in training only, and
`aug1_blackcenter_inverted` with all but that: black is 0 on the images' scale of 0..1, set after the noise and before
the images are normalized.

Departure: the paper jitters `photo` and `imagenet` before cropping. At its strength of 0.01 the order matters by less
than a gray level, as it does in `augment.color_jitter`. Only with padding, in `small`, the paper's order is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from fcdd_sweep.anomalies.draws import Draws, HostGenerator
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.data.registry import DATA_SETS
from fcdd_sweep.training import augment
from fcdd_sweep.training.augment import Geometry, Jitter

_PLAIN, _STRONG = ((Jitter(each, each, each, each),) for each in (0.01, 0.1))
_TEXTURE_JITTER = (Jitter(0.04, 0.04, 0.04, 0.04), Jitter(0.005, 0.0005, 0.0005, 0.0005))
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel, for images in 0..1; the normalization of torchvision's ImageNet weights."""
_CHUNK = 256
"""Images whose statistics are accumulated together."""


class Augmentation(NamedTuple):
    """What is decided for each of N training samples: arrays on the host, numbers for all alike, or device tensors.

    Attributes:
        top, left: (N,) int64, first row and column of the crop; below 0 in the padding.
        whole: (N,) bool, whether the whole image is shown shrunk instead.
        flipped: (N,) bool, whether it is mirrored left to right.
        noisy: (N,) bool, whether it gets noise.
        jitter: (N, 4) float32, see `augment.draw_jitter`.
    """

    top: Any
    left: Any
    whole: Any
    flipped: Any
    noisy: Any
    jitter: Any


@dataclass(frozen=True)
class Recipe:
    """The preprocessing of a trial: all that training and prediction must agree on besides the statistics.

    Attributes:
        name: `preprocessing` of the settings, such as `lcnaug1`.
        kind: the kind of data set, such as `small`; see the module's docstring.
        load_size, size: sides of raw images and of network input, in pixels.
        maps: whether images are trained on or tested with maps.
    """

    name: str
    kind: str
    load_size: int
    size: int
    maps: bool

    @classmethod
    def of(cls, settings: Settings, *, has_maps: bool = False) -> Recipe:
        """Return the recipe of the settings.

        Photographs of data with maps are shown whole, whatever the loss: pixels must stay where their maps mark them.
        """
        return cls(
            name=settings.preprocessing,
            kind=DATA_SETS[settings.dataset.name].augmentation,
            load_size=settings.images.load_size,
            size=settings.images.size,
            maps=has_maps or settings.training.supervision == "maps",
        )

    @property
    def augments(self) -> bool:
        return "aug1" in self.name

    @property
    def local_contrast(self) -> bool:
        return self.name.startswith("lcn")

    @property
    def _shows_center(self) -> bool:
        return self.kind in ("photo", "imagenet") and self.augments and not self.maps

    @property
    def test_span(self) -> tuple[int, int]:
        """First and last pixel of a raw image's side that test images show; the last is exclusive."""
        start = (self.load_size - self.size) // 2
        return (start, start + self.size) if self._shows_center else (0, self.load_size)

    @property
    def test_geometry(self) -> Geometry:
        """The geometry of test images: the central crop of photographs that train by crops alone, else whole."""
        if self._shows_center:
            return augment.center_cropped(self.load_size, self.size)
        return augment.resized(self.load_size, self.size)

    @property
    def changes_values(self) -> bool:
        """Whether training images get jitter and noise."""
        return self.augments and not (self.kind == "small" and self.local_contrast)

    @property
    def _padding(self) -> int:
        if self.kind != "small":
            return 0
        return 2 if self.local_contrast else 3 if self.size < 32 else 4

    def draw(self, rng: HostGenerator, n: int) -> Augmentation:
        """Decide on the host how `n` training images are augmented."""
        raw, size = self.load_size, self.size
        decided: dict[str, Any] = {"top": 0, "left": 0, "whole": 1, "flipped": 0, "noisy": 0, "jitter": 0}
        if self.augments and self.kind != "watermark":
            padding = self._padding
            for side in ("top", "left"):
                decided[side] = rng.integers(-padding, raw + padding - size + 1, size=n)
            is_mixed = self.kind == "texture" or (self.kind != "small" and self.maps)
            decided["whole"] = rng.random(n) >= 0.5 if is_mixed else 0
            decided["flipped"] = rng.random(n) < 0.5 if self.kind != "texture" else 0
        if self.changes_values:
            decided["jitter"] = augment.draw_jitter(rng, n, self._jitter)
            decided["noisy"] = rng.random(n) < 0.5 if self.kind == "texture" else 1
        return Augmentation(**decided)

    def geometry(self, decided: Augmentation) -> Geometry:
        """Return the geometry of training images, of tensors on their device."""
        shrunk = augment.resized(self.load_size, self.size, decided.top.device)
        shown = augment.chosen(decided.whole, shrunk, augment.cropped(decided.top, decided.left, self.size))
        return augment.flipped(decided.flipped, shown)

    @property
    def _strong(self) -> bool:
        return self.kind == "small" and self.size < 32

    @property
    def _jitter(self) -> tuple[Jitter, ...]:
        return _TEXTURE_JITTER if self.kind == "texture" else _STRONG if self._strong else _PLAIN

    def augmented(self, decided: Augmentation, draws: Draws, raw: Tensor) -> Tensor:
        """Augment (N, C, R, R) uint8 to (N, C, S, S) float32 in about 0..1: geometry, jitter, noise, black squares."""
        geometry = self.geometry(decided)
        if self.kind == "small" and self.changes_values:  # the padding around an image stays black
            images = geometry.apply(augment.color_jitter(raw.float() / 255, decided.jitter))
        else:
            images = geometry.apply(raw).float() / 255
            if self.changes_values:
                images = augment.color_jitter(images, decided.jitter)
        if self.changes_values and self.kind == "texture":
            images = augment.noise_on_some(decided.noisy, draws, images, 0.1)
        elif self.changes_values:
            images = augment.gaussian_noise(draws, images, 0.01 if self._strong else 0.001)
        if self.name.startswith("aug1_blackcenter"):
            images = augment.blackened(images, inverted=self.name.endswith("_inverted"))
        return images


@dataclass(frozen=True)
class Preprocessor:
    """A recipe with the statistics of the nominal training images.

    Attributes:
        recipe: see `Recipe`.
        shift, scale: (1, C, 1, 1) float32; the network receives (x - shift) / scale.
    """

    recipe: Recipe
    shift: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, recipe: Recipe, raw: Tensor) -> Preprocessor:
        """Fit the statistics of a recipe to `raw`, the (N, C, R, R) uint8 nominal training images, on their device."""
        plain = cls(recipe, torch.zeros(1, device=raw.device), torch.ones(1, device=raw.device))
        if recipe.kind == "imagenet" and not recipe.local_contrast:
            return cls(recipe, *(_constants(values, raw) for values in (_IMAGENET_MEAN, _IMAGENET_STD)))
        chunks = (plain.test(raw[i : i + _CHUNK]) for i in range(0, len(raw), _CHUNK))
        shift, scale = _range(chunks, recipe.kind) if recipe.local_contrast else _mean_and_std(chunks)
        return cls(recipe, shift, scale)

    def train(
        self, raw: Tensor, gt_maps: Tensor | None, decided: Augmentation, draws: Draws
    ) -> tuple[Tensor, Tensor | None]:
        """Return augmented network input of a batch, and its maps under the same geometry.

        Args:
            raw: (N, C, R, R) uint8.
            gt_maps: (N, 1, R, R) uint8 of 0 and 1, or None.
            decided: for each sample, on the device.
            draws: of the noise.
        Returns:
            (N, C, S, S) float32, and (N, 1, S, S) uint8 or None.
        """
        inputs = self.normalized(self.recipe.augmented(decided, draws, raw))
        return inputs, None if gt_maps is None else self.recipe.geometry(decided).apply(gt_maps)

    def visible(self, raw: Tensor) -> Tensor:
        """Return test images as the network sees them before normalization: (N, C, R, R) to (N, C, S, S) uint8.

        Raises:
            ValueError: R is not the size that the recipe is for.
        """
        side = self.recipe.load_size
        if raw.shape[-2:] != (side, side):
            raise ValueError(f"images must have {side}x{side} pixels; found {raw.shape[-1]}x{raw.shape[-2]}")
        return self.recipe.test_geometry.apply(raw)

    def test(self, raw: Tensor) -> Tensor:
        """Return network input without augmentation: (N, C, R, R) uint8 to (N, C, S, S) float32."""
        return self.normalized(self.visible(raw).float() / 255)

    def denormalized(self, inputs: Tensor) -> Tensor:
        """Undo the last, affine step of (N, C, S, S) network input: images in about 0..1, or local contrast."""
        return inputs * self.scale + self.shift

    def normalized(self, images: Tensor) -> Tensor:
        """Return network input of (N, C, S, S) images in 0..1, the last step of preprocessing."""
        if self.recipe.local_contrast:
            images = local_contrast_normalization(images, "l1")
        return (images - self.shift).div_(self.scale)


def _constants(values: tuple[float, ...], raw: Tensor) -> Tensor:
    """Return values per color channel as (1, C, 1, 1) on the device of `raw`; their mean for gray images."""
    of_channel = torch.tensor(values, dtype=torch.float32, device=raw.device).view(1, -1, 1, 1)
    return of_channel if raw.shape[1] == len(values) else of_channel.mean(dim=1, keepdim=True)


def _mean_and_std(chunks: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per channel over all pixels of all chunks, accumulated in float64."""
    total, square, count = torch.zeros(()), torch.zeros(()), 0
    for chunk in chunks:
        wide = chunk.double()
        total = total.to(wide) + wide.sum((0, 2, 3))
        square = square.to(wide) + wide.square().sum((0, 2, 3))
        count += chunk.numel() // chunk.shape[1]
    mean = total / count
    std = (square / count - mean.square()).clamp_min(1e-12).sqrt()
    return mean.float().view(1, -1, 1, 1), std.float().view(1, -1, 1, 1)


def _range(chunks: Iterator[Tensor], kind: str) -> tuple[Tensor, Tensor]:
    """Return minimum and width of the range per channel, or of all channels together for kind `small`."""
    ranges = torch.stack([torch.stack([chunk.amin((0, 2, 3)), chunk.amax((0, 2, 3))]) for chunk in chunks])
    low, high = ranges[:, 0].amin(0), ranges[:, 1].amax(0)
    if kind == "small":
        low, high = low.min().expand_as(low), high.max().expand_as(high)
    return low.view(1, -1, 1, 1), (high - low).clamp_min(1e-6).view(1, -1, 1, 1)


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
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return centered.div_(torch.where(low == high, torch.inf, spread))
