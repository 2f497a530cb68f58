"""Heatmap figures: which images they show, and their anomaly maps as colored heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics import heatmap_values, shown_images
from fcdd_sweep.metrics.heatmap_values import MapGeometry
from fcdd_sweep.metrics.shown_images import NO_MAP
from fcdd_sweep.report.class_scores import SeedScores, read_seed_scores
from fcdd_sweep.report.figures.color_maps import DEFAULT_COLOR_MAP, RgbImages, as_colors
from fcdd_sweep.report.figures.image_grid import (
    CELL_IN,
    ColorScale,
    Strip,
    StripRow,
    as_rgb,
    blended,
    map_row,
    near_size,
    outlined,
)
from fcdd_sweep.report.figures.style import DPI
from fcdd_sweep.report.run_files import Trial
from fcdd_sweep.report.text import score_text
from fcdd_sweep.results import tree
from fcdd_sweep.results.files import read_arrays
from fcdd_sweep.results.tree import TrialPaths

Scale = Literal["local", "global"]
ImageIndices = npt.NDArray[np.int64]
LABEL_NAMES = ("nominal", "anomalous")
NO_MAP_MARK, WHOLE_MARK = "no map", "all\nanomalous"
"""Text on the gray cell of an anomaly without a map: a test image, and a training sample, all of which is anomalous."""
ABOVE = "\N{BLACK UP-POINTING TRIANGLE}"
"""Marks images that are called anomalous."""
DISAGREES = "\N{NOT EQUAL TO}"
"""Marks images whose heatmap disagrees with what they are called."""


@dataclass(frozen=True)
class TrialMaps:
    """Images of one trial with their anomaly maps; row i of each array is the same image. See `tree.MAPS`.

    Attributes:
        path: (M,) identifies an image in every trial of the data set.
        label: (M,) 0 nominal, 1 anomalous.
        score: (M,) anomaly scores.
        anomaly_maps: (M, U, V) as the network returns them.
        images: (M, C, S, S) before normalization.
        gt_maps: (M, S, S), 1 where anomalous; None when the data has no maps.
        geometry: how anomaly maps become heatmaps.
        reference_quantiles: (1001,) of the heatmaps of the reference set.
        blurred: whether heatmaps are shown blurred.
        shared_range: whether training images share one range of brightness.
        color_map: of heatmaps.
    """

    path: npt.NDArray[np.str_]
    label: npt.NDArray[np.int8]
    score: npt.NDArray[np.float64]
    anomaly_maps: npt.NDArray[np.float32]
    images: npt.NDArray[np.uint8]
    gt_maps: npt.NDArray[np.uint8] | None
    geometry: MapGeometry
    reference_quantiles: npt.NDArray[np.float32]
    blurred: bool = False
    shared_range: npt.NDArray[np.bool_] | bool = False
    color_map: str = DEFAULT_COLOR_MAP

    def rows_of(self, path: npt.NDArray[np.str_]) -> ImageIndices:
        """Return the rows of the images with these paths.

        Raises:
            ValueError: an image was not kept.
        """
        row = {name: i for i, name in enumerate(self.path.tolist())}
        absent = [name for name in path.tolist() if name not in row]
        if absent:
            raise ValueError(f"{tree.MAPS} does not hold test image {absent[0]} ({len(absent)} of them are missing)")
        return np.array([row[name] for name in path.tolist()], dtype=np.int64)

    def heatmaps(self, rows: ImageIndices) -> npt.NDArray[np.float32]:
        """Return (n, S, S) upsampled anomaly maps, before coloring."""
        return self.geometry.heatmaps(self.anomaly_maps[rows], blurred=self.blurred)

    def colored(self, rows: ImageIndices, quantile: float, scale: Scale) -> npt.NDArray[np.uint8]:
        """Return (n, S, S, 3) colors; `local` spans each heatmap's own range, `global` that of the reference set."""
        heatmaps = self.heatmaps(rows)
        if scale == "global":
            low, high = heatmap_values.global_range(self.reference_quantiles, quantile)
            return as_colors(heatmap_values.normalize(heatmaps, low, high), self.color_map)
        own = [heatmap_values.normalize(each, *heatmap_values.local_range(each, quantile)) for each in heatmaps]
        return as_colors(np.array(own).reshape(heatmaps.shape), self.color_map)

    def contoured(self, pictures: RgbImages, rows: ImageIndices) -> RgbImages:
        """Return (n, S, S, 3) pictures, enlarged, with the contours of the ground-truth maps of these rows."""
        large = near_size(pictures, round(CELL_IN * DPI))
        return large if self.gt_maps is None else outlined(large, self.gt_maps[rows], self.color_map)

    def legend(self, quantile: float, scale: Scale) -> ColorScale:
        """Return the meaning of the ends of the colors."""
        if scale == "local":
            return local_scale(quantile)
        return global_scale(*heatmap_values.global_range(self.reference_quantiles, quantile))


def local_scale(quantile: float) -> ColorScale:
    """Return the ends of the colors where each heatmap has its own range."""
    return ColorScale("its\nminimum", f"its {quantile:g}\nquantile")


def global_scale(low: float, high: float) -> ColorScale:
    """Return the ends of the colors where heatmaps share a range."""
    return ColorScale(f"{low:.2g}", f"≥ {high:.2g}")


_ARRAYS = ("path", "label", "score", "anomaly_maps", "images", "gt_maps")
_GEOMETRY = ("receptive_field", "kernel_std_px", "blur_size_px")


def read_maps(leaf: Path, *, blurred: bool = False, color_map: str = DEFAULT_COLOR_MAP) -> TrialMaps:
    """Return the test images in a leaf's `maps.npz`.

    Args:
        leaf: the trial's folder.
        blurred: whether their heatmaps are shown blurred.
        color_map: of heatmaps.
    Raises:
        OSError, ValueError: the file is missing or damaged.
    """
    return replace(_maps(leaf, "", _ARRAYS, blurred=blurred), color_map=color_map)


def read_training_maps(leaf: Path, *, blurred: bool = False, color_map: str = DEFAULT_COLOR_MAP) -> TrialMaps:
    """Return the training samples in a leaf's `maps.npz`, see `read_maps`; their paths are numbers from 0."""
    return replace(_maps(leaf, "train_", (*_ARRAYS[1:], "shared_range"), blurred=blurred), color_map=color_map)


def _maps(leaf: Path, prefix: str, names: tuple[str, ...], *, blurred: bool) -> TrialMaps:
    quantiles = "blurred_quantiles" if blurred else "reference_quantiles"
    wanted = [*_GEOMETRY, *(prefix + name for name in (*names, quantiles))]
    arrays: dict[str, Any] = read_arrays(TrialPaths(leaf).maps, wanted)
    absent = set(wanted) - arrays.keys() - {f"{prefix}gt_maps"}
    if absent:
        raise ValueError(f"{tree.MAPS} lacks {', '.join(sorted(absent))}")
    size, jump, shift = arrays["receptive_field"].tolist()
    images = arrays[f"{prefix}images"]
    geometry = MapGeometry(
        (int(size), int(jump), float(shift)),
        (int(images.shape[2]), int(images.shape[3])),
        float(arrays["kernel_std_px"]),
        int(arrays["blur_size_px"]),
    )
    stored: dict[str, Any] = {name: arrays.get(prefix + name) for name in names}
    named = {"path": np.arange(len(images)).astype(str), **stored}
    return TrialMaps(**named, geometry=geometry, reference_quantiles=arrays[prefix + quantiles], blurred=blurred)


def scored_anew(maps: TrialMaps, trial: Trial) -> TrialMaps:
    """Return maps with the present scores of their images, where these are no longer those kept with the maps."""
    if not trial.rescored:
        return maps
    scores = read_seed_scores(trial)
    present = dict(zip(scores.path.tolist(), scores.score.tolist(), strict=True))
    return replace(maps, score=np.array([present[path] for path in maps.path.tolist()], np.float64))


def strip_of(
    maps: TrialMaps, rows: ImageIndices, quantile: float, scale: Scale, title: str, mark: str = NO_MAP_MARK
) -> Strip:
    """Return input, heatmap and, for anomalous images, ground-truth map (`mark` on gray without one), with scores."""
    colors = maps.colored(rows, quantile, scale)
    strip_rows = [StripRow("input", as_rgb(maps.images[rows])), StripRow("heatmap", colors)]
    if maps.gt_maps is not None and (maps.label[rows] == 1).any():
        strip_rows.append(map_row("ground\ntruth", maps.gt_maps[rows], mark))
    return Strip(title, tuple(strip_rows), tuple(map(score_text, maps.score[rows].tolist())))


def overlaid(strip: Strip, maps: TrialMaps, rows: ImageIndices) -> Strip:
    """Return a strip of `strip_of` with a row of heatmaps over inputs, ground truth outlined, after the heatmaps."""
    (first, heat), rest = strip.rows[:2], strip.rows[2:]
    outline = StripRow("overlay", maps.contoured(blended(first.images, heat.images), rows))
    return replace(strip, rows=(first, heat, outline, *rest))


def decision_marks(scores: SeedScores) -> tuple[str, ...]:
    """Return by image its marks: called anomalous, and a heatmap that disagrees; empty texts without decisions."""
    nothing = np.zeros(len(scores.label), np.bool_)
    called, disagrees = (nothing if each is None else each for each in (scores.called, scores.disagrees))
    pairs = zip(called.tolist(), disagrees.tolist(), strict=True)
    return tuple(f"{ABOVE if is_called else ''}{DISAGREES if differs else ''}" for is_called, differs in pairs)


def disagreement_note(scores: SeedScores) -> str:
    """Return what the mark of a heatmap that disagrees means; empty where none does."""
    if scores.disagrees is None or not scores.disagrees.any():
        return ""
    return (
        f"{DISAGREES} the heatmap disagrees: it shows no region although the image is called anomalous ({ABOVE}), or "
        "shows one although the image is called nominal."
    )


def with_marks(strip: Strip, scores: SeedScores) -> Strip:
    """Return a strip whose captions have the marks of decisions; its title names the threshold.

    Args:
        strip: of images with captions.
        scores: of these images.
    """
    if scores.called is None:
        return strip
    captions = (f"{caption} {marks}" for caption, marks in zip(strip.captions, decision_marks(scores), strict=True))
    what = "called anomalous" if scores.threshold is None else f"above {score_text(scores.threshold)}"
    return replace(strip, title=f"{strip.title}; {ABOVE} {what}", captions=tuple(each.rstrip() for each in captions))


def paper_strips(maps: TrialMaps, scores: SeedScores, label: int, quantile: float, scale: Scale) -> list[Strip]:
    """Return six test images of one label, from the lowest to the highest score; an empty list without images."""
    chosen = shown_images.equidistant(scores.label, scores.score, label)
    if not len(chosen):
        return []
    title = f"{LABEL_NAMES[label]} test images by anomaly score, {scale} colors"
    rows = maps.rows_of(scores.path[chosen])
    strip = overlaid(strip_of(maps, rows, quantile, scale, title), maps, rows)
    return [with_marks(strip, scores.only(chosen))]


def overview_strips(
    maps: TrialMaps, scores: SeedScores, quantile: float, what: str = "test images", mark: str = NO_MAP_MARK
) -> list[Strip]:
    """Return the first 20 images of each label, and for each label the ten lowest and ten highest scores."""
    chosen = {f"first {name} {what}": shown_images.first(scores.label, i) for i, name in enumerate(LABEL_NAMES)}
    for i, name in enumerate(LABEL_NAMES):
        ends = shown_images.extremes(scores.label, scores.score, i)
        chosen[f"{name} {what} with the lowest and the highest scores"] = ends
    strips = []
    for title, index in chosen.items():
        if len(index):
            strip = strip_of(maps, maps.rows_of(scores.path[index]), quantile, "global", title, mark)
            strips.append(with_marks(strip, scores.only(index)))
    return strips


def training_strips(maps: TrialMaps, quantile: float) -> list[Strip]:
    """Return the overview of training samples after augmentation, see `overview_strips`."""
    samples = SeedScores(0, maps.path, maps.label, np.full(len(maps.path), ""), maps.score, None, None)
    return overview_strips(maps, samples, quantile, "training samples", WHOLE_MARK)


def training_note(maps: TrialMaps) -> str:
    """Return the note below figures of training samples: how they were made visible."""
    shown = (
        "Local contrast normalization removes an image's own level and contrast: all samples here share one range of "
        "brightness, that of the nominal ones."
        if maps.shared_range
        else "Shown in the images' own colors: the network's normalization is undone."
    )
    whole = maps.gt_maps is not None and (maps.gt_maps == NO_MAP).any()
    return f"{shown} Gray maps: trained as anomalous in every pixel." if whole else shown


def preview_strips(maps: TrialMaps, columns: int = 10) -> list[Strip]:
    """Return training samples after augmentation: 20 nominal, then 20 anomalous with the maps they were trained on."""
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


def common_paths(maps: Sequence[TrialMaps]) -> npt.NDArray[np.str_]:
    """Return the paths of the images that all of several trials kept, in the order of the first.

    Images are joined by path: their index in the decoded data set depends on the classes that the experiment names.
    Every trial keeps the first 20 test images of each label, so that trials of a class have images in common.
    """
    common = maps[0].path
    for each in maps[1:]:
        common = common[np.isin(common, each.path)]
    return common


def chosen_images(
    maps: Sequence[TrialMaps], rows: Sequence[ImageIndices], nominal: int = 2, anomalous: int = 6
) -> ImageIndices:
    """Return which of the images that all seeds kept a class shows: of each label equidistant by mean score.

    Args:
        maps: of each trial of a class.
        rows: by trial, the rows of the images that all of them kept, in one order.
        nominal, anomalous: number of images of each label.
    Returns:
        Indices into each of `rows`.
    """
    score = np.mean([each.score[own] for each, own in zip(maps, rows, strict=True)], axis=0)
    label = maps[0].label[rows[0]]
    counts = (nominal, anomalous)
    return np.concatenate([shown_images.equidistant(label, score, value, counts[value]) for value in (0, 1)])


def class_strips(seeds: Sequence[tuple[str, TrialMaps]], quantile: float) -> list[Strip]:
    """Return the same test images under every seed: input, one heatmap per seed, ground truth.

    The images are those of `chosen_images`; each seed's heatmaps are colored by the range of its own reference set and
    have the contours of the ground truth.

    Args:
        seeds: name (`seed 0`) and maps of each trial of a class; at least one.
        quantile: share of the values that the colors span.
    Returns:
        One strip; an empty list when the seeds have no image in common.
    """
    maps = [each for _, each in seeds]
    common = common_paths(maps)
    rows = [each.rows_of(common) for each in maps]
    chosen = chosen_images(maps, rows)
    if not len(chosen):
        return []
    own = rows[0][chosen]
    strip_rows = [StripRow("input", as_rgb(maps[0].images[own]))]
    for (name, each), kept in zip(seeds, rows, strict=True):
        colors = each.colored(kept[chosen], quantile, "global")
        strip_rows.append(StripRow(name, each.contoured(colors, kept[chosen])))
    if maps[0].gt_maps is not None:
        strip_rows.append(map_row("ground\ntruth", maps[0].gt_maps[own], NO_MAP_MARK))
    score = np.mean([each.score[kept[chosen]] for each, kept in zip(maps, rows, strict=True)], axis=0)
    labels = maps[0].label[own]
    captions = tuple(f"{LABEL_NAMES[label]} {score_text(float(s))}" for label, s in zip(labels, score, strict=True))
    return [Strip("the same test images under every seed, with their mean score", tuple(strip_rows), captions)]
