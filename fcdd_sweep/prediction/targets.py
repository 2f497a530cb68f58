"""What predicts: a snapshot, a trial's folder, all seeds of a class, or a run with one class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.prediction.ensemble import Calibration, Ensemble, EnsembleMember
from fcdd_sweep.prediction.pictures import Wanted
from fcdd_sweep.results import files
from fcdd_sweep.results.documents import stored_decision
from fcdd_sweep.results.storage import Location, check_reachable, children, is_file, local_copy
from fcdd_sweep.results.tree import SNAPSHOT, TrialPaths
from fcdd_sweep.training.detector import Detector, load_detector
from fcdd_sweep.training.predictor import Predictor
from fcdd_sweep.training.tiling import TILE, TiledPredictor, check_tileable

_CLASS, _SEED = "normal_", "it_"
_ALLOWED = "a snapshot.pt, the folder of a trial, of a class with its seeds, or of a run with one class"
_DEPTH = 3
"""Folders of a run above those of its classes, at most, and one more."""


@dataclass(frozen=True)
class HowToPredict:
    """How images are scored and drawn.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `mps`.
        batch_size: images decoded and scored together; None: by their size.
        tile: side of tiles in pixels; None: each image as a whole.
        native_scale: whether images keep their pixels, in tiles.
        threshold: of image scores, in place of the detector's; None: the detector's.
        pictures: which images are drawn, see `pictures.Artist`.
    """

    device: str = "auto"
    batch_size: int | None = None
    tile: int | None = None
    native_scale: bool = False
    threshold: float | None = None
    pictures: Wanted = "auto"


@dataclass(frozen=True)
class Target:
    """What predicts, ready for use.

    Attributes:
        predictor: one detector, or several.
        detectors: all of them.
        snapshots: where each was loaded from.
    """

    predictor: Predictor
    detectors: tuple[Detector, ...]
    snapshots: tuple[Location, ...]

    @property
    def first(self) -> Detector:
        return self.detectors[0]


def load_target(place: Location, how: HowToPredict) -> Target:
    """Load the detectors at a place, on this machine or in an object store.

    Args:
        place: a snapshot, the folder of a trial, of a class with its seeds, or of a run with one class.
        how: how images are scored.
    Raises:
        InputError: there are no detectors or those of several classes, they are not of one kind, or one cannot be
            used as asked.
    """
    check_reachable(place)
    if how.native_scale and how.threshold is not None:
        what = "cannot be used with --native-scale: at that scale there are no decisions"
        raise InputError(Problem("--threshold", what, next_step="Leave one of them out"))
    snapshots = find_snapshots(place)
    detectors = [load_snapshot(snapshot, how.device) for snapshot in snapshots]
    _check_alike(place, detectors)
    tiled = how.tile is not None or how.native_scale
    if tiled:
        check_tileable(detectors[0])
    if len(detectors) == 1 and how.threshold is not None:
        detectors = [with_threshold(detectors[0], how.threshold)]
    predictors: list[Predictor] = [
        TiledPredictor(each, how.tile or TILE, how.native_scale) if tiled else each for each in detectors
    ]
    if len(detectors) == 1:
        return Target(predictors[0], tuple(detectors), tuple(snapshots))
    members = [
        EnsembleMember(predictor, detector, None if how.native_scale else _calibration(snapshot.parent, detector))
        for predictor, detector, snapshot in zip(predictors, detectors, snapshots, strict=True)
    ]
    return Target(Ensemble(tuple(members), how.threshold), tuple(detectors), tuple(snapshots))


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


def with_threshold(detector: Detector, threshold: float) -> Detector:
    """Return a detector that calls images anomalous by a threshold of the user's."""
    marks = not math.isnan(detector.pixel_threshold) or detector.ensemble is not None
    pixels = "" if not marks else f"; for pixels: {detector.threshold_source}"
    source = f"the image threshold of {threshold:g} is yours, without a stated false-alarm rate{pixels}"
    return replace(detector, threshold=threshold, threshold_source=source)


def find_snapshots(place: Location) -> list[Location]:
    """Return the snapshots that a place stands for: one, or one for each seed of a class.

    Raises:
        InputError: there is none, or there are several classes or configs, which are named.
    """
    if place.name.endswith(".pt") or (isinstance(place, Path) and place.is_file()):
        return [place]
    names = children(place)
    if not names:
        raise InputError(Problem(str(place), "there is no such file or folder", _ALLOWED))
    if SNAPSHOT in names:
        return [place / SNAPSHOT]
    if any(name.startswith(_SEED) for name in names):
        return _of_class(place)
    classes = list(_classes_below(place, _DEPTH))
    if not classes:
        raise InputError(Problem(str(place), "holds no trials", _ALLOWED))
    if len(classes) > 1:
        shown = ", ".join(map(str, classes[:12])) + (", ..." if len(classes) > 12 else "")
        what = f"holds {len(classes)} classes or configs, and each has detectors of its own"
        raise InputError(Problem(str(place), what, f"one of {shown}"))
    return _of_class(classes[0])


def _of_class(folder: Location) -> list[Location]:
    seeds = sorted((name for name in children(folder) if name.startswith(_SEED)), key=lambda name: (len(name), name))
    found = [folder / name / SNAPSHOT for name in seeds if is_file(folder / name / SNAPSHOT)]
    if not found:
        step = "Trials leave snapshots unless keep.snapshots is none; train it again with keep.snapshots: all"
        raise InputError(Problem(str(folder), f"has no {SNAPSHOT} of any seed", _ALLOWED, step))
    return found


def _classes_below(place: Location, depth: int) -> Iterator[Location]:
    """Yield the folders of classes, `normal_CLASS`, below a run or the folder of a config."""
    names = [] if depth == 0 else children(place)
    for name in names:
        if name.startswith(_CLASS):
            yield place / name
    for name in names:
        if not name.startswith((".", _CLASS)) and name not in ("search", "source", "baselines"):
            yield from _classes_below(place / name, depth - 1)


def _check_alike(place: Location, detectors: Sequence[Detector]) -> None:
    """Raise an `InputError` unless detectors read images in the same way and have the same method."""
    kinds = {(str(each.settings.images), each.settings.method, str(each.value_range)) for each in detectors}
    if len(kinds) > 1:
        what = "its seeds were trained with different settings of images or methods, and cannot predict together"
        raise InputError(Problem(str(place), what, next_step="Name one seed, such as its folder it_0"))


def _calibration(leaf: Location, detector: Detector) -> Calibration | None:
    """Return mean and deviation of the scores of a trial's held-out nominal images; None where there are too few."""
    if not is_file(TrialPaths(leaf).scores):
        return None
    table = files.read_table(TrialPaths(leaf).scores)
    wanted = {"split", "label", "defect", detector.score_column}
    if not wanted <= set(table.column_names):
        return None
    split, label, defect, score = (
        np.array(table[name].to_pylist(), dtype=object) for name in ("split", "label", "defect", detector.score_column)
    )
    held_out = score[(split == "validation") & (defect == "") & (label == 0)].astype(np.float64)
    if len(held_out) < 2 or not held_out.std(ddof=1) > 0:
        return None
    return Calibration(float(held_out.mean()), float(held_out.std(ddof=1)))
