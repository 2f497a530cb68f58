"""Heatmap pictures: which test images stand in them, and their heatmaps as colors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics import heatmap_values, shown_images
from fcdd_sweep.metrics.heatmap_values import MapGeometry
from fcdd_sweep.metrics.shown_images import NO_MAP
from fcdd_sweep.report.figures.image_grid import ColorScale, Strip, StripRow, as_colors, as_rgb, map_row
from fcdd_sweep.report.text import score_text
from fcdd_sweep.results import tree
from fcdd_sweep.results.files import read_arrays, read_table

Scale = Literal["local", "global"]
ImageIndices = npt.NDArray[np.int64]
LABEL_NAMES = ("nominal", "anomalous")
NO_MAP_MARK, WHOLE_MARK = "no map", "all\nanomalous"
"""What is said of an anomaly without a map: among test images, and among training samples, which are given one."""


@dataclass(frozen=True)
class LeafMaps:
    """Images of one trial with their anomaly maps; row i of each array is the same image (`tree.MAPS`)."""

    path: npt.NDArray[np.str_]
    label: npt.NDArray[np.int8]
    score: npt.NDArray[np.float64]
    anomaly_maps: npt.NDArray[np.float32]
    images: npt.NDArray[np.uint8]
    gt_maps: npt.NDArray[np.uint8] | None
    place: MapGeometry
    reference_quantiles: npt.NDArray[np.float32]
    blurred: bool = False
    shared_range: npt.NDArray[np.bool_] | bool = False

    def rows_of(self, path: npt.NDArray[np.str_]) -> ImageIndices:
        """Where the images of these paths lie.

        Raises:
            ValueError: an image is not among those that were kept.
        """
        row = {name: i for i, name in enumerate(self.path.tolist())}
        absent = [name for name in path.tolist() if name not in row]
        if absent:
            raise ValueError(f"{tree.MAPS} does not hold test image {absent[0]} ({len(absent)} of them are missing)")
        return np.array([row[name] for name in path.tolist()], dtype=np.int64)

    def heatmaps(self, rows: ImageIndices) -> npt.NDArray[np.float32]:
        """(n, S, S) upsampled anomaly maps, before coloring."""
        return self.place.heatmaps(self.anomaly_maps[rows], blurred=self.blurred)

    def colored(self, rows: ImageIndices, quantile: float, scale: Scale) -> npt.NDArray[np.uint8]:
        """(n, S, S, 3); `local` by each heatmap's own range, `global` by that of the reference set."""
        heatmaps = self.heatmaps(rows)
        if scale == "global":
            low, high = heatmap_values.global_range(self.reference_quantiles, quantile)
            return as_colors(heatmap_values.normalize(heatmaps, low, high))
        own = [heatmap_values.normalize(each, *heatmap_values.local_range(each, quantile)) for each in heatmaps]
        return as_colors(np.array(own).reshape(heatmaps.shape))

    def legend(self, quantile: float, scale: Scale) -> ColorScale:
        """What blue and red mean."""
        if scale == "local":
            return local_scale(quantile)
        return global_scale(*heatmap_values.global_range(self.reference_quantiles, quantile))


def local_scale(quantile: float) -> ColorScale:
    """The ends of the colors where each heatmap has its own range."""
    return ColorScale("its\nminimum", f"its {quantile:g}\nquantile")


def global_scale(low: float, high: float) -> ColorScale:
    """The ends of the colors of a range that heatmaps share."""
    return ColorScale(f"{low:.2g}", f"≥ {high:.2g}")


_ARRAYS = ("path", "label", "score", "anomaly_maps", "images", "gt_maps")
_PLACE = ("receptive_field", "kernel_std_px", "blur_size_px")


def read_maps(leaf: Path, *, blurred: bool = False) -> LeafMaps:
    """The test images in `maps.npz` of a leaf; `blurred` says whether their heatmaps are shown blurred."""
    return _maps(leaf, "", _ARRAYS, blurred=blurred)


def read_training_maps(leaf: Path, *, blurred: bool = False) -> LeafMaps:
    """The training samples in `maps.npz` of a leaf; their paths are numbers from 0."""
    return _maps(leaf, "train_", (*_ARRAYS[1:], "shared_range"), blurred=blurred)


def _maps(leaf: Path, prefix: str, names: tuple[str, ...], *, blurred: bool) -> LeafMaps:
    quantiles = "blurred_quantiles" if blurred else "reference_quantiles"
    wanted = [*_PLACE, *(prefix + name for name in (*names, quantiles))]
    arrays: dict[str, Any] = read_arrays(leaf / tree.MAPS, wanted)
    absent = set(wanted) - arrays.keys() - {f"{prefix}gt_maps"}
    if absent:
        raise ValueError(f"{tree.MAPS} lacks {', '.join(sorted(absent))}")
    size, jump, shift = arrays["receptive_field"].tolist()
    images = arrays[f"{prefix}images"]
    place = MapGeometry(
        (int(size), int(jump), float(shift)),
        (int(images.shape[2]), int(images.shape[3])),
        float(arrays["kernel_std_px"]),
        int(arrays["blur_size_px"]),
    )
    given: dict[str, Any] = {name: arrays.get(prefix + name) for name in names}
    named = {"path": np.arange(len(images)).astype(str), **given}
    return LeafMaps(**named, place=place, reference_quantiles=arrays[prefix + quantiles], blurred=blurred)


@dataclass(frozen=True)
class TestScores:
    """Label and score of all test images, in the order of the test set: pictures are chosen among all of them."""

    __test__ = False

    path: npt.NDArray[np.str_]
    label: npt.NDArray[np.int8]
    score: npt.NDArray[np.float64]


def read_test_scores(leaf: Path) -> TestScores:
    table = read_table(leaf / tree.SCORES)
    is_test = np.array(table["split"].to_pylist()) == "test"
    path = np.array(table["path"].to_pylist(), dtype=str)[is_test]
    return TestScores(path, *(table[name].to_numpy()[is_test] for name in ("label", "score")))


def strip_of(
    maps: LeafMaps, rows: ImageIndices, quantile: float, scale: Scale, title: str, mark: str = NO_MAP_MARK
) -> Strip:
    """Input, heatmap and, for anomalous images, ground-truth map (or `mark` on a gray one), with the scores."""
    parts = [StripRow("input", as_rgb(maps.images[rows])), StripRow("heatmap", maps.colored(rows, quantile, scale))]
    if maps.gt_maps is not None and (maps.label[rows] == 1).any():
        parts.append(map_row("ground\ntruth", maps.gt_maps[rows], mark))
    return Strip(title, tuple(parts), tuple(map(score_text, maps.score[rows].tolist())))


def paper_strips(maps: LeafMaps, scores: TestScores, label: int, quantile: float, scale: Scale) -> list[Strip]:
    """Six test images of one label, from the most nominal to the most anomalous by score; none without images."""
    chosen = shown_images.equidistant(scores.label, scores.score, label)
    if not len(chosen):
        return []
    title = f"{LABEL_NAMES[label]} test images by anomaly score, {scale} colors"
    return [strip_of(maps, maps.rows_of(scores.path[chosen]), quantile, scale, title)]


def overview_strips(
    maps: LeafMaps, scores: TestScores, quantile: float, what: str = "test images", mark: str = NO_MAP_MARK
) -> list[Strip]:
    """The first 20 images of each label, and the ten most nominal and most anomalous of each."""
    chosen = {f"first {name} {what}": shown_images.first(scores.label, i) for i, name in enumerate(LABEL_NAMES)}
    for i, name in enumerate(LABEL_NAMES):
        ends = shown_images.extremes(scores.label, scores.score, i)
        chosen[f"{name} {what} with the lowest and the highest scores"] = ends
    return [
        strip_of(maps, maps.rows_of(scores.path[index]), quantile, "global", title, mark)
        for title, index in chosen.items()
        if len(index)
    ]


def training_strips(maps: LeafMaps, quantile: float) -> list[Strip]:
    """The overview of training samples after augmentation."""
    samples = TestScores(maps.path, maps.label, maps.score)
    return overview_strips(maps, samples, quantile, "training samples", WHOLE_MARK)


def training_note(maps: LeafMaps) -> str:
    """How training samples were made visible, for below their pictures."""
    shown = (
        "Local contrast is normalized, so the images' own level and contrast are gone: all samples here share one "
        "range of brightness, that of the nominal ones."
        if maps.shared_range
        else "In the images' own colors: the network's normalization is undone."
    )
    whole = maps.gt_maps is not None and (maps.gt_maps == NO_MAP).any()
    return f"{shown} Gray maps: trained as anomalous in every pixel." if whole else shown


def preview_strips(maps: LeafMaps, columns: int = 10) -> list[Strip]:
    """Training samples after augmentation: 20 nominal, then 20 anomalous with the maps they were trained on."""
    strips = []
    for value, name in enumerate(LABEL_NAMES):
        own = shown_images.first(maps.label, value)
        for start in range(0, len(own), columns):
            part = own[start : start + columns]
            rows = [StripRow("input", as_rgb(maps.images[part]))]
            if maps.gt_maps is not None and value == 1:
                rows.append(map_row("map", maps.gt_maps[part], WHOLE_MARK))
            title = f"{name} training samples after augmentation" if start == 0 else ""
            strips.append(Strip(title, tuple(rows)))
    return strips


def common_paths(maps: Sequence[LeafMaps]) -> npt.NDArray[np.str_]:
    """The images that all of them kept, in the order of the first.

    Images join by path: their numbers in the decoded data set depend on which classes the experiment names. The first
    20 test images of each label are kept by every trial, so that there are some.
    """
    common = maps[0].path
    for each in maps[1:]:
        common = common[np.isin(common, each.path)]
    return common


def class_strips(
    seeds: Sequence[tuple[str, LeafMaps]], quantile: float, nominal: int = 2, anomalous: int = 6
) -> list[Strip]:
    """The same test images under every seed: input, a heatmap a seed, ground truth.

    The images are those that all the seeds kept, equidistant by mean score; each seed's heatmaps have the range of
    its own reference set. None when the seeds have no image in common.

    Args:
        seeds: name (`seed 0`) and maps of each trial of a class; at least one.
    """
    maps = [each for _, each in seeds]
    common = common_paths(maps)
    rows = [each.rows_of(common) for each in maps]
    score = np.mean([each.score[own] for each, own in zip(maps, rows, strict=True)], axis=0)
    label = maps[0].label[rows[0]]
    counts = (nominal, anomalous)
    chosen = np.concatenate([shown_images.equidistant(label, score, value, counts[value]) for value in (0, 1)])
    if not len(chosen):
        return []
    shown = [(each, own[chosen]) for each, own in zip(maps, rows, strict=True)]
    parts = [StripRow("input", as_rgb(maps[0].images[shown[0][1]]))]
    parts += [
        StripRow(name, each.colored(own, quantile, "global"))
        for (name, _), (each, own) in zip(seeds, shown, strict=True)
    ]
    if maps[0].gt_maps is not None:
        parts.append(map_row("ground\ntruth", maps[0].gt_maps[shown[0][1]], NO_MAP_MARK))
    captions = tuple(f"{LABEL_NAMES[label[i]]} {score_text(float(score[i]))}" for i in chosen)
    return [Strip("the same test images under every seed, with their mean score", tuple(parts), captions)]
