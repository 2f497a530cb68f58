"""Scores and heatmaps of new images from a trial's snapshot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.csv
from PIL import Image

from fcdd_sweep.config.errors import DataError, InputError, Problem
from fcdd_sweep.data.loading import image_files, load_image_file
from fcdd_sweep.metrics import colour
from fcdd_sweep.metrics.upsampling import blur
from fcdd_sweep.report.mosaic import as_colours, as_rgb
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.place import Place, check_reachable, local_copy
from fcdd_sweep.training.detector import Detector, load_detector
from fcdd_sweep.training.methods import Detection

BATCH = 64
_BLEND = 0.5


@dataclass(frozen=True)
class Prediction:
    """What `predict` wrote.

    Attributes:
        scores: `scores.parquet`, with `scores.csv` of the same rows beside it.
        heatmaps: the folder of pictures: input, heatmap, and the heatmap over the input, side by side.
        count: images scored.
        unreadable: a sentence for each image that did not decode.
    """

    scores: Path
    heatmaps: Path
    count: int
    unreadable: tuple[str, ...]


def predict(
    snapshot: Place, paths: Sequence[Path], output: Path, device: str = "auto", batch_size: int = BATCH
) -> Prediction:
    """Score images and draw their heatmaps. All pictures share the colours of the trial's test set.

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
    files.write_aside(output / "scores.csv", lambda path: pyarrow.csv.write_csv(table, path))
    scores = files.write_table(output / "scores.parquet", table)
    return Prediction(scores, output / "heatmaps", len(rows), tuple(unreadable))


def _load(snapshot: Place, device: str) -> Detector:
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
    pictures = _side_by_side(detector, raw, _shown(detector, detection))
    rows = []
    for (file, picture), score, pixels in zip(names, detection.scores.tolist(), pictures, strict=True):
        files.write_aside(output / picture, lambda path, pixels=pixels: Image.fromarray(pixels).save(path))  # type: ignore[misc]
        rows.append(_row(detector, file, float(score), picture))
    return rows


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
    place = detector.place
    return blur(heatmaps, place.blur_size, place.std) if detector.settings.heatmaps.blur else heatmaps


def _side_by_side(
    detector: Detector, raw: npt.NDArray[np.uint8], heatmaps: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """(N, S, 3 S, 3): input, heatmap, both blended."""
    seen = as_rgb(detector.visible(raw))
    quantile, reference = detector.settings.heatmaps.quantile, detector.reference_quantiles
    if np.isnan(reference).any():  # the trial had no test images: each heatmap by its own range
        normalised = np.stack([colour.normalise(each, *colour.local_range(each, quantile)) for each in heatmaps])
    else:
        normalised = colour.normalise(heatmaps, *colour.global_range(reference, quantile))
    coloured = as_colours(normalised)
    blend = (seen * (1 - _BLEND) + coloured * _BLEND).astype(np.uint8)
    return np.concatenate([seen, coloured, blend], axis=2)


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
