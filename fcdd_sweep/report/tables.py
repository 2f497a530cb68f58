"""The run's tables as files: `trials.parquet`, `summary.csv`, `summary.md`, `defects.csv`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from fcdd_sweep.metrics.statistics import Summary
from fcdd_sweep.report.recomputed import lacking_note
from fcdd_sweep.report.run_files import COUNTED, PLANNED, Run, Trial, status_counts
from fcdd_sweep.report.score_choices import choice_rows
from fcdd_sweep.report.summaries import (
    ALL_METRICS,
    DECISION_METRICS,
    DEFECT_METRICS,
    HEATMAP_METRICS,
    SIZE_METRICS,
    SUMMARY_METRICS,
    DefectRow,
    SummaryRow,
    decision_texts,
    defect_rows,
    device_note,
    mean_row,
    shortfalls,
    summary_rows,
)
from fcdd_sweep.report.text import INTERVAL_RULE, interval_text, spread_text
from fcdd_sweep.results import schemas
from fcdd_sweep.results.files import TableRow, table_from_rows, write_atomically, write_rows, write_table, write_text
from fcdd_sweep.results.tree import RunPaths

SUMMARY_CSV, SUMMARY_MD, DEFECTS_CSV = "summary.csv", "summary.md", "defects.csv"
_SUMMARY_FIELDS = (
    *((name, pa.string()) for name in ("config", "level", "normal_class")),
    *((name, pa.int64()) for name in (PLANNED, *(status.value for status in COUNTED))),
)
_DEFECT_FIELDS = (
    *((name, pa.string()) for name in ("config", "normal_class", "defect")),
    ("images", pa.int64()),
)


def write_tables(run: Run, reported: Run | None = None, notes: Sequence[str] = ()) -> None:
    """Write the tables into the run's directory.

    Args:
        run: its trials are listed in `trials.parquet`.
        reported: the run with the trials whose test metrics may be shown; None for all of them.
        notes: sentences for the top of `summary.md`.
    """
    reported = reported or run
    write_table(RunPaths(run.path).trials, trials_table(run.trials))
    if run.score_choices:
        write_rows(RunPaths(run.path).image_scores, choice_rows(run.score_choices), schemas.IMAGE_SCORES)
    else:  # of an earlier report, when the experiment asked for `auto`
        RunPaths(run.path).image_scores.unlink(missing_ok=True)
    write_csv(run.path / SUMMARY_CSV, summary_table(reported))
    write_text(run.path / SUMMARY_MD, summary_markdown(reported, notes))
    write_csv(run.path / DEFECTS_CSV, defects_table(reported))


def trials_table(trials: Sequence[Trial]) -> pa.Table:
    """Return one row per planned trial, as in `trials.parquet`; what a trial does not have is null."""
    kinds = parameter_kinds(trial.parameters for trial in trials)
    fixed = [name for name, *_ in schemas.TRIALS_FIXED]
    rows = []
    for trial in trials:
        known = trial.metrics | trial.plan | {"status": trial.status, "leaf": trial.leaf, "error": trial.error}
        values = {f"param.{key}": as_cell(trial.parameters.get(key), kind) for key, kind in kinds.items()}
        rows.append({name: known.get(name) for name in fixed} | values)
    return table_from_rows(rows, schemas.trials_schema(kinds))


def parameter_kinds(parameters: Iterable[TableRow]) -> dict[str, pa.DataType]:
    """Return the column type of each of the configs' parameters."""
    values: dict[str, list[Any]] = {}
    for each in parameters:
        for key, value in each.items():
            values.setdefault(key, []).append(value)
    return {key: column_kind(found) for key, found in values.items()}


def column_kind(values: Sequence[Any]) -> pa.DataType:
    """Return the column type of a parameter's values; text where they are mixed or nested."""
    types = {type(value) for value in values if value is not None}
    for allowed, kind in (({bool}, schemas.FLAG), ({int}, schemas.INT), ({int, float}, schemas.REAL)):
        if types and types <= allowed:
            return kind
    return schemas.TEXT


def as_cell(value: Any, kind: pa.DataType) -> Any:
    """Return a parameter's value as a column of this type holds it."""
    if kind != schemas.TEXT or value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def write_csv(path: Path, table: pa.Table) -> Path:
    """Write a table with its header; null is an empty cell, text is in quotes, a number has all of its digits."""
    return write_atomically(path, lambda temporary: pyarrow.csv.write_csv(table, temporary))


def summary_table(run: Run) -> pa.Table:
    """Return one row per config and class, and one for the mean over a config's classes; undefined is null."""
    rows = []
    for row in (row for config in run.configs for row in summary_rows(run, config)):
        level = "class" if row.normal_class is not None else "mean over classes"
        cells: TableRow = {"config": row.config, "level": level, "normal_class": row.normal_class or "", **row.counts}
        for metric in ALL_METRICS:
            cells |= summary_cells(metric, row.metrics[metric]) | {f"{metric}_classes": row.classes[metric]}
        rows.append(cells)
    fields = list(_SUMMARY_FIELDS)
    for metric in ALL_METRICS:
        fields += [*summary_fields(metric), (f"{metric}_classes", pa.int64())]
    return table_from_rows(rows, pa.schema(fields))


def defects_table(run: Run) -> pa.Table:
    """Return one row per config, class and defect type, over seeds; undefined is null."""
    rows = []
    for row in (row for config in run.configs for row in defect_rows(run, config)):
        cells: TableRow = {"config": row.config, "normal_class": row.normal_class, "defect": row.defect}
        cells["images"] = row.images
        for metric, summary in row.metrics.items():
            cells |= summary_cells(metric, summary)
        rows.append(cells)
    fields = [*_DEFECT_FIELDS, *(field for metric in DEFECT_METRICS for field in summary_fields(metric))]
    return table_from_rows(rows, pa.schema(fields))


def summary_fields(metric: str) -> list[tuple[str, pa.DataType]]:
    """Return the columns of a metric's summary: `image_auroc_mean`, `_std`, `_n`, `_low`, `_high`."""
    return [(f"{metric}_{part}", pa.int64() if part == "n" else pa.float64()) for part in Summary._fields]


def summary_cells(metric: str, summary: Summary) -> TableRow:
    """Return the cells of `summary_fields`; NaN is null."""
    values = summary._asdict().items()
    return {f"{metric}_{part}": None if math.isnan(value) else value for part, value in values}


def summary_markdown(run: Run, notes: Sequence[str] = ()) -> str:
    """Return the summary for readers: notes and what is missing first, then the tables."""
    counts = status_counts(run.trials)
    parts = [f"# {run.path.name}", ", ".join(f"{count} {status}" for status, count in counts.items()) + " trials."]
    parts += notes
    sentences = [*shortfalls(run), *(text.rstrip(".") for text in run.problems), device_note(run.trials)]
    if listed := [f"- {sentence}." for sentence in sentences if sentence]:
        parts.append("\n".join(listed))
    if run.score_choices:
        choices = (f"- Image score of {name}: {choice.text}." for name, choice in run.score_choices.items())
        parts.append("\n".join(choices))
    if len(run.configs) > 1:
        rows = [mean_row(run, config) for config in run.configs]
        parts += ["## Configs, mean over classes", _summary_markdown(rows, [row.config for row in rows], "config")]
    for config in run.configs:
        parts += _config_markdown(run, config)
    if note := lacking_note(run):
        parts.append(f"{note}.")
    parts.append(
        "Mean ± sample standard deviation over n seeds, and the 95% interval of the mean (Student's t); n/a is "
        "undefined. Over classes: the mean of the classes' means; spread, interval and n are over the seeds that all "
        f"classes have. {INTERVAL_RULE}"
    )
    return "\n\n".join(parts) + "\n"


def _config_markdown(run: Run, config: str) -> list[str]:
    rows = summary_rows(run, config)
    names = [row.normal_class or f"**{mean_name(row, len(run.classes(config)))}**" for row in rows]
    parts = [f"## {config or 'Classes'}", _summary_markdown(rows, names, "class")]
    for titles in (DECISION_METRICS, HEATMAP_METRICS, SIZE_METRICS):
        if metrics := summary_metrics(rows, titles):
            head = ["class", *(titles[metric] for metric in metrics)]
            cells = [[_markdown_cell(row.metrics[metric]) for metric in metrics] for row in rows]
            parts.append(_markdown_table(head, [[name, *each] for name, each in zip(names, cells, strict=True)]))
    if decisions := decision_texts(run, config):
        parts.append("\n".join(f"- {sentence}." for sentence in decisions))
    if defects := defect_rows(run, config):
        parts += ["### By defect type", _defect_markdown(defects)]
    return parts


def mean_name(row: SummaryRow, classes: int) -> str:
    """Return `mean over classes`, with the number of classes when some are undefined."""
    most = max(row.classes.values())
    return "mean over classes" if most == classes else f"mean over {most} of {classes} classes"


def _summary_markdown(rows: Sequence[SummaryRow], names: Sequence[str], first: str) -> str:
    metrics = summary_metrics(rows)
    head = [first, PLANNED, *COUNTED, *(SUMMARY_METRICS[metric] for metric in metrics)]
    body = [
        [name, *map(str, row.counts.values()), *(_markdown_cell(row.metrics[metric]) for metric in metrics)]
        for name, row in zip(names, rows, strict=True)
    ]
    return _markdown_table(head, body)


def summary_metrics(rows: Sequence[SummaryRow], titles: Mapping[str, str] = SUMMARY_METRICS) -> list[str]:
    """Return the metrics that a table shows: those of images always, others where any row has them."""
    return [name for name in titles if name.startswith("image") or any(row.metrics[name].n for row in rows)]


def _defect_markdown(rows: Sequence[DefectRow]) -> str:
    metrics = defect_metrics(rows)
    head = ["class", "defect", "images", *(ALL_METRICS[metric] for metric in metrics)]
    body = [
        [row.normal_class, row.defect, str(row.images), *(spread_text(row.metrics[metric]) for metric in metrics)]
        for row in rows
    ]
    return _markdown_table(head, body)


def defect_metrics(rows: Sequence[DefectRow]) -> list[str]:
    """Return the metrics that a table of defect types shows, chosen as in `summary_metrics`."""
    return [metric for metric in DEFECT_METRICS if metric.startswith("image") or any(r.metrics[metric].n for r in rows)]


def _markdown_cell(summary: Summary) -> str:
    return f"{spread_text(summary)} {interval_text(summary)}".strip()


def _markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, *body)]
    rule = [":---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))
