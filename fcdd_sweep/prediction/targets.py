"""What predicts: a snapshot, a trial's folder, all seeds of a class, or a run with one class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.metrics.score_choice import is_held_out
from fcdd_sweep.prediction.ensemble import Calibration, Ensemble, EnsembleMember
from fcdd_sweep.prediction.pictures import Wanted
from fcdd_sweep.prediction.seeds import SEED, seeds_of_class
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.documents import stored_decision
from fcdd_sweep.results.storage import Location, check_reachable, children, local_copy
from fcdd_sweep.results.tree import CONFIG, LEAF_TABLES, SNAPSHOT, TrialPaths
from fcdd_sweep.training.detector import Detector, load_detector
from fcdd_sweep.training.predictor import Predictor
from fcdd_sweep.training.tiling import TILE, TiledPredictor, check_tileable

_CLASS = "normal_"
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
        notes: sentences on seeds that do not predict, and on scores that are not standardized.
    """

    predictor: Predictor
    detectors: tuple[Detector, ...]
    snapshots: tuple[Location, ...]
    notes: tuple[str, ...] = ()

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
    snapshots, notes = find_snapshots(place)
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
        return Target(predictors[0], tuple(detectors), tuple(snapshots), tuple(notes))
    members = [
        EnsembleMember(predictor, detector, None if how.native_scale else _calibration(snapshot.parent, detector))
        for predictor, detector, snapshot in zip(predictors, detectors, snapshots, strict=True)
    ]
    without = [leaf.parent.name for leaf, each in zip(snapshots, members, strict=True) if each.calibration is None]
    if without and not how.native_scale:
        what = "have too few different scores of held-out nominal images to standardize theirs"
        notes.append(f"Scores are means of the seeds' plain scores: {', '.join(without)} {what}.")
    return Target(Ensemble(tuple(members), how.threshold), tuple(detectors), tuple(snapshots), tuple(notes))


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


class FoundSnapshots(NamedTuple):
    """The snapshots that a place stands for, and sentences on seeds that are left out."""

    snapshots: list[Location]
    notes: list[str]


def find_snapshots(place: Location) -> FoundSnapshots:
    """Return the snapshots that a place stands for: one, or one for each seed of a class.

    Raises:
        InputError: there is none, or there are several classes or configs, which are named.
    """
    if place.name.endswith(".pt") or (isinstance(place, Path) and place.is_file()):
        return FoundSnapshots([place], [])
    names = children(place)
    if not names:
        raise InputError(Problem(str(place), "there is no such file or folder", _ALLOWED))
    if SNAPSHOT in names:
        return FoundSnapshots([place / SNAPSHOT], [])
    if any(name.startswith(SEED) for name in names):
        return _of_class(place)
    if any(name in names for name in (CONFIG, *LEAF_TABLES)):
        step = f"Trials leave a {SNAPSHOT} unless keep.snapshots is none: train it again with keep.snapshots: all"
        raise InputError(Problem(str(place), f"is the folder of a trial without {SNAPSHOT}", _ALLOWED, step))
    classes = list(_classes_below(place, _DEPTH))
    if not classes:
        raise InputError(Problem(str(place), "holds no trials", _ALLOWED))
    if len(classes) > 1:
        shown = ", ".join(map(str, classes[:12])) + (", ..." if len(classes) > 12 else "")
        what = f"holds {len(classes)} classes or configs, and each has detectors of its own"
        raise InputError(Problem(str(place), what, f"one of {shown}"))
    return _of_class(classes[0])


def _of_class(folder: Location) -> FoundSnapshots:
    leaves, notes = seeds_of_class(folder)
    return FoundSnapshots([leaf / SNAPSHOT for leaf in leaves], notes)


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
    """Raise an `InputError` unless detectors have one class and method, and read images in the same way."""
    if len(classes := dict.fromkeys(each.normal_class for each in detectors)) > 1:
        what = f"its snapshots were trained on several classes ({', '.join(classes)}), and cannot predict together"
        raise InputError(Problem(str(place), what, next_step="Name one seed, such as its folder it_0"))
    kinds = {(str(each.settings.images), each.settings.method, str(each.value_range)) for each in detectors}
    if len(kinds) > 1:
        what = "its seeds were trained with different settings of images or methods, and cannot predict together"
        raise InputError(Problem(str(place), what, next_step="Name one seed, such as its folder it_0"))


def _calibration(leaf: Location, detector: Detector) -> Calibration | None:
    """Return mean and deviation of the scores of a trial's held-out nominal images; None where there are too few."""
    table = files.read_columns(TrialPaths(leaf).scores, schemas.SCORES)
    held_out = table[detector.score_column].to_numpy()[is_held_out(table.to_pydict())].astype(np.float64)
    if len(held_out) < 2 or not held_out.std(ddof=1) > 0:
        return None
    return Calibration(float(held_out.mean()), float(held_out.std(ddof=1)))
