"""The files of a search, read into one record: suggested configs, their values, and what could not be read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fcdd_sweep.config.errors import short_error
from fcdd_sweep.config.search_schema import ORACLE
from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.report.run_files import UNREADABLE, Run
from fcdd_sweep.report.search.axes import PlotAxis, plain, plot_axis
from fcdd_sweep.results import search_schemas, tree
from fcdd_sweep.results.documents import SearchSummary, read_search_summary
from fcdd_sweep.results.files import TableRow, read_rows
from fcdd_sweep.results.search_schemas import NUMBER
from fcdd_sweep.results.tree import RunPaths, SearchPaths

ORACLE_MARK = "oracle: selected on the test set"
"""Marks every title and table that shows a metric of the test set."""
PARAMETER = "param."


@dataclass(frozen=True)
class SearchRecord:
    """A study, as read from its tables.

    Attributes:
        path: RUN/search.
        summary: `search.json`, see `results.documents.SearchSummary`.
        configs: rows of `configs.parquet` by number, `param.KEY` as plain values.
        axes: of the searched keys.
        importance: by key, largest first; keys without one are left out.
        confirmation, rungs: rows of these tables; empty where the file is missing.
        problems: sentences on files that could not be read.
    """

    path: Path
    summary: SearchSummary
    configs: tuple[TableRow, ...]
    axes: tuple[PlotAxis, ...]
    importance: dict[str, float]
    confirmation: tuple[TableRow, ...]
    rungs: tuple[TableRow, ...]
    problems: tuple[str, ...] = ()

    @property
    def metrics(self) -> list[str]:
        return list(self.summary.metric)

    @property
    def sign(self) -> FloatArray:
        """(K,) one entry per metric: 1 where large values are better, -1 where small ones are."""
        return np.array([-1.0 if way == "minimize" else 1.0 for way in self.summary.direction])

    @property
    def numbers(self) -> list[int]:
        return [int(row["number"]) for row in self.configs]

    @property
    def states(self) -> list[str]:
        return [str(row["state"]) for row in self.configs]

    @property
    def tried(self) -> int:
        """Number of configs whose end the study knows."""
        return self.summary.tried

    @property
    def best(self) -> int | None:
        """Number of the best config; None before there is one, and for several metrics."""
        return self.summary.best

    def values(self, metric: int = 0) -> FloatArray:
        """Return the (N,) values of the configs; NaN unless done."""
        if len(self.metrics) == 1:
            return _reals(row["value"] for row in self.configs)
        return _reals(json.loads(row["values"])[metric] if row["values"] else None for row in self.configs)

    def errors(self, metric: int = 0) -> FloatArray:
        """Return the (N,) standard errors of the values; NaN when unknown, as for all metrics but the first."""
        return _reals(None if metric else row["value_std_error"] for row in self.configs)

    def parameter(self, key: str) -> list[Any]:
        """Return the suggested values of a key, one per config; None where the key was absent."""
        return [row[f"{PARAMETER}{key}"] for row in self.configs]

    def positions(self, axis: PlotAxis) -> FloatArray:
        """Return where the configs are along an axis, (N,); NaN where the key was absent."""
        return axis.positions(self.parameter(axis.key))

    def row_of(self, number: int | None) -> int | None:
        """Return the index of a config in `configs`; None when it is not among them."""
        return self.numbers.index(number) if number in self.numbers else None


def _reals(values: Any) -> FloatArray:
    return np.array([np.nan if value is None else float(value) for value in values], np.float64)


def read_search(run: Run) -> SearchRecord | None:
    """Read a run's search; None where it has none."""
    folder = RunPaths(run.path).search.root
    if not SearchPaths(folder).configs.is_file():
        return None
    problems: list[str] = []
    summary = _summary(run, problems)
    configs = _table(SearchPaths(folder).configs, search_schemas.search_configs_schema({}), problems)
    configs = [_with_plain_parameters(row) for row in sorted(configs, key=lambda row: row["number"])]
    importance = _table(SearchPaths(folder).importance, search_schemas.IMPORTANCE, problems)
    return SearchRecord(
        folder,
        summary,
        tuple(configs),
        _axes(configs, summary, run.experiment.search_choices),
        _importance(importance),
        tuple(_table(SearchPaths(folder).confirmation, search_schemas.CONFIRMATION, problems)),
        tuple(_table(SearchPaths(folder).rungs, search_schemas.RUNGS, problems)),
        tuple(problems),
    )


def reported(run: Run, search: SearchRecord | None) -> Run:
    """Return the run with only the trials whose test metrics a report may show.

    For a search these are the trials of its confirmation: the others evaluated configs.
    """
    if search is None:
        return run
    confirmed = {row["trial_id"] for row in search.confirmation}
    trials = tuple(trial for trial in run.trials if trial.plan["trial_id"] in confirmed)
    chosen = (trial.config for trial in trials if trial.parameters.get(NUMBER, -1) == search.best)
    return replace(run, trials=trials, chosen=next(chosen, None))


def _table(path: Path, schema: pa.Schema, problems: list[str]) -> list[TableRow]:
    if not path.is_file():
        return []
    try:
        return read_rows(path, schema)
    except UNREADABLE as error:
        reason = short_error(error)
        problems.append(f"{tree.SEARCH_DIR}/{path.name} cannot be read ({reason}): its part of the report is missing.")
        return []


def _summary(run: Run, problems: list[str]) -> SearchSummary:
    """`search.json`; without it what the experiment file says of metric and direction."""
    try:
        return read_search_summary(run.path)
    except UNREADABLE as error:
        name = f"{tree.SEARCH_DIR}/{tree.SEARCH_SUMMARY}"
        problems.append(f"{name} cannot be read ({short_error(error)}): best and sentences are not shown.")
    written = run.experiment.search
    metric = written.get("metric") or "value"
    names = metric if isinstance(metric, list) else [metric]
    direction = written.get("direction") or "maximize"
    ways = direction if isinstance(direction, list) else [direction] * len(names)
    oracle = any(str(name).startswith(ORACLE) for name in names)
    return SearchSummary(metric=names, direction=ways, oracle=oracle)


def _axes(
    configs: Sequence[TableRow], summary: SearchSummary, choices: Mapping[str, list[Any]]
) -> tuple[PlotAxis, ...]:
    columns = [name.removeprefix(PARAMETER) for name in (configs[0] if configs else {}) if name.startswith(PARAMETER)]
    keys = [key for key in summary.keys or columns if key in columns]
    on_log = summary.log_keys
    return tuple(
        plot_axis(key, [row[f"{PARAMETER}{key}"] for row in configs], log=key in on_log, choices=choices.get(key))
        for key in keys
    )


def _with_plain_parameters(row: TableRow) -> TableRow:
    return {name: plain(value) if name.startswith(PARAMETER) else value for name, value in row.items()}


def _importance(rows: Sequence[TableRow]) -> dict[str, float]:
    known = [(row["key"], float(row["importance"])) for row in rows if row["importance"] is not None]
    return dict(sorted(((key, share) for key, share in known if not np.isnan(share)), key=lambda pair: -pair[1]))


def tried_configs(run: Run, search: SearchRecord | None) -> int:
    """Return the number of configs that were tried: of a search all that it suggested."""
    return len(run.configs) if search is None else search.tried or len(search.configs)
