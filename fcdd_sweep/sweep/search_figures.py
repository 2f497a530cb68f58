"""What the finished trials of a search say of their config."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fcdd_sweep.config.search import PRUNABLE, Search, column_of
from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.results import files, tree
from fcdd_sweep.sweep.ledger import Ledger


class Figures:
    """Rows of `metrics.parquet` of a run's finished trials, each read once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rows: dict[str, dict[str, Any]] = {}

    def row(self, trial_id: str) -> Mapping[str, Any]:
        """The figures of a finished trial; empty for others."""
        if trial_id not in self._rows and self._ledger.done(trial_id):
            leaf = self._ledger.run_dir / self._ledger.rows[trial_id]["leaf"]
            (self._rows[trial_id],) = files.read_table(leaf / tree.METRICS).to_pylist()
        return self._rows.get(trial_id, {})

    def course(self, trial_id: str) -> dict[int, float]:
        """By epoch, the AUROC over validation images of a finished trial, where it was told to look."""
        if not self._ledger.done(trial_id):
            return {}
        leaf = self._ledger.run_dir / self._ledger.rows[trial_id]["leaf"]
        table = files.read_table(leaf / tree.HISTORY).select(["epoch", PRUNABLE])
        return {row["epoch"]: row[PRUNABLE] for row in table.to_pylist() if row[PRUNABLE] is not None}


@dataclass(frozen=True)
class Verdict:
    """A config's value, or why it has none.

    Attributes:
        scores: one a metric; empty when the config has no value.
        policy: what was done about failed trials; empty when none failed.
        facts: further columns of `configs.parquet`.
    """

    scores: tuple[float, ...]
    policy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def verdict(search: Search, specs: Sequence[TrialSpec], figures: Figures) -> Verdict:
    """What a config is worth when none of its trials runs any more; those that are not done failed."""
    rows = [figures.row(spec.trial_id) for spec in specs]
    done = [row for row in rows if row]
    facts = {
        "n_trials": len(rows),
        "n_done": len(done),
        "n_failed": len(rows) - len(done),
        "epochs_trained": sum(row["epochs"] for row in done),
        "selection_source": next((row["selection_source"] for row in done), ""),
    }
    columns = [column_of(metric) for metric in search.metrics]
    good = [row for row in done if all(row.get(column) is not None for column in columns)]
    lost = len(rows) - len(good)
    if lost and search.failed_trials == "drop_config":
        return Verdict((), f"{_of(lost, rows)} failed or undefined: the config has no value", facts)
    if not good and search.failed_trials == "mean_of_rest":
        return Verdict((), "all trials failed or undefined: the config has no value", facts)
    zeros = lost if search.failed_trials == "worst" else 0
    policy = ""
    if lost:
        counted = "count as 0" if zeros else "left out of the mean"
        policy = f"{_of(lost, rows)} failed or undefined, {counted}"
    count = len(good) + zeros
    scores = tuple(math.fsum(row[column] for row in good) / count for column in columns)
    return Verdict(scores, policy, {**facts, "value_se": _noise(columns[0], good, count)})


def _of(lost: int, rows: Sequence[Any]) -> str:
    return f"{lost} of {len(rows)} trials"


def _noise(column: str, rows: Sequence[Mapping[str, Any]], count: int) -> float | None:
    """Standard error of the mean of a figure whose trials each know their own; None where they do not.

    It is the noise of the images that the figure was measured on. Configs are judged on the same images and draws, so
    that their difference is less noisy than this says.
    """
    errors = [row.get(f"{column}_se") for row in rows]
    known = [error for error in errors if error is not None]
    if not known or len(known) < len(errors):
        return None
    return math.sqrt(math.fsum(error**2 for error in known)) / count
