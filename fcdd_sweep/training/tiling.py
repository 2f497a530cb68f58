"""Scores and maps of large images in tiles, equal to those of the whole image to rounding.

The network needs memory that depends on the tile alone; the image, its map and its heatmap take a few bytes a pixel.
A tile is enlarged by a halo of the receptive field, and of its map only the cells are kept whose field lies within, so
that no cell sees the border of a tile. Tiles begin at multiples of the cells' distance, where all strides agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from fcdd_sweep.config.errors import DataError, InputError, Problem
from fcdd_sweep.data.decoding.given import GivenImage, read_given
from fcdd_sweep.metrics.heatmap_values import MapGeometry
from fcdd_sweep.metrics.image_decision import Decision, decide
from fcdd_sweep.networks.describe import field_of
from fcdd_sweep.networks.receptive_field import ReceptiveField
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.device import full_precision, numerics
from fcdd_sweep.training.fold_ensemble import FoldModel, JointDetection, mean_detection
from fcdd_sweep.training.image_scores import image_scores
from fcdd_sweep.training.methods import METHODS, Detection, wide
from fcdd_sweep.training.prediction import ImagePrediction, ImageView
from fcdd_sweep.training.predictor import Predictor, ReadImage
from fcdd_sweep.training.preprocessing import Preprocessor

TILE = 1024
"""Default side of a tile in pixels, without its halo."""
NOT_CALIBRATED = "no threshold: not calibrated at this scale"
_TOO_SMALL = "the image is too small for the network"
_OVER_WHOLE_IMAGE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.InstanceNorm2d, nn.GroupNorm)
_Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class TiledDetection:
    """The map and the score of one image.

    Attributes:
        map: (U, V) float32, distances of cells.
        score: of the image, as the detector's settings say; at native scale shares of pixels are of this image's.
        threshold: of the image score; NaN where it does not hold or the detector has none.
        joint: what several models decide of the image together; None of one model, and where that does not hold.
        geometry: how the map becomes a heatmap: `geometry.heatmaps(map)` is (H, W).
        note: why the detector's threshold does not hold; empty where it does.
    """

    map: npt.NDArray[np.float32]
    score: float
    threshold: float
    geometry: MapGeometry
    note: str = ""
    joint: JointDetection | None = None


@dataclass(frozen=True)
class _Span:
    """Cells of a map along an axis, and the input pixels of the tile that gives them; ends are exclusive.

    Attributes:
        cells: first and last cell in the map.
        pixels: first and last pixel of the tile with its halo.
        start: the first of the cells in the tile's own map.
    """

    cells: tuple[int, int]
    pixels: tuple[int, int]
    start: int

    @property
    def of_map(self) -> slice:
        return slice(*self.cells)

    @property
    def of_tile(self) -> slice:
        return slice(self.start, self.start + self.cells[1] - self.cells[0])


@torch.no_grad()
@full_precision()
def detect_in_tiles(
    detector: Detector, image: _Pixels, tile: int = TILE, *, native_scale: bool = False
) -> TiledDetection:
    """Return map and score of an image, computed tile by tile.

    Args:
        detector: of method `fcdd`.
        image: (C, H, W) uint8, C 1 for gray or 3 for RGB; may be memory-mapped.
        tile: side of a tile in pixels, without its halo.
        native_scale: False: bring the image to the size of the training images first, so that the detector's
            threshold holds. True: keep its pixels, which may show objects larger than in training; no threshold holds.
    Raises:
        InputError: a step of the detector needs the whole image.
        ValueError: the image has another type, other axes or, at native scale, other colors; or `tile` is below 1.
    """
    if tile < 1:
        raise ValueError(f"a tile must have at least 1 pixel; found {tile}")
    check_tileable(detector)
    pixels = _at_native_scale(detector, image) if native_scale else detector.visible(image[None])[0]
    height, width = pixels.shape[1:]
    fields = [field_of(detector.settings.network, detector.settings.method, side) for side in (height, width)]
    if min(field.width for field in fields) < 1:
        raise ValueError(f"{_TOO_SMALL}: {width}x{height} pixels")
    ensemble, grid = detector.ensemble, _Grid(fields[0], fields[1], tile)
    members = (detector,) if ensemble is None else ensemble.members
    found = [_in_tiles(member, pixels, grid) for member in members]
    mean, geometry = mean_detection(found), replace(detector.map_geometry, out_size=(height, width))
    cells = mean.maps[0, 0].numpy()
    by_mean = detector.score_column == "score_mean"
    heatmaps = mean.maps if by_mean else torch.from_numpy(geometry.heatmaps(cells))[None, None]
    score = float(detector.deciding_scores(mean, heatmaps)[0])
    if native_scale:
        return TiledDetection(cells, score, float("nan"), geometry, NOT_CALIBRATED)
    joint = None if ensemble is None else ensemble.decided(found, detector.settings.evaluation.false_alarm_rate)
    return TiledDetection(cells, score, detector.threshold, geometry, joint=joint)


class _Grid(NamedTuple):
    """The cells of a map along both axes, and the side of a tile in pixels."""

    rows: ReceptiveField
    columns: ReceptiveField
    tile: int


def _in_tiles(model: FoldModel, pixels: _Pixels, grid: _Grid) -> Detection:
    """Return the (1, 1, U, V) map and the score of one model."""
    normalize, network = _normalization(model.preprocessor, pixels), model.network.eval()
    found = np.empty((grid.rows.width, grid.columns.width), np.float32)
    for rows in _spans(grid.rows, pixels.shape[1], grid.tile):
        for columns in _spans(grid.columns, pixels.shape[2], grid.tile):
            part = np.ascontiguousarray(pixels[:, slice(*rows.pixels), slice(*columns.pixels)])
            inputs = normalize(torch.from_numpy(part)[None].to(model.device).float() / 255)
            cells = METHODS["fcdd"].detect(network, inputs).maps[0, 0, rows.of_tile, columns.of_tile]
            found[rows.of_map, columns.of_map] = cells.cpu().numpy()
    maps = torch.from_numpy(found)[None, None]
    return Detection(maps, image_scores(wide(maps)))


@dataclass(frozen=True)
class TiledPredictor(Predictor):
    """A detector that looks at images in tiles.

    Attributes:
        detector: of method `fcdd`, see `check_tileable`.
        tile: side of a tile in pixels, without its halo.
        native_scale: whether images keep their pixels, so that no threshold holds.
    """

    detector: Detector
    tile: int = TILE
    native_scale: bool = False

    def __post_init__(self) -> None:
        check_tileable(self.detector)

    @property
    def images_together(self) -> int:
        return 1

    def read(self, image: GivenImage, name: str) -> ReadImage:
        """Return an image at the size of the training images, or at its own in their colors; see `predict`."""
        detector = self.detector
        if not self.native_scale:
            return detector.read(image, name)
        found = read_given(image, name, detector.decoding)
        height, width = found.image.shape[:2]
        settings = detector.settings
        if min(field_of(settings.network, settings.method, side).width for side in (height, width)) < 1:
            raise DataError(Problem(name, f"{_TOO_SMALL} at its native scale: {width}x{height} pixels"))
        pixels = _in_colors(found.image, gray=settings.images.color == "gray")
        return ReadImage(name, image if isinstance(image, Path) else None, pixels, (height, width), found.clipped)

    def predict_batch(self, images: Sequence[ReadImage]) -> list[ImagePrediction]:
        """Return the predictions on images that `read` returned."""
        return [self._predicted(each) for each in images]

    def _predicted(self, image: ReadImage) -> ImagePrediction:
        detector = self.detector
        with numerics(detector.settings, detector.device):
            found = detect_in_tiles(detector, image.raw, self.tile, native_scale=self.native_scale)
        heatmap = found.geometry.heatmaps(found.map)
        height, width = image.size
        if self.native_scale:
            decision = decide(found.score, heatmap, float("nan"), float("nan"))
            view = ImageView(image.raw, heatmap, image.size, (0, height, 0, width))
        else:
            decision = self._decided(found, heatmap)
            seen = detector.visible(image.raw[None])[0]
            view = ImageView(seen, heatmap, image.size, detector.seen_box(image.size), detector.color_range)
        basis = found.note or detector.threshold_source
        return ImagePrediction(image.name, image.path, found.score, basis, image.clipped, decision, view)

    def _decided(self, found: TiledDetection, heatmap: npt.NDArray[np.float32]) -> Decision:
        if found.joint is None:
            return self.detector.decide(found.score, heatmap)
        (decision,) = self.detector.decide_together(found.joint, [found.score], heatmap[None])
        return decision


def check_tileable(detector: Detector) -> None:
    """Raise an `InputError` that names each step of a detector that needs the whole image.

    In a torchvision backbone only squeeze-and-excitation does, which pools; see `networks.backbones`.
    """
    method, problems = detector.settings.method, []
    if method != "fcdd":
        what = "cannot run in tiles: its network ends in dense layers, which see the whole image"
        problems.append(Problem(f"method {method}", what, "a detector of method fcdd"))
    assert isinstance(detector.network, nn.Module)
    for name, module in detector.network.named_modules():
        if method == "fcdd" and isinstance(module, _OVER_WHOLE_IMAGE):
            what = f"cannot run in tiles: {type(module).__name__} sees the whole image"
            problems.append(Problem(f"layer {name}", what, "a fully convolutional network"))
    if problems:
        raise InputError(problems)


def _in_colors(image: _Pixels, *, gray: bool) -> _Pixels:
    """Return an image (H, W) or (H, W, 3) as a new one (1, H, W) or (3, H, W)."""
    if gray != (image.ndim == 2):  # Pillow's copies take several bytes a pixel
        image = np.asarray(Image.fromarray(image).convert("L" if gray else "RGB"))
    return np.array(np.atleast_3d(image).transpose(2, 0, 1), order="C")


def _at_native_scale(detector: Detector, image: _Pixels) -> _Pixels:
    channels = detector.settings.images.channels
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] != channels:
        raise ValueError(f"an image must be ({channels}, H, W) uint8; found {tuple(image.shape)} {image.dtype}")
    return image


def _normalization(preprocessor: Preprocessor, pixels: _Pixels) -> Callable[[Tensor], Tensor]:
    """Return the last step of preprocessing for parts of an image, with the local contrast of the whole one."""
    if not preprocessor.recipe.local_contrast:
        return preprocessor.normalized
    counts = sum(np.bincount(row.ravel(), minlength=256) for channel in pixels for row in channel)
    values = np.arange(256) / 255
    mean = float(counts @ values / pixels.size)
    spread = float(counts @ np.abs(values - mean) / pixels.size)
    constant = np.count_nonzero(counts) == 1

    def normalized(part: Tensor) -> Tensor:
        contrast = torch.zeros_like(part) if constant else (part - mean) / spread
        return (contrast - preprocessor.shift) / preprocessor.scale

    return normalized


def _spans(field: ReceptiveField, side: int, tile: int) -> Iterator[_Span]:
    """Yield the tiles along an axis of `side` pixels: every cell once."""
    step, reach = max(1, tile // field.jump), (field.size - 1) / 2
    for first in range(0, field.width, step):
        end = min(first + step, field.width)
        low = floor(field.shift + first * field.jump - reach)
        high = ceil(field.shift + (end - 1) * field.jump + reach) + 1
        begin = max(0, low // field.jump * field.jump)
        # the last cells take all that is left, since strides may ignore the last pixels of the image
        stop = side if end == field.width else min(side, high)
        yield _Span((first, end), (begin, stop), first - begin // field.jump)
