"""Score new images with a trial's snapshot, and draw their heatmaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from fcdd_sweep.config.errors import DataError, InputError, Problem
from fcdd_sweep.config.names import printable, slug
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.decoding.folders import images_at
from fcdd_sweep.data.decoding.pixels import may_have_pages, pages_note
from fcdd_sweep.data.decoding.store import name_list
from fcdd_sweep.data.loading import load_image_file
from fcdd_sweep.metrics import heatmap_values
from fcdd_sweep.metrics.decision import RegionMask
from fcdd_sweep.metrics.heatmap_values import blur
from fcdd_sweep.report.figures.heatmaps import global_scale, local_scale
from fcdd_sweep.report.figures.image_grid import ColorScale, as_rgb
from fcdd_sweep.report.figures.prediction_figure import PredictionText, draw_prediction
from fcdd_sweep.report.figures.style import save_picture
from fcdd_sweep.report.tables import write_csv
from fcdd_sweep.report.text import score_text
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.documents import stored_decision
from fcdd_sweep.results.storage import Location, check_reachable, local_copy
from fcdd_sweep.training.detector import Detector, load_detector
from fcdd_sweep.training.device import no_gpu_reason, numerics

BATCH = 64
_MOST_BYTES = 230
"""Of a figure's name without ending and number: file systems allow 255, and an unfinished file has a longer name."""
_TURNED = 5
"""From this value on, the EXIF orientation swaps width and height."""


@dataclass(frozen=True)
class Prediction:
    """Files that `predict` wrote.

    Attributes:
        scores: `scores.parquet`; `scores.csv` beside it has the same rows.
        heatmaps: folder with one figure per image: input, heatmap, and the heatmap over the input.
        count: number of images scored.
        unreadable: a sentence for each image that cannot be decoded, and on links and folders that cannot be read.
        device: what scored them, such as `cuda`; with the reason where `auto` fell back to the CPU.
        notes: sentences on the images as a whole, and on files and pages that are passed over.
    """

    scores: Path
    heatmaps: Path
    count: int
    unreadable: tuple[str, ...]
    device: str
    notes: tuple[str, ...] = ()


@dataclass
class _Seen:
    """What becomes of the files, batch by batch: sentences on the unreadable ones, and the share of clipped values."""

    unreadable: list[str] = field(default_factory=list)
    clipped: dict[str, float] = field(default_factory=dict)

    def notes(self, detector: Detector, count: int) -> tuple[str, ...]:
        if not self.clipped:
            return ()
        most = f"at most {max(self.clipped.values()):.2%} of an image"
        names = name_list(list(self.clipped))
        return (
            f"{len(self.clipped)} of {count} images have values outside of the trained range, which are clipped "
            f"({detector.value_range}), {most}: {names}.",
        )


def predict(
    snapshot: Location, paths: Sequence[Path], output: Path, device: str = "auto", batch_size: int = BATCH
) -> Prediction:
    """Score images and draw their heatmaps. All figures share the color range of the trial's test set.

    Args:
        snapshot: `snapshot.pt` of a finished trial, on this machine or in an object store.
        paths: images, or folders that are searched for images.
        output: folder for `scores.parquet`, `scores.csv` and `heatmaps/`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        batch_size: number of images decoded and scored together, at least 1.
    Raises:
        InputError: there is no such snapshot or image, or no image can be read.
    """
    detector = load_snapshot(snapshot, device)
    found, problems, notes = _found(paths)
    if not found:
        raise InputError(problems or Problem(", ".join(map(str, paths)), "no image found"))
    _make_folder(output / "heatmaps")
    rows: list[dict[str, object]] = []
    seen = _Seen([str(problem) for problem in problems])
    figures = _figure_paths(found)
    for start in range(0, len(found), batch_size):
        batch = slice(start, start + batch_size)
        rows += _predict_batch(detector, [file for _, file in found[batch]], figures[batch], output, seen)
    if not rows:
        raise InputError([Problem(sentence, "no image could be read") for sentence in seen.unreadable])
    table = files.table_from_rows(rows, schemas.PREDICTIONS)
    write_csv(output / "scores.csv", table)
    scores = files.write_table(output / "scores.parquet", table)
    notes += seen.notes(detector, len(rows))
    used = detector.device.type
    if device == "auto" and used == "cpu":
        used = f"{used}, as torch sees no GPU ({no_gpu_reason()})"
    return Prediction(scores, output / "heatmaps", len(rows), tuple(seen.unreadable), used, tuple(notes))


def load_snapshot(snapshot: Location, device: str) -> Detector:
    """Load a detector from a `snapshot.pt` on this machine or in an object store.

    Raises:
        InputError: as `load_detector`, or the store does not have the file or cannot be reached.
    """
    check_reachable(snapshot)
    try:
        with local_copy(snapshot) as path:
            return load_detector(path, device, stored_decision(snapshot))
    except FileNotFoundError as error:  # in a store; on this machine `load_detector` raises an InputError
        raise InputError(Problem(str(snapshot), "there is no such file")) from error


def _found(paths: Sequence[Path]) -> tuple[list[tuple[Path, Path]], list[Problem], list[str]]:
    """Return each image with the given path that it was found at, what cannot be read, and what is passed over.

    Raises:
        DataError: names all given paths that do not exist.
    """
    found, problems, absent, notes = list[tuple[Path, Path]](), list[Problem](), list[Problem](), list[str]()
    for path in paths:
        try:
            at_path = images_at(path)
        except DataError as error:
            absent += error.problems
        else:
            found += [(path, file) for file in at_path.images]
            problems += at_path.problems
            notes += at_path.notes
    if absent:
        raise DataError(absent)
    with_pages = pages_note([file for _, file in found if may_have_pages(file)])
    return found, problems, [*notes, *filter(None, [with_pages])]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot write predictions ({error.strerror})"
        raise InputError(Problem(str(folder.parent), what, next_step="Choose another --output")) from error


def _predict_batch(
    detector: Detector, found: Sequence[Path], figures: Sequence[Path], output: Path, seen: _Seen
) -> list[dict[str, object]]:
    images = detector.settings.images
    decoded, names = [], []
    for file, figure in zip(found, figures, strict=True):
        try:
            pixels, clipped = load_image_file(file, images, detector.value_range)
        except DataError as error:
            seen.unreadable.append(str(error))
            continue
        decoded.append(pixels)
        if clipped:
            seen.clipped[str(file)] = clipped
        names.append((file, figure))
    if not decoded:
        return []
    raw = np.stack(decoded)
    with numerics(detector.settings, detector.device):  # as in the trial that the threshold comes from
        detection = detector.detect(raw, batch_size=len(raw))
        plain = detector.heatmaps(detection.maps)[:, 0].numpy()
        scores = detector.scores(detection)[detector.score_column]
    heatmaps = _drawn(detector, plain)
    values, scale, note = _color_values(detector, heatmaps)
    decisions = [_decision(detector, float(score), each) for score, each in zip(scores, plain, strict=True)]
    shown = as_rgb(detector.visible(raw))
    for (file, figure), decision, picture, heatmap in zip(names, decisions, shown, values, strict=True):
        proportions, aspect_note = _proportions(file, images.aspect)
        notes = tuple(filter(None, (*_decision_notes(detector, decision), note, aspect_note)))
        agrees = decision["agrees"] is not False
        text = PredictionText(printable(file.name), decision["score"], detector.threshold, scale, notes, agrees)
        save_picture(draw_prediction(picture, heatmap, text, proportions), output / figure)
    return [
        {
            "path": printable(str(file)),
            **decision,
            "normal_class": detector.normal_class,
            "heatmap": figure.as_posix(),
        }
        for (file, figure), decision in zip(names, decisions, strict=True)
    ]


def _decision(detector: Detector, score: float, heatmap: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Return the columns of an image's row that decisions fill.

    Args:
        detector: has the thresholds.
        score: of the image.
        heatmap: (S, S), not blurred: the pixel threshold comes from such heatmaps.
    """
    threshold, pixel_threshold = detector.threshold, detector.pixel_threshold
    label = None if math.isnan(threshold) else int(score > threshold)
    mask = None if math.isnan(pixel_threshold) else RegionMask.of(heatmap, pixel_threshold)
    has_region = None if mask is None else mask.regions > 0
    return {
        "score": score,
        "threshold": None if label is None else threshold,
        "label": label,
        "heatmap_max": float(heatmap.max()),
        "pixel_threshold": None if mask is None else pixel_threshold,
        "has_region": has_region,
        "n_regions": None if mask is None else mask.regions,
        "region_area": None if mask is None else mask.area,
        "agrees": None if label is None or has_region is None else bool(label) == has_region,
    }


def _decision_notes(detector: Detector, decision: Mapping[str, Any]) -> list[str]:
    """Return what label and heatmap say where they disagree, and what decisions rest on, or why there are none."""
    text = detector.threshold_source
    if decision["label"] is None:
        return [f"{text[:1].upper()}{text[1:]}."]
    basis = f"Decision: {text}."
    if decision["agrees"] is not False:
        return [basis]
    above = "above" if decision["has_region"] else "not above"
    found = count_noun(decision["n_regions"], "anomalous region") if decision["has_region"] else "no anomalous region"
    values = (
        f"{score_text(decision['heatmap_max'])}, {above} the pixel threshold of {score_text(detector.pixel_threshold)}"
    )
    label = "anomalous" if decision["label"] else "nominal"
    return [f"By its score the image is {label}; by its heatmap, at most {values}, it has {found}.", basis]


def _figure_paths(found: Sequence[tuple[Path, Path]]) -> list[Path]:
    """Return each figure's path below the output folder: that of its image below the given folder.

    A name that occurs again is numbered. One that is not UTF-8 text, has control characters or is too long for the
    figure's ending becomes a slug.
    """
    seen: dict[Path, int] = {}
    places = []
    for top, file in found:
        inside = Path(top.resolve().name) / file.relative_to(top) if top.is_dir() else Path(file.name)
        inside = Path(*map(_figure_name, inside.parts))
        seen[inside] = seen.get(inside, 0) + 1
        suffix = f"-{seen[inside]}" if seen[inside] > 1 else ""
        places.append("heatmaps" / inside.with_name(f"{inside.name}{suffix}.png"))
    return places


def _figure_name(part: str) -> str:
    if printable(part) == part and len(part.encode()) <= _MOST_BYTES:
        return part
    return slug(part, _MOST_BYTES)


def _drawn(detector: Detector, heatmaps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return (N, S, S) heatmaps, blurred if the experiment's `heatmaps.blur` is set."""
    geometry = detector.map_geometry
    return blur(heatmaps, geometry.blur_size, geometry.std) if detector.settings.heatmaps.blur else heatmaps


def _color_values(
    detector: Detector, heatmaps: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], ColorScale, str]:
    """Return (N, S, S) heatmaps in 0..1, the ends of the color bar, and a note on the colors."""
    quantile, reference = detector.settings.heatmaps.color_quantile, detector.reference_quantiles
    if np.isnan(reference).any():
        own = np.stack(
            [heatmap_values.normalize(each, *heatmap_values.local_range(each, quantile)) for each in heatmaps]
        )
        note = "Colors: this image's own range, as the trial had no test images; not comparable between images."
        return own, local_scale(quantile), note
    low, high = heatmap_values.global_range(reference, quantile)
    note = f"Colors: from the minimum to the {quantile:g} quantile of the heatmaps of the trial's test images."
    return heatmap_values.normalize(heatmaps, low, high), global_scale(low, high), note


def _proportions(file: Path, aspect: str) -> tuple[float, str]:
    """Return width by height of the used part of a file, and a note where the network saw other proportions."""
    try:
        with Image.open(file) as picture:
            width, height = picture.size
            if picture.getexif().get(ExifTags.Base.Orientation, 1) >= _TURNED:
                width, height = height, width
    except UnidentifiedImageError:  # TIFF that Pillow does not know
        return 1.0, ""
    if width == height:
        return 1.0, ""
    if aspect == "crop":
        return 1.0, f"Only the middle square of the file's {width}x{height} px is scored."
    return width / height, f"Shown in the file's proportions, {width}x{height} px; the network saw it as a square."
