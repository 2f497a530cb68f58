"""The image scores that `evaluation.image_score: auto` chooses, one per class, from the leaves of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fcdd_sweep.config.fields import score_title
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

_MOST_TOLD = 10
"""Classes whose choice is told in a sentence; the table has all."""


def selection_scores(leaf: Path) -> SelectionScores:
    """Return the scores of a leaf's selection images. Rows of test images are dropped before any score is looked at."""
    table = read_columns(TrialPaths(leaf).scores, schemas.SCORES)
    selected = pc.is_in(table["split"], value_set=pa.array(["validation", SELECTION]))
    return SelectionScores.of(table.filter(selected).to_pydict())


def choose_scores(leaves: Mapping[str, Sequence[Path]]) -> dict[str, ScoreChoice]:
    """Return the image score of each class.

    Args:
        leaves: of the finished trials of all seeds and configs, by class.
    """
    return {name: choose_score([selection_scores(leaf) for leaf in folders]) for name, folders in leaves.items()}


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
