"""The image scores that `evaluation.image_score: auto` chooses, one per class, from the leaves of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fcdd_sweep.config.fields import score_title
from fcdd_sweep.metrics.decision import calibrating_paths
from fcdd_sweep.metrics.score_choice import (
    CANDIDATES,
    SELECTION,
    ScoreCandidate,
    ScoreChoice,
    SelectionScores,
    choose_score,
)
from fcdd_sweep.results import schemas
from fcdd_sweep.results.files import TableRow, nulled, read_columns
from fcdd_sweep.results.tree import TrialPaths

Columns = dict[str, list[Any]]
"""Of `scores.parquet`, by name."""
_MOST_TOLD = 10
"""Classes whose choice gets a sentence; the table has all."""


def choose_scores(leaves: Mapping[str, Sequence[Path]], rate: float) -> dict[str, ScoreChoice]:
    """Return the image score of each class.

    Args:
        leaves: of the finished trials of all seeds and configs, by class.
        rate: the false-alarm rate, for which some images calibrate thresholds and choose nothing.
    """
    return {name: _chosen([_held_out_scores(leaf) for leaf in folders], rate) for name, folders in leaves.items()}


def _chosen(trials: Sequence[Columns], rate: float) -> ScoreChoice:
    calibrating = {path for scores in trials for path in calibrating_paths(scores, rate)}
    return choose_score([SelectionScores.of(scores, calibrating) for scores in trials])


def _held_out_scores(leaf: Path) -> Columns:
    """Return a leaf's scores without those of test images, which are dropped before any score is looked at."""
    table = read_columns(TrialPaths(leaf).scores, schemas.SCORES)
    kept = pc.is_in(table["split"], value_set=pa.array(["validation", SELECTION]))
    columns: Columns = table.filter(kept).to_pydict()
    return columns


def choice_rows(choices: Mapping[str, ScoreChoice]) -> list[TableRow]:
    """Return the rows of `image_scores.parquet`."""
    rows = []
    for name, choice in choices.items():
        compared = {each.column: each for each in choice.candidates}
        for column in CANDIDATES:
            found = compared.get(column, ScoreCandidate(column, math.nan, math.nan, math.nan))
            row = {
                "normal_class": name,
                "score": column,
                "is_used": column == choice.column,
                "selection_auroc": found.auroc,
                "gain": found.gain,
                "gain_std_error": found.std_error,
                "n_trials": choice.n_trials,
                "n_nominal": choice.n_nominal,
                "n_anomalous": choice.n_anomalous,
                "source": ", ".join(choice.sources),
            }
            rows.append(nulled(row))
    return rows


def choice_sentences(choices: Mapping[str, ScoreChoice]) -> list[str]:
    """Return a sentence per class on its image score, of the first classes."""
    told = [
        f"image score of class '{name}': {score_title(choice.column)}"
        + (
            f" (auto, on {choice.n_nominal} nominal images and {choice.n_anomalous} anomalies)"
            if choice.is_made
            else ""
        )
        + ("" if choice.is_made else " (auto has too few selection images to choose on)")
        for name, choice in list(choices.items())[:_MOST_TOLD]
    ]
    more = len(choices) - len(told)
    return [*told, *([f"image scores of {more} more classes are in image_scores.parquet"] if more > 0 else [])]
