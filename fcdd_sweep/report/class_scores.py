"""Scores and decisions of a class's test images over its seeds: for histograms, confusion and the worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.decision_record import DecisionRecord
from fcdd_sweep.config.fields import score_column
from fcdd_sweep.metrics.cross_conformal import p_value_column
from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.report.run_files import Trial
from fcdd_sweep.results import schemas
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import TableRow, read_rows, read_table
from fcdd_sweep.results.tree import TrialPaths

_HEATMAP_MAX = "score_max"
DECIDED = ("image_score", "threshold", "pixel_threshold", "p_value_level")
"""Metrics of a trial by which pictures mark decisions."""
CONFUSION = ("true_positives", "false_positives", "true_negatives", "false_negatives")


@dataclass(frozen=True)
class SeedScores:
    """Test images of one trial; entry i of each array is the same image.

    Attributes:
        seed: of the trial.
        path: (N,) text.
        label: (N,) 0 nominal, 1 anomalous.
        defect: (N,) text, empty for nominal images.
        score: (N,) by the present image score; higher is more anomalous.
        called: (N,) whether the image is called anomalous; None without decisions.
        threshold: of scores; None where none decides.
        has_region: (N,) whether the heatmap has a pixel that is called anomalous; None without pixel decisions.
    """

    seed: int
    path: npt.NDArray[np.str_]
    label: npt.NDArray[np.int8]
    defect: npt.NDArray[np.str_]
    score: FloatArray
    called: npt.NDArray[np.bool_] | None
    threshold: float | None
    has_region: npt.NDArray[np.bool_] | None = None

    @property
    def disagrees(self) -> npt.NDArray[np.bool_] | None:
        """(N,) whether an image is called anomalous without a region, or nominal with one; None without decisions."""
        return None if self.called is None or self.has_region is None else self.called != self.has_region

    def only(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> SeedScores:
        """Return those of some images."""
        names = ("path", "label", "defect", "score", "called", "has_region")
        known = {name: array for name in names if (array := getattr(self, name)) is not None}
        return replace(self, **{name: array[chosen] for name, array in known.items()})

    def by_path(self) -> dict[str, int]:
        """Return the entry of each image."""
        return {name: i for i, name in enumerate(self.path.tolist())}


@dataclass(frozen=True)
class Mistake:
    """An image and how often it was called what it is not.

    Attributes:
        path: of the image.
        defect: its type; empty for a nominal image.
        score: mean over the seeds.
        wrong, seeds: seeds that called it wrong, of so many that decided; 0 of 0 without decisions.
    """

    path: str
    defect: str
    score: float
    wrong: int
    seeds: int


def trial_of_leaf(leaf: Path) -> Trial:
    """Return the trial in a leaf by its present decisions: those of `decision.json`, else those it was written with.

    Raises:
        InputError, or one of `UNREADABLE`: a file is damaged.
    """
    paths = TrialPaths(leaf)
    metrics: TableRow = read_rows(paths.metrics, schemas.METRICS)[0] if paths.metrics.is_file() else {}
    record = DecisionRecord.beside(paths.snapshot)
    column = metrics.get("image_score")
    if record is not None and record.trial_id == metrics.get("trial_id"):
        decided = {name: getattr(record, name) for name in ("threshold", "pixel_threshold", "false_alarm_rate")}
        metrics |= {"image_score": score_column(record.image_score), **decided}
        if record.p_value_level is not None:  # earlier records have none
            metrics["p_value_level"] = record.p_value_level
    rescored = metrics.get("image_score") != column
    plan = {"config": "", "normal_class": "", "seed": 0} | metrics
    return Trial(plan, TrialStatus.DONE, metrics=metrics, folder=leaf, rescored=rescored)


def read_seed_scores(trial: Trial) -> SeedScores:
    """Return the test images of a finished trial.

    Raises:
        ValueError: the trial is not done.
        OSError, ArrowException, KeyError: its scores cannot be read.
    """
    if trial.folder is None:
        raise ValueError(f"{trial.label}, seed {trial.seed} is not done")
    return _read(trial.folder, trial)


def _read(leaf: Path, trial: Trial) -> SeedScores:
    column = str(trial.metrics.get("image_score") or "score")
    p_values = p_value_column(column) if column.startswith("score_") else ""
    table = read_table(TrialPaths(leaf).scores)
    of_heatmaps = [name for name in (_HEATMAP_MAX, p_value_column(_HEATMAP_MAX)) if name in table.column_names]
    wanted = ["split", "path", "label", "defect", column, *([p_values] if p_values else []), *of_heatmaps]
    table = table.select(list(dict.fromkeys(wanted)))
    is_test = np.array(table["split"].to_pylist()) == "test"

    def values(name: str) -> FloatArray:
        return np.array(table[name].to_numpy(), np.float64)[is_test]

    score, names = values(column), ("threshold", "pixel_threshold", "p_value_level")
    threshold, pixel_threshold, level = (trial.metrics.get(name) for name in names)
    called = has_region = None
    if threshold is not None:
        called = score > threshold
        has_region = None if pixel_threshold is None else values(_HEATMAP_MAX) > pixel_threshold
    elif level is not None and p_values:
        called, has_region = values(p_values) <= level, values(p_value_column(_HEATMAP_MAX)) <= level
    path, defect = (np.array(table[name].to_pylist(), dtype=str)[is_test] for name in ("path", "defect"))
    label = table["label"].to_numpy()[is_test].astype(np.int8)
    return SeedScores(trial.seed, path, label, defect, score, called, threshold, has_region)


def worst_mistakes(seeds: Sequence[SeedScores], label: int, most: int = 5) -> list[Mistake]:
    """Return the images of a label that are furthest on the wrong side: called wrong by most seeds, then by rank.

    Scores of two seeds have no common unit, so images are compared by their mean rank within each seed. With decisions
    only images that at least one seed called wrong are returned; without any, those furthest on the wrong side.
    """
    found: dict[str, list[tuple[float, float, bool | None, str]]] = {}
    for each in seeds:
        ranks = np.argsort(np.argsort(each.score, kind="stable")) / max(len(each.score), 1)
        side = ranks if label == 0 else 1 - ranks
        for i in np.flatnonzero(each.label == label):
            wrong = None if each.called is None else bool(each.called[i]) != bool(label)
            entry = (float(side[i]), float(each.score[i]), wrong, str(each.defect[i]))
            found.setdefault(str(each.path[i]), []).append(entry)
    decided = any(each.called is not None for each in seeds)
    rows = []
    for path, entries in found.items():
        known = [wrong for _, _, wrong, _ in entries if wrong is not None]
        mistake = Mistake(path, entries[0][3], float(np.mean([e[1] for e in entries])), sum(known), len(known))
        rows.append((mistake.wrong, float(np.mean([e[0] for e in entries])), mistake))
    rows.sort(key=lambda row: (-row[0], -row[1], row[2].path))
    return [mistake for wrong, _, mistake in rows if wrong or not decided][:most]


def confusion_counts(trials: Sequence[Trial]) -> dict[str, int] | None:
    """Return the decisions on test images, summed over the seeds that decided; None where none did."""
    counted = [trial.metrics for trial in trials if trial.metrics.get("true_positives") is not None]
    return {name: sum(row[name] for row in counted) for name in CONFUSION} if counted else None


def base_rate(trials: Sequence[Trial]) -> float:
    """Return the share of anomalous images in the test set, mean over the trials that are done; NaN without any."""
    rates = []
    for trial in trials:
        nominal, anomalous = trial.metrics.get("n_test_nominal"), trial.metrics.get("n_test_anomalous")
        if nominal is not None and anomalous is not None and nominal + anomalous:
            rates.append(anomalous / (nominal + anomalous))
    return float(np.mean(rates)) if rates else float("nan")


def pixel_base_rate(trials: Sequence[Trial]) -> float:
    """Return the share of anomalous pixels: the precision where all are called anomalous; NaN without maps."""
    rates = [float(trial.curves["pixel_pr"][1][-1]) for trial in trials if "pixel_pr" in trial.curves]
    return float(np.mean(rates)) if rates else float("nan")
