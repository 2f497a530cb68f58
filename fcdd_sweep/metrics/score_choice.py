"""The choice of an image score on selection data alone, for `evaluation.image_score: auto`.

Selection data are held-out nominal images, a fixed part of them that no threshold is calibrated on, and anomalies that
neither training nor the test set has: those of `evaluation.validation.anomalies`, or rendered ones. Scores of two
networks cannot be compared, so the trials of a class are pooled pair by pair: a candidate's AUROC is the share of pairs
of a nominal and an anomalous image of the same trial that it puts in the right order.

Sources of the standard error: DeLong et al., Biometrics 44 (1988), with clusters as in Obuchowski, Biometrics 53
(1997). A cluster is one nominal image with the scores that all trials give to it and to anomalies rendered on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.fields import MEAN_SCORE, TOP_SHARES, score_title
from fcdd_sweep.config.names import name_share
from fcdd_sweep.metrics.ranking import FloatArray

CANDIDATES = (MEAN_SCORE, "score_max", *TOP_SHARES.values())
"""Columns of `scores.parquet` that `auto` chooses among; of equal ones the first."""
SELECTION = "selection"
"""Value of `split` in `scores.parquet` of anomalies that are rendered for the choice alone."""
NOT_CHOSEN_YET = f"auto: {score_title(MEAN_SCORE)} until the report compares the scores of all trials of the class"
SELECTION_SHARE = 0.2
_FEWEST = 2
"""Different images of each label without which nothing is chosen: a single one has no spread."""


def is_for_selection(path: str) -> bool:
    """Return whether a held-out nominal image never calibrates a threshold with `auto`: about a fifth of all.

    That depends on its path alone: it is the same for all seeds and configs, and a new image moves no old one. So an
    image that the score of a class was chosen on calibrates no threshold of any of its trials.
    """
    return name_share(f"{SELECTION}/{path}") < SELECTION_SHARE


def is_held_out(scores: Mapping[str, Sequence[Any]]) -> npt.NDArray[np.bool_]:
    """Return which rows of a trial's scores are held-out nominal images; their columns split, label and defect."""
    split, label, defect = (np.array(scores[name], dtype=object) for name in ("split", "label", "defect"))
    held_out: npt.NDArray[np.bool_] = (split == "validation") & (defect == "") & (label == 0)
    return held_out


@dataclass(frozen=True)
class SelectionScores:
    """Scores of one trial's selection images.

    Attributes:
        nominal, anomalous: (n, c) and (m, c) float64, by the c columns of `CANDIDATES`.
        nominal_path, anomalous_path: n and m names; a rendered anomaly has that of its nominal image.
        sources: what the anomalies are.
    """

    nominal: FloatArray
    anomalous: FloatArray
    nominal_path: tuple[str, ...]
    anomalous_path: tuple[str, ...]
    sources: frozenset[str]

    @classmethod
    def of(cls, scores: Mapping[str, Sequence[Any]], calibrating: Set[str]) -> SelectionScores:
        """Return those among a trial's scores; no other row is looked at.

        Args:
            scores: columns of `scores.parquet`.
            calibrating: paths of the images that thresholds of any trial of the class are calibrated on.
        """
        split, label, defect = (np.array(scores[name], dtype=object) for name in ("split", "label", "defect"))
        path = np.array(scores["path"], dtype=object)
        held_out = is_held_out(scores)
        free = np.array([name not in calibrating for name in path], dtype=bool)
        anomalous = ((split == SELECTION) | (split == "validation")) & (label == 1) & (defect != "")
        anomalous &= free  # those that are rendered on an image that calibrates are not
        known = set(path[held_out])
        rendered = anomalous & np.array([name in known for name in path], dtype=bool)
        sources = {f"rendered {name}" for name in defect[rendered]}
        if (anomalous & ~rendered).any():
            sources.add("images of evaluation.validation.anomalies")
        nominal = np.flatnonzero(held_out & free)
        return cls(
            _table(scores, nominal),
            _table(scores, np.flatnonzero(anomalous)),
            tuple(path[nominal]),
            tuple(path[anomalous]),
            frozenset(sources),
        )


def _table(scores: Mapping[str, Sequence[Any]], rows: npt.NDArray[np.int64]) -> FloatArray:
    columns = [[scores[name][row] for row in rows] for name in CANDIDATES]
    return np.array(columns, dtype=np.float64).reshape(len(CANDIDATES), len(rows)).T


class ScoreCandidate(NamedTuple):
    """A score of images on selection data.

    Attributes:
        column: of `scores.parquet`.
        auroc: share of pairs in the right order; a tie counts half.
        gain: `auroc` minus that of the mean.
        std_error: of `gain`, over images.
    """

    column: str
    auroc: float
    gain: float
    std_error: float


@dataclass(frozen=True)
class ScoreChoice:
    """The score of a class's images, and what it was chosen by.

    Attributes:
        column: of `scores.parquet`; the mean where nothing was chosen.
        candidates: in the order of `CANDIDATES`; empty where there are too few selection images.
        n_trials: number of trials with selection images of both labels.
        n_nominal: number of different nominal images.
        n_anomalous: number of anomalies, over all trials.
        sources: what the anomalies are.
    """

    column: str = MEAN_SCORE
    candidates: tuple[ScoreCandidate, ...] = ()
    n_trials: int = 0
    n_nominal: int = 0
    n_anomalous: int = 0
    sources: tuple[str, ...] = ()

    @property
    def is_made(self) -> bool:
        """Whether scores were compared, so that the images of the comparison calibrate nothing."""
        return bool(self.candidates)

    @property
    def text(self) -> str:
        """What was chosen and why, for `image_score_source`."""
        if not self.is_made:
            missing = "too few selection images" if self.n_trials else "no scores of selection images"
            step = "hold out more nominal images (evaluation.validation.nominal_fraction)"
            again = "" if self.n_trials else ", or train again what an earlier version trained"
            return f"auto: {score_title(MEAN_SCORE)}, as trials have {missing}: {step}{again}"
        mean, *others = self.candidates
        basis = f"on {self.n_nominal} nominal images and {self.n_anomalous} anomalies ({', '.join(self.sources)})"
        if self.column != MEAN_SCORE:
            used = next(each for each in others if each.column == self.column)
            compared = f"{_gained(used)}, {mean.auroc:.3f} by the mean"
            return f"auto: {score_title(self.column)}: selection AUROC {compared}, {basis}"
        best = max(others, key=lambda each: each.auroc)
        reason = "as no other score is better by more than a standard error"
        compared = f"{mean.auroc:.3f}, {_gained(best)} by the {score_title(best.column)}"
        return f"auto: {score_title(MEAN_SCORE)}, {reason}: selection AUROC {compared}, {basis}"


def _gained(candidate: ScoreCandidate) -> str:
    return f"{candidate.auroc:.3f} ({candidate.gain:+.3f} ± {candidate.std_error:.3f})"


def choose_score(trials: Sequence[SelectionScores]) -> ScoreChoice:
    """Return the score with the largest AUROC on the selection data of a class's trials, of all seeds and configs.

    It is the mean unless the best one is better than that by more than the standard error of the difference. Of those
    that are, the largest value, which never disagrees with the decision about the heatmap, is taken unless the best one
    is better than that, too.
    """
    usable = [trial for trial in trials if len(trial.nominal) and len(trial.anomalous)]
    nominal = {path for trial in usable for path in trial.nominal_path}
    anomalous = {path for trial in usable for path in trial.anomalous_path}
    counts = len(usable), len(nominal), sum(len(trial.anomalous) for trial in usable)
    sources = tuple(sorted({source for trial in usable for source in trial.sources}))
    if min(len(nominal), len(anomalous)) < _FEWEST:
        return ScoreChoice(MEAN_SCORE, (), *counts, sources)
    pairs = _OrderedPairs.of(usable)
    auroc = pairs.auroc
    candidates = [ScoreCandidate(name, float(auroc[i]), *pairs.difference(i, 0)) for i, name in enumerate(CANDIDATES)]
    best = int(auroc.argmax())
    if not pairs.is_better(best, 0):
        used = 0
    elif pairs.is_better(1, 0) and not pairs.is_better(best, 1):
        used = 1
    else:
        used = best
    return ScoreChoice(CANDIDATES[used], tuple(candidates), *counts, sources)


@dataclass(frozen=True)
class _OrderedPairs:
    """The pairs of a nominal and an anomalous image of one trial that candidates put in the right order.

    Attributes:
        total: number of pairs.
        right: (p, c), in how many of its pairs each of p images is, by candidate; a tie counts half.
        counts: (p, 1), in how many pairs it is.
    """

    total: int
    right: FloatArray
    counts: FloatArray

    @classmethod
    def of(cls, trials: Sequence[SelectionScores]) -> _OrderedPairs:
        paths = sorted({path for trial in trials for path in (*trial.nominal_path, *trial.anomalous_path)})
        number = {path: i for i, path in enumerate(paths)}
        total, right, counts = 0, np.zeros((len(paths), len(CANDIDATES))), np.zeros((len(paths), 1))
        for trial in trials:
            by_nominal, by_anomalous = _right_pairs(trial)
            total += len(by_nominal) * len(by_anomalous)
            for names, found, others in (
                (trial.nominal_path, by_nominal, len(by_anomalous)),
                (trial.anomalous_path, by_anomalous, len(by_nominal)),
            ):
                rows = [number[name] for name in names]
                np.add.at(right, rows, found)
                np.add.at(counts, rows, others)
        return cls(total, right, counts)

    @property
    def auroc(self) -> FloatArray:
        """(c,) AUROC of each candidate."""
        return np.asarray(self.right.sum(0) / (2 * self.total))  # each pair counts for both of its images

    def is_better(self, first: int, second: int) -> bool:
        """Return whether one candidate is better than another by more than the standard error of the difference."""
        gain, std_error = self.difference(first, second)
        return gain > std_error

    def difference(self, first: int, second: int) -> tuple[float, float]:
        """Return the AUROC of one candidate minus that of another, and its standard error over images."""
        gain = self.auroc[first] - self.auroc[second]
        apart = (self.right[:, first] - self.right[:, second] - self.counts[:, 0] * gain) / self.total
        n = len(apart)
        return float(gain), math.sqrt(float((apart**2).sum()) * n / (n - 1))


def _right_pairs(trial: SelectionScores) -> tuple[FloatArray, FloatArray]:
    """Return for each nominal and for each anomalous image by how many of the others it is in the right order, by
    candidate: (n, c) and (m, c)."""
    by_nominal, by_anomalous = np.empty_like(trial.nominal), np.empty_like(trial.anomalous)
    for column in range(len(CANDIDATES)):
        nominal, anomalous = trial.nominal[:, column], trial.anomalous[:, column]
        by_anomalous[:, column] = _below(anomalous, nominal)
        by_nominal[:, column] = _below(-nominal, -anomalous)
    return by_nominal, by_anomalous


def _below(values: FloatArray, others: FloatArray) -> FloatArray:
    """Return for each value how many of `others` are below it; a tie counts half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2
