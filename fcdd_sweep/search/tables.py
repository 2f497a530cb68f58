"""Write the tables of a search, from its study and from the files of its trials."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fcdd_sweep.config.grid import Config
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.report.tables import as_cell, column_kind
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.documents import SearchSummary
from fcdd_sweep.results.states import ConfigState
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.search.evaluator import TrialMetrics
from fcdd_sweep.search.plan import NUMBER, SearchPlan
from fcdd_sweep.search.pruning import CURVE_KEY
from fcdd_sweep.search.study import Entry

_TEST_METRICS = ("image_auroc", "image_ap", "pixel_auroc")


class Confirmed(NamedTuple):
    """A config of the confirmation.

    Attributes:
        role: `best`, `pareto` or `default`.
        config: the config.
        specs: its trials on fresh seeds.
    """

    role: str
    config: Config
    specs: tuple[TrialSpec, ...]


def write_configs(
    run_dir: Location, planned: SearchPlan, entries: Sequence[Entry], done: Mapping[int, int], *, over: bool
) -> None:
    """Write `configs.parquet`.

    Args:
        run_dir: the run.
        planned: the search.
        entries: all suggested configs.
        done: number of finished trials of the running configs, by number of the config.
        over: whether the search has ended, so that running configs are incomplete.
    """
    keys = list(planned.space.axes)
    kinds = {
        key: column_kind([*axis.extremes, *(entry.values.get(key) for entry in entries)])
        for key, axis in planned.space.axes.items()
    }
    rows = [
        {
            **_config_row(entry, len(planned.plan.specs), several=len(planned.search.metrics) > 1, over=over)
            | {"n_done": entry.facts.get("n_done", done.get(entry.number, 0))},
            **{f"param.{key}": as_cell(entry.values.get(key), kinds[key]) for key in keys},
        }
        for entry in entries
    ]
    files.write_rows(RunPaths(run_dir).search.configs, rows, schemas.search_configs_schema(kinds))


def _config_row(entry: Entry, trials: int, *, several: bool, over: bool) -> dict[str, Any]:
    facts = entry.facts
    done = entry.state == ConfigState.DONE
    incomplete = over and entry.state == ConfigState.RUNNING
    return {
        "number": entry.number,
        "config_id": facts["config_id"],
        "config": facts["config"],
        "state": ConfigState.INCOMPLETE if incomplete else entry.state,
        "value": entry.scores[0] if done else None,
        "value_std_error": facts.get("value_std_error") if done else None,
        "values": json.dumps(entry.scores) if done and several else None,
        "n_trials": facts.get("n_trials", trials),
        "n_failed": facts.get("n_failed", 0),
        "epochs_trained": facts.get("epochs_trained", 0),
        "pruned_at": facts.get("pruned_at"),
        "failure_policy": facts.get("failure_policy", ""),
        "started": entry.started,
        "finished": entry.finished,
    }


def write_rungs(run_dir: Location, entries: Sequence[Entry]) -> None:
    """Write `rungs.parquet`, if the search prunes."""
    rows = []
    for entry in entries:
        measured: dict[int, list[float]] = {}
        for _, _, epoch, value in entry.facts.get(CURVE_KEY, []):
            measured.setdefault(epoch, []).append(value)
        rows += [
            {"number": entry.number, "epoch": epoch, "value": math.fsum(values) / len(values)}
            for epoch, values in sorted(measured.items())
        ]
    if rows:
        files.write_rows(RunPaths(run_dir).search.rungs, rows, schemas.RUNGS)


def write_importance(run_dir: Location, importance: Mapping[str, float | None]) -> None:
    rows = [{"key": key, "importance": value} for key, value in importance.items()]
    files.write_rows(RunPaths(run_dir).search.importance, rows, schemas.IMPORTANCE)


def confirmation_rows(confirmed: Sequence[Confirmed], metrics: TrialMetrics) -> list[dict[str, Any]]:
    """Return the rows of `confirmation.parquet`; metrics of trials that are not done are null."""
    return [
        {
            "role": role,
            "number": config.parameters[NUMBER],
            "normal_class": spec.normal_class,
            "seed": spec.seed,
            "trial_id": spec.trial_id,
            **{name: metrics.row(spec.trial_id).get(name) for name in _TEST_METRICS},
        }
        for role, config, specs in confirmed
        for spec in specs
    ]


def write_confirmation(run_dir: Location, rows: Sequence[Mapping[str, Any]]) -> None:
    files.write_rows(RunPaths(run_dir).search.confirmation, rows, schemas.CONFIRMATION)


def write_summary(run_dir: Location, summary: SearchSummary) -> None:
    files.write_text(RunPaths(run_dir).search.summary, summary.text())
