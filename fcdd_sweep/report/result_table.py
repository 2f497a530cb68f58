"""The result of a run as lines for a terminal: classes or configs with mean, interval and number of seeds."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fcdd_sweep.metrics.statistics import Summary, summarize
from fcdd_sweep.report.run_files import UNREADABLE
from fcdd_sweep.report.tables import SUMMARY_CSV
from fcdd_sweep.report.terminal import table_text
from fcdd_sweep.report.text import LEAST_FOR_INTERVAL, NOT_DEFINED, class_text, config_words, metric_text
from fcdd_sweep.results import schemas
from fcdd_sweep.results.files import TableRow, read_rows
from fcdd_sweep.results.search_schemas import EVALUATING, ROLE
from fcdd_sweep.results.storage import Location, is_file, read_bytes
from fcdd_sweep.results.tree import RunPaths

_METRIC, _TITLE = "image_auroc", "image AUROC"
_MOST_ROWS = 20
"""Rows that are printed: of more, those with the largest means."""
MOST_READ = 300
"""Finished trials whose own files are read; of more, the last report says what there is."""


class ResultRow(NamedTuple):
    """A class or a config, and its metric over seeds."""

    name: str
    summary: Summary


def result_lines(run_dir: Location, width: int | None = None) -> list[str]:
    """Return the table of the last report, the best and the worst; nothing without one, or without a value in it.

    Args:
        run_dir: the run.
        width: columns of the terminal; None for lines of any length.
    """
    # the best config of a search was chosen on selection data, and is not the best of the few that were tested
    is_search = is_file(RunPaths(run_dir).search.summary)
    return _lines(_reported_rows(run_dir), width, is_ranked=not is_search)


def found_lines(run_dir: Location, plan: Sequence[TableRow], leaves: Mapping[str, str], width: int | None) -> list[str]:
    """Return the table of the trials that are done by now, from their own files; of many, that of the last report.

    Args:
        run_dir: the run.
        plan: its planned trials.
        leaves: by id of each finished trial its folder below the run.
        width: columns of the terminal; None for lines of any length.
    """
    done = [row for row in plan if row["trial_id"] in leaves and not _evaluates(row)]
    if len(done) > MOST_READ or _finished_in_report(run_dir) == len(done):
        return result_lines(run_dir, width)
    several = len({row["config"] for row in plan}) > 1
    values: dict[str, list[float]] = {}
    for row in done:
        value = _auroc(run_dir, leaves[row["trial_id"]])
        values.setdefault(_name(row, several=several), []).append(value)
    rows = [ResultRow(name, summarize(found)) for name, found in values.items()]
    return _lines(rows, width, unit="trials", is_ranked=not any(ROLE in _parameters(row) for row in plan))


def _name(row: TableRow, *, several: bool) -> str:
    return config_words(row["config"], _parameters(row)) if several else class_text(row["normal_class"])


def _evaluates(row: TableRow) -> bool:
    """Return whether a trial evaluates a config of a search, and so has no test metrics to show."""
    return _parameters(row).get(ROLE) == EVALUATING


def _parameters(row: TableRow) -> dict[str, object]:
    return dict(json.loads(row["parameters"] or "{}"))


def _auroc(run_dir: Location, leaf: str) -> float:
    try:
        (row,) = read_rows(RunPaths(run_dir).leaf(leaf).metrics, schemas.METRICS)
    except UNREADABLE:
        return math.nan
    return math.nan if row[_METRIC] is None else float(row[_METRIC])


def _summary_rows(run_dir: Location) -> list[TableRow]:
    path = run_dir / SUMMARY_CSV
    try:
        # not by pyarrow, whose reader starts threads that a process may not survive at its end
        return list(csv.DictReader(io.StringIO(read_bytes(path).decode()))) if is_file(path) else []
    except (OSError, ValueError, csv.Error):
        return []


def _finished_in_report(run_dir: Location) -> int:
    return sum(int(row["done"] or 0) for row in _summary_rows(run_dir) if row["level"] == "class")


def _reported_rows(run_dir: Location) -> list[ResultRow]:
    """Return one row per config, or with one config per class, with the mean over classes at the end."""
    rows = _summary_rows(run_dir)
    configs = list(dict.fromkeys(row["config"] or "" for row in rows))
    if len(configs) > 1:
        names = _config_names(run_dir)
        last = {row["config"]: row for row in rows}  # the mean over classes follows the classes
        return [ResultRow(names.get(config, config), _summary(row)) for config, row in last.items()]
    return [
        ResultRow(class_text(str(row["normal_class"])) if row["level"] == "class" else "mean", _summary(row))
        for row in rows
    ]


def _config_names(run_dir: Location) -> dict[str, str]:
    try:
        plan = read_rows(RunPaths(run_dir).plan, schemas.PLAN)
    except UNREADABLE:
        return {}
    return {row["config"]: config_words(row["config"], _parameters(row)) for row in plan}


def _summary(row: TableRow) -> Summary:
    parts = {part: row[f"{_METRIC}_{part}"] for part in Summary._fields}
    known = {part: math.nan if value in (None, "") else float(value) for part, value in parts.items()}
    return Summary(known["mean"], known["std"], int(parts["n"] or 0), known["low"], known["high"])


def _lines(rows: Sequence[ResultRow], width: int | None, unit: str = "seeds", *, is_ranked: bool = True) -> list[str]:
    single = [row for row in rows if row.name != "mean" and not math.isnan(row.summary.mean)]
    if not single:
        return []
    ranked = sorted(single, key=lambda row: -row.summary.mean)
    shown = list(rows) if len(rows) <= _MOST_ROWS else ranked[:_MOST_ROWS]
    head = ("", _TITLE, "95% interval", unit)
    lines = [table_text([head, *map(_cells, shown)], names=1, width=width)]
    if len(shown) < len(rows):
        lines.append(f"and {len(rows) - len(shown)} more in {SUMMARY_CSV}")
    if len(ranked) > 1 and is_ranked:
        best, worst = (f"{row.name} ({metric_text(row.summary.mean)})" for row in (ranked[0], ranked[-1]))
        lines.append(f"best: {best}; worst: {worst}")
    return lines


def _cells(row: ResultRow) -> tuple[str, ...]:
    summary = row.summary
    interval = f"[{summary.low:.3f}, {summary.high:.3f}]" if summary.n >= LEAST_FOR_INTERVAL else NOT_DEFINED
    return row.name, metric_text(summary.mean), interval, str(summary.n)
