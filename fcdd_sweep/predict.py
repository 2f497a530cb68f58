"""Scores and heatmaps of new images from a trial's snapshot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.csv
from PIL import ExifTags, Image

from fcdd_sweep.config.errors import DataError, InputError, Problem
from fcdd_sweep.data.decoding.files import image_files
from fcdd_sweep.data.loading import load_image_file
from fcdd_sweep.metrics import heatmap_values
from fcdd_sweep.metrics.heatmap_values import blur
from fcdd_sweep.report.figures.heatmaps import global_scale, local_scale
from fcdd_sweep.report.figures.image_grid import ColorScale, as_rgb
from fcdd_sweep.report.figures.prediction_figure import Said, draw_prediction
from fcdd_sweep.report.figures.style import save_picture
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.storage import Location, check_reachable, local_copy
from fcdd_sweep.training.detector import Detector, load_detector
from fcdd_sweep.training.methods import Detection

BATCH = 64
_TURNED = 5
"""From this value on, EXIF's orientation swaps width and height."""


@dataclass(frozen=True)
class Prediction:
    """What `predict` wrote.

    Attributes:
        scores: `scores.parquet`, with `scores.csv` of the same rows beside it.
        heatmaps: the folder of pictures: input, heatmap, and the heatmap over the input, with score and legend.
        count: images scored.
        unreadable: a sentence for each image that did not decode.
    """

    scores: Path
    heatmaps: Path
    count: int
    unreadable: tuple[str, ...]


def predict(
    snapshot: Location, paths: Sequence[Path], output: Path, device: str = "auto", batch_size: int = BATCH
) -> Prediction:
    """Score images and draw their heatmaps. All pictures share the colors of the trial's test set.

    Args:
        snapshot: `snapshot.pt` of a finished trial, on this machine or in an object store.
        paths: images, or folders that are searched for images.
        output: gets `scores.parquet`, `scores.csv` and `heatmaps/`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        batch_size: images that are decoded and scored together, at least 1.
    Raises:
        InputError: no such snapshot or image, or not one image that can be read.
    """
    detector = _load(snapshot, device)
    found = [(path, file) for path in paths for file in image_files(path)]
    if not found:
        raise InputError(Problem(", ".join(map(str, paths)), "there is no image there"))
    _make(output / "heatmaps")
    rows: list[dict[str, object]] = []
    unreadable: list[str] = []
    pictures = _pictures(found)
    for start in range(0, len(found), batch_size):
        part = slice(start, start + batch_size)
        rows += _batch(detector, [file for _, file in found[part]], pictures[part], output, unreadable)
    if not rows:
        raise InputError([Problem(sentence, "not one image could be read") for sentence in unreadable])
    table = files.table_from_rows(rows, schemas.PREDICTIONS)
    files.write_atomically(output / "scores.csv", lambda path: pyarrow.csv.write_csv(table, path))
    scores = files.write_table(output / "scores.parquet", table)
    return Prediction(scores, output / "heatmaps", len(rows), tuple(unreadable))


def _load(snapshot: Location, device: str) -> Detector:
    check_reachable(snapshot)
    try:
        with local_copy(snapshot) as path:
            return load_detector(path, device)
    except FileNotFoundError as error:  # in a store: a file of this machine is looked for by `load_detector`
        raise InputError(Problem(str(snapshot), "there is no such file")) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"predictions cannot be written there ({error.strerror})"
        raise InputError(Problem(str(folder.parent), what, next_step="Choose another --output")) from error


def _batch(
    detector: Detector, found: Sequence[Path], pictured: Sequence[Path], output: Path, unreadable: list[str]
) -> list[dict[str, object]]:
    images = detector.settings.images
    decoded, names = [], []
    for file, picture in zip(found, pictured, strict=True):
        try:
            decoded.append(load_image_file(file, images))
        except DataError as error:
            unreadable.append(str(error))
            continue
        names.append((file, picture))
    if not decoded:
        return []
    raw = np.stack(decoded)
    detection = detector.detect(raw, batch_size=len(raw))
    values, scale, told = _colored(detector, _shown(detector, detection))
    scores = [float(score) for score in detection.scores.tolist()]
    for (file, place), score, seen, heatmap in zip(names, scores, as_rgb(detector.visible(raw)), values, strict=True):
        proportions, squeezed = _proportions(file, images.aspect)
        notes = tuple(filter(None, (told, squeezed)))
        said = Said(file.name, score, detector.threshold, scale, notes)
        save_picture(draw_prediction(seen, heatmap, said, proportions), output / place)
    return [_row(detector, file, score, place) for (file, place), score in zip(names, scores, strict=True)]


def _pictures(found: Sequence[tuple[Path, Path]]) -> list[Path]:
    """Below the output folder, pictures lie as their images do below the folder that was given.

    A name that is taken gets a number.
    """
    taken: dict[Path, int] = {}
    places = []
    for top, file in found:
        inside = Path(top.resolve().name) / file.relative_to(top) if top.is_dir() else Path(file.name)
        taken[inside] = taken.get(inside, 0) + 1
        mark = f"-{taken[inside]}" if taken[inside] > 1 else ""
        places.append("heatmaps" / inside.with_name(f"{inside.name}{mark}.png"))
    return places


def _shown(detector: Detector, detection: Detection) -> npt.NDArray[np.float32]:
    """(N, S, S) heatmaps, blurred where the experiment wants its pictures so."""
    heatmaps: npt.NDArray[np.float32] = detector.heatmaps(detection.maps)[:, 0].numpy()
    geometry = detector.map_geometry
    return blur(heatmaps, geometry.blur_size, geometry.std) if detector.settings.heatmaps.blur else heatmaps


def _colored(detector: Detector, heatmaps: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], ColorScale, str]:
    """(N, S, S) heatmaps in 0..1, the ends of their colors, and a sentence on them."""
    quantile, reference = detector.settings.heatmaps.color_quantile, detector.reference_quantiles
    if np.isnan(reference).any():
        own = np.stack(
            [heatmap_values.normalize(each, *heatmap_values.local_range(each, quantile)) for each in heatmaps]
        )
        told = "Colors: this image's own range, as the trial had no test images; not comparable between images."
        return own, local_scale(quantile), told
    low, high = heatmap_values.global_range(reference, quantile)
    told = f"Colors: from the minimum to the {quantile:g} quantile of the heatmaps of the trial's test images."
    return heatmap_values.normalize(heatmaps, low, high), global_scale(low, high), told


def _proportions(file: Path, aspect: str) -> tuple[float, str]:
    """Width by height of the part of a file that is used, and a sentence where the network saw it in others."""
    with Image.open(file) as picture:
        width, height = picture.size
        if picture.getexif().get(ExifTags.Base.Orientation, 1) >= _TURNED:
            width, height = height, width
    if width == height:
        return 1.0, ""
    if aspect == "crop":
        return 1.0, f"Only the middle square of the file's {width}x{height} px was looked at."
    return width / height, f"Shown in the file's proportions, {width}x{height} px; the network saw it as a square."


def _row(detector: Detector, file: Path, score: float, picture: Path) -> dict[str, object]:
    known = not math.isnan(detector.threshold)
    return {
        "path": str(file),
        "score": score,
        "threshold": detector.threshold if known else None,
        "anomalous": score > detector.threshold if known else None,
        "normal_class": detector.normal_class,
        "heatmap": picture.as_posix(),
    }
