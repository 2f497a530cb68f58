"""A run as data frames, for notebooks and programs; needs neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.locations import as_written
from fcdd_sweep.config.nearest import closest
from fcdd_sweep.config.text import choice_list
from fcdd_sweep.report import run_files
from fcdd_sweep.report.comparisons import comparison_rows, run_entries
from fcdd_sweep.report.config_ranks import ranked_configs
from fcdd_sweep.report.page.html import Markup, bullets, element, joined, table
from fcdd_sweep.report.published import published_rows
from fcdd_sweep.report.recomputed import with_image_columns, with_recomputed
from fcdd_sweep.report.run_files import Trial, status_counts
from fcdd_sweep.report.search.record import SearchRecord, read_search, reported, tried_configs
from fcdd_sweep.report.summaries import ALL_METRICS, SUMMARY_METRICS, mean_row, shortfalls, summary_rows
from fcdd_sweep.report.tables import as_cell, mean_name, parameter_kinds, summary_metrics, summary_table, trials_table
from fcdd_sweep.report.text import spread_text
from fcdd_sweep.results import schemas
from fcdd_sweep.results.comparison_schemas import COMPARISONS, PUBLISHED
from fcdd_sweep.results.files import TableRow, read_columns
from fcdd_sweep.results.mirror import mirrored
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import RunPaths, TrialPaths

Frame = Any
"""A `pandas.DataFrame` where pandas is installed, else a `pyarrow.Table`."""
_SELECTION = ("validation_image_auroc", "validation_image_auroc_max", "validation_image_ap")
"""Metrics that configs may be chosen by."""
_ONLY = {"metric": "", "value": None, "selected_on": "nothing: the run has one config", "n_configs": 1}
_ORACLE = "test images: an oracle choice, too good for new images"


class Run:
    """A run's directory, read anew by each method, so that a sweep may still be running.

    Methods return data frames of pandas where it is installed, else tables of pyarrow.
    """

    def __init__(self, run_dir: Location | str) -> None:
        """Open a run.

        Args:
            run_dir: the directory of a run, OUTPUT/NAME, on this machine or in an object store.
        Raises:
            InputError: `run_dir` is not a run directory; names the nearest run.
        """
        self.path: Location = as_written(run_dir)
        run_files.read_plan(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def report(self) -> Location:
        """Where the report of the run is, or will be."""
        return RunPaths(self.path).report

    def trials(self) -> Frame:
        """Return one row per planned trial, the columns of `trials.parquet`; null where not done or undefined."""
        with self._read() as (run, _):
            return _frame(trials_table(run.trials))

    def scores(self) -> Frame:
        """Return one row per image and finished trial: config, class and seed, and the columns of `scores.parquet`.

        `score` is by the experiment's present `evaluation.image_score`.
        """
        with self._read() as (run, _):
            tables = [_scores_of(trial) for trial in run.trials if trial.folder is not None]
            return _frame(pa.concat_tables(tables) if tables else _scores_schema().empty_table())

    def defects(self) -> Frame:
        """Return one row per defect type and finished trial: config, class and seed, and the columns of
        `defects.parquet`, metrics on heatmaps among them."""
        with self._read() as (run, search):
            rows = [
                {name: trial.plan[name] for name in _TRIAL_KEY} | row
                for trial in reported(run, search).trials
                for row in trial.defects
            ]
            return _frame(pa.Table.from_pylist(rows, schema=_with_trial_key(schemas.DEFECTS)))

    def summary(self) -> Frame:
        """Return one row per config and class, and one for the mean over a config's classes: n, mean, std, interval.

        Of a search it holds the trials of the confirmation, as the report does.
        """
        with self._read() as (run, search):
            return _frame(summary_table(reported(run, search)))

    def best(self, metric: str | None = None) -> Frame:
        """Return the best config: its name, the metric and its value, what it was selected on, of how many, parameters.

        Of a search it is the search's own choice, with several metrics a row for each config of the Pareto set. Of
        other runs it is the config with the largest mean over classes, among those whose trials are all done.

        Args:
            metric: of runs without a search, a column of `trials()`; None: `validation_image_auroc`, which a run with
                one config does not need. A metric of the test set makes an oracle choice; `selected_on` says so.
        Raises:
            InputError: the run has no metric by which to choose; there is no config to choose yet.
        """
        with self._read() as (run, search):
            if search is not None and metric is None:
                return _frame(_found(search, self.path))
            if metric is None and len(run.configs) == 1:
                return _frame(_best_table([_ONLY | {"config": run.configs[0]}], [run.parameters(run.configs[0])]))
            return _frame(_chosen(reported(run, search), metric or _SELECTION[0], self.path))

    def comparisons(self) -> Frame:
        """Return the rows of `comparisons.parquet`: one per metric, test and pair of configs; none for a single config.

        Of a search it compares the configs of the confirmation, as the report does.
        """
        with self._read() as (run, search):
            rows = comparison_rows(run_entries(reported(run, search)), tried_configs(run, search))
            return _frame(pa.Table.from_pylist(rows, schema=COMPARISONS))

    def published(self) -> Frame:
        """Return the rows of `published.parquet`: one per config, class and published figure beside the run's own.

        None where nothing is published for the data set and method.
        """
        with self._read() as (run, search):
            return _frame(pa.Table.from_pylist(published_rows(reported(run, search)), schema=PUBLISHED))

    def headline(self) -> str:
        """Return the result in one or two sentences, as the report begins; empty before the first trial finished.

        Of a search it is what the confirmation shows.
        """
        from fcdd_sweep.report.search.confirmation import lead_sentences  # imports matplotlib

        with self._read() as (run, search):
            tested = reported(run, search)
            return " ".join(lead_sentences(tested, ranked_configs(tested), search))

    def _repr_html_(self) -> str:
        with self._read() as (run, search):
            tested = reported(run, search)
            counts = status_counts(run.trials)
            parts: list[Any] = [
                element(
                    "div", element("b", str(self.path)), ": ", ", ".join(f"{n} {name}" for name, n in counts.items())
                )
            ]
            if sentences := [*shortfalls(run), *run.problems]:
                parts.append(bullets(sentences))
            return joined([*parts, _summary_html(tested), element("div", f"report: {self.report}")])

    @contextmanager
    def _read(self) -> Iterator[tuple[run_files.Run, SearchRecord | None]]:
        with mirrored(self.path) as folder:
            run = with_recomputed(run_files.read_run(folder))
            yield run, read_search(run)


def _frame(table: pa.Table) -> Frame:
    try:
        import pandas  # noqa: F401 (pyarrow imports it then)
    except ModuleNotFoundError:
        return table
    return table.to_pandas()


_TRIAL_KEY = {"config": pa.string(), "normal_class": pa.string(), "seed": pa.int64()}


def _with_trial_key(schema: pa.Schema) -> pa.Schema:
    """Return the schema of a table of leaves with config, class and seed of the trial after its id."""
    own = [pa.field(name, kind) for name, kind in _TRIAL_KEY.items()]
    return pa.schema([schema.field("trial_id"), *own, *list(schema)[1:]])


def _scores_schema() -> pa.Schema:
    return _with_trial_key(schemas.SCORES)


def _scores_of(trial: Trial) -> pa.Table:
    """Return the scores of a finished trial, with its config, class and seed."""
    assert trial.folder is not None
    table = with_image_columns(read_columns(TrialPaths(trial.folder).scores, schemas.SCORES), trial)
    if trial.rescored:
        column = table[trial.metrics["image_score"]]
        table = table.set_column(table.column_names.index("score"), "score", column)
    same = {"config": trial.config, "normal_class": trial.normal_class, "seed": trial.seed}
    columns = [
        pa.array([same[field.name]] * len(table), field.type) if field.name in same else table[field.name]
        for field in _scores_schema()
    ]
    return pa.table(columns, schema=_scores_schema())


def _found(search: SearchRecord, path: Location) -> pa.Table:
    """Return the best config of a search, or its Pareto set."""
    numbers = search.summary.pareto if search.best is None else [search.best]
    rows = [row for row in search.configs if row["number"] in numbers]
    if not rows:
        raise InputError(Problem(str(path), "its search has finished no config yet", next_step="Rerun its command"))
    selected_on = _ORACLE if search.summary.oracle else search.summary.selection_source
    same = {"metric": ", ".join(search.metrics), "selected_on": selected_on, "n_configs": search.tried}
    values = [row["value"] if len(search.metrics) == 1 else row["values"] for row in rows]
    parameters = [{axis.key: row[f"param.{axis.key}"] for axis in search.axes} for row in rows]
    heads = [{"config": row["config"], **same, "value": value} for row, value in zip(rows, values, strict=True)]
    return _best_table(heads, parameters)


def _chosen(run: run_files.Run, metric: str, path: Location) -> pa.Table:
    """Return the config with the largest mean over classes, among those whose trials all have the metric."""
    allowed = [*_SELECTION, *(name for name in ALL_METRICS if not name.startswith(("test_", "fpr_")))]
    if metric not in allowed:
        problem = Problem("metric", f"there is no metric '{metric}'", choice_list(allowed), closest(metric, allowed))
        raise InputError(problem)
    whole = [config for config in run.configs if not np.isnan([trial.value(metric) for trial in run.of(config)]).any()]
    if not whole:
        raise InputError(_no_choice(run, metric, path))
    means = {config: _mean(run, config, metric) for config in whole}
    best = max(means, key=lambda config: means[config])
    sources = dict.fromkeys(str(trial.metrics["selection_source"]) for trial in run.of(best))
    head = {
        "config": best,
        "metric": metric,
        "value": means[best],
        "selected_on": "; ".join(sources) if metric in _SELECTION else _ORACLE,
        "n_configs": len(whole),
    }
    return _best_table([head], [run.parameters(best)])


def _mean(run: run_files.Run, config: str, metric: str) -> float:
    """Return the mean over the classes of a config of their means over seeds."""
    by_class = ([trial.value(metric) for trial in run.of(config, name)] for name in run.classes(config))
    return float(np.mean([np.mean(values) for values in by_class]))


def _no_choice(run: run_files.Run, metric: str, path: Location) -> Problem:
    if not any(trial.is_done for trial in run.trials):
        return Problem(str(path), "no trial is done yet", next_step="Rerun the command of the sweep")
    if all(np.isnan(trial.value(metric)) for trial in run.trials):
        what = f"no trial has {metric}"
        step = "Set evaluation.validation.anomalies and evaluation.validation.nominal_fraction, see docs/experiments.md"
        return Problem(str(path), what, next_step=step if metric in _SELECTION else "See docs/results.md")
    what = f"no config has {metric} in all of its trials: {'; '.join(shortfalls(run)) or 'some are undefined'}"
    return Problem(str(path), what, next_step="Rerun the command of the sweep")


def _best_table(heads: Sequence[TableRow], parameters: Sequence[TableRow]) -> pa.Table:
    kinds = parameter_kinds(parameters)
    rows = [
        {name: head[name] for name in ("config", "metric", "value", "selected_on", "n_configs")}
        | {f"param.{key}": as_cell(values.get(key), kind) for key, kind in kinds.items()}
        for head, values in zip(heads, parameters, strict=True)
    ]
    fields = [(f"param.{key}", kind) for key, kind in kinds.items()]
    value = pa.string() if isinstance(heads[0]["value"], str) else pa.float64()
    own = [("config", pa.string()), ("metric", pa.string()), ("value", value)]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([*own, ("selected_on", pa.string()), ("n_configs", pa.int64()), *fields])
    )


def _summary_html(run: run_files.Run) -> Markup | str:
    """Return a table of the configs, or of the classes where there is one config; empty before the first trial."""
    single = len(run.configs) == 1
    rows = summary_rows(run, run.configs[0]) if single else [mean_row(run, config) for config in run.configs]
    if not rows:
        return ""
    names = [
        (row.normal_class or mean_name(row, len(run.classes(row.config)))) if single else row.config for row in rows
    ]
    metrics = summary_metrics(rows)
    head = ["class" if single else "config", *(SUMMARY_METRICS[metric] for metric in metrics)]
    cells = [[name, *(spread_text(row.metrics[m]) for m in metrics)] for name, row in zip(names, rows, strict=True)]
    return table(head, cells, last_is_mean=single and len(rows) > 1)
