"""The run's tables as files: `trials.parquet`, `summary.csv`, `summary.md`, `defects.csv`."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fcdd_sweep.metrics.statistics import Summary
from fcdd_sweep.report.run_files import Run, Trial, counted
from fcdd_sweep.report.summaries import (
    SUMMARY_METRICS,
    DefectRow,
    SummaryRow,
    defect_rows,
    mean_row,
    shortfalls,
    summary_rows,
)
from fcdd_sweep.report.text import INTERVAL_RULE, interval_text, spread_text
from fcdd_sweep.results import schemas, tree
from fcdd_sweep.results.files import write_rows, write_text

SUMMARY_CSV, SUMMARY_MD, DEFECTS_CSV = "summary.csv", "summary.md", "defects.csv"


def write_tables(run: Run, shown: Run | None = None, notes: Sequence[str] = ()) -> None:
    """Write all four into the run's directory: every trial, the figures of those shown, and notes above them."""
    shown = shown or run
    write_trials(run.path / tree.TRIALS, run.trials)
    write_text(run.path / SUMMARY_CSV, summary_csv(shown))
    write_text(run.path / SUMMARY_MD, summary_markdown(shown, notes))
    write_text(run.path / DEFECTS_CSV, defects_csv(shown))


def write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """One row a planned trial; what a failed or missing trial does not have is null."""
    kinds = parameter_kinds(trials)
    fixed = [name for name, *_ in schemas.TRIALS_FIXED]
    rows = []
    for trial in trials:
        known = trial.metrics | trial.plan | {"status": trial.status, "leaf": trial.leaf, "error": trial.error}
        values = {f"param.{key}": as_cell(trial.parameters.get(key), kind) for key, kind in kinds.items()}
        rows.append({name: known.get(name) for name in fixed} | values)
    write_rows(path, rows, schemas.trials_schema(kinds))


def parameter_kinds(trials: Iterable[Trial]) -> dict[str, pa.DataType]:
    """The column type of each of the configs' parameters; text where values are mixed or nested."""
    values: dict[str, list[Any]] = {}
    for trial in trials:
        for key, value in trial.parameters.items():
            values.setdefault(key, []).append(value)
    return {key: column_kind(found) for key, found in values.items()}


def column_kind(values: Sequence[Any]) -> pa.DataType:
    """The column type of a parameter's values; text where they are mixed or nested."""
    types = {type(value) for value in values if value is not None}
    for allowed, kind in (({bool}, schemas.FLAG), ({int}, schemas.INT), ({int, float}, schemas.REAL)):
        if types and types <= allowed:
            return kind
    return schemas.TEXT


def as_cell(value: Any, kind: pa.DataType) -> Any:
    """A parameter's value in a column of this type."""
    if kind != schemas.TEXT or value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def summary_csv(run: Run) -> str:
    """A row a class and a row for the mean over classes; undefined figures are empty."""
    rows = []
    for row in (row for config in run.configs for row in summary_rows(run, config)):
        level = "class" if row.normal_class is not None else "mean over classes"
        cells = {"config": row.config, "level": level, "normal_class": row.normal_class or "", **row.ledger}
        for metric in SUMMARY_METRICS:
            cells |= _csv_figure(metric, row.figures[metric]) | {f"{metric}_classes": row.classes[metric]}
        rows.append(cells)
    return _csv(rows)


def defects_csv(run: Run) -> str:
    """A row a class and defect type, over seeds; undefined figures are empty."""
    return _csv(
        [
            {"config": row.config, "normal_class": row.normal_class, "defect": row.defect, "images": row.images}
            | _csv_figure("image_auroc", row.image_auroc)
            | _csv_figure("pixel_auroc", row.pixel_auroc)
            for config in run.configs
            for row in defect_rows(run, config)
        ]
    )


def _csv_figure(name: str, summary: Summary) -> dict[str, Any]:
    parts = summary._asdict().items()
    return {f"{name}_{part}": "" if isinstance(v, float) and math.isnan(v) else v for part, v in parts}


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def summary_markdown(run: Run, notes: Sequence[str] = ()) -> str:
    """The same for readers: what is missing first, then the tables."""
    ledger = counted(run.trials)
    parts = [f"# {run.path.name}", ", ".join(f"{count} {status}" for status, count in ledger.items()) + " trials."]
    parts += notes
    parts += [f"- {sentence}." for sentence in (*shortfalls(run), *(text.rstrip(".") for text in run.problems))]
    if len(run.configs) > 1:
        rows = [mean_row(run, config) for config in run.configs]
        parts += ["## Configs, mean over classes", _markdown_table(rows, [row.config for row in rows], "config")]
    for config in run.configs:
        parts += _config_markdown(run, config)
    parts.append(
        "Mean ± sample standard deviation over n seeds, and the 95% interval of the mean (Student's t); n/a is "
        "undefined. Over classes: the mean of the classes' means; spread, interval and n over the seeds that all "
        f"classes have. {INTERVAL_RULE}"
    )
    return "\n\n".join(parts).replace("\n\n- ", "\n- ").replace(" trials.\n- ", " trials.\n\n- ") + "\n"


def _config_markdown(run: Run, config: str) -> list[str]:
    rows = summary_rows(run, config)
    names = [row.normal_class or f"**{mean_name(row, len(run.classes(config)))}**" for row in rows]
    parts = [f"## {config or 'Classes'}", _markdown_table(rows, names, "class")]
    if defects := defect_rows(run, config):
        parts += ["### By defect type", _defect_markdown(defects)]
    return parts


def mean_name(row: SummaryRow, classes: int) -> str:
    """`mean over classes`, and how many of them when some have no figure."""
    most = max(row.classes.values())
    return "mean over classes" if most == classes else f"mean over {most} of {classes} classes"


def _markdown_table(rows: Sequence[SummaryRow], names: Sequence[str], first: str) -> str:
    shown = shown_figures(rows)
    lines = [[first, "planned", "done", "failed", "missing", *(SUMMARY_METRICS[metric] for metric in shown)]]
    for name, row in zip(names, rows, strict=True):
        lines.append([name, *map(str, row.ledger.values()), *(_cell(row.figures[metric]) for metric in shown)])
    return _markdown(lines)


def shown_figures(rows: Sequence[SummaryRow]) -> list[str]:
    """The image figures always; the pixel figures where any row has them."""
    return [name for name in SUMMARY_METRICS if name.startswith("image") or any(row.figures[name].n for row in rows)]


def _defect_markdown(rows: Sequence[DefectRow]) -> str:
    shown = defect_figures(rows)
    lines = [["class", "defect", "images", *(SUMMARY_METRICS[metric] for metric in shown)]]
    for row in rows:
        figures = (spread_text(getattr(row, metric)) for metric in shown)
        lines.append([row.normal_class, row.defect, str(row.images), *figures])
    return _markdown(lines)


def defect_figures(rows: Sequence[DefectRow]) -> list[str]:
    """As `shown_figures`, for defect types."""
    return ["image_auroc", *(["pixel_auroc"] if any(row.pixel_auroc.n for row in rows) else [])]


def _cell(summary: Summary) -> str:
    return f"{spread_text(summary)} {interval_text(summary)}".strip()


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    rule = [":---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))
