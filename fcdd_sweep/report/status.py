"""What is planned, done, failed and missing, by config and class, from plan, index and what leaves there are; what runs
now, from `progress.json`."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fcdd_sweep.config.locations import as_written
from fcdd_sweep.config.schema import Resources
from fcdd_sweep.report.live_status import hours_lines, is_silent, live_lines
from fcdd_sweep.report.run_files import TableRow, holds, leaves_of, read_index, read_plan
from fcdd_sweep.results import tree
from fcdd_sweep.results.documents import read_progress
from fcdd_sweep.results.files import check_run_version
from fcdd_sweep.results.storage import Location, check_reachable, files_below, is_file, read_bytes

_STATES = ("planned", "done", "failed", "missing")
_MOST_FAILURES = 20
"""Failed trials that are named; all are counted, and `failures.parquet` has each."""


def status_text(run_dir: Location | str) -> str:
    """A table for the terminal.

    Raises:
        InputError: `run_dir` is no run, or its store cannot be used.
    """
    run_dir = as_written(run_dir)
    check_reachable(run_dir)
    check_run_version(run_dir)
    problems: list[str] = []
    plan, index = read_plan(run_dir), read_index(run_dir, problems)
    states = _states(run_dir, plan, index)
    counts = _counts(plan, states)
    rows = [(*key, *(str(count[state]) for state in _STATES)) for key, count in counts.items()]
    total = sum(counts.values(), Counter())
    rows.append(("all", "", *(str(total[state]) for state in _STATES)))
    lines = _table([("config", "class", *_STATES), *rows])
    failed = [row["trial_id"] for row in plan if states[row["trial_id"]] == "failed"]
    lines += [_failure(run_dir, index[trial_id]) for trial_id in failed[:_MOST_FAILURES]]
    if len(failed) > _MOST_FAILURES:
        lines.append(f"and {len(failed) - _MOST_FAILURES} more failed, see {tree.FAILURES}")
    resources, threads = _resources(run_dir)
    hours = hours_lines(plan, index, lambda trial_id: states.get(trial_id) == "done", resources, threads)
    return "\n".join([*lines, *problems, *hours, *live_lines(read_progress(run_dir), dt.datetime.now(dt.UTC))])


def watch(
    run_dir: Location | str, every_s: float, show: Callable[[str], Any], sleep: Callable[[float], Any] = time.sleep
) -> None:
    """Show the table again and again until the sweep has ended, or its driver is silent.

    Raises:
        InputError: `run_dir` is no run, or its store cannot be used.
    """
    while True:
        show(status_text(run_dir))
        progress = read_progress(as_written(run_dir))
        if progress is None or progress.state != "running" or is_silent(progress, dt.datetime.now(dt.UTC)):
            return
        sleep(every_s)


def _resources(run_dir: Location) -> tuple[Resources, int]:
    """What a trial holds, and its threads, from `experiment.yaml`."""
    try:
        plain = YAML(typ="safe", pure=True).load(read_bytes(run_dir / tree.EXPERIMENT).decode())
        return Resources.model_validate(plain["resources"]), int(plain["training"]["threads"])
    except (OSError, YAMLError, ValidationError, ValueError, KeyError, TypeError):
        return Resources(), 1


def _states(run_dir: Location, plan: list[TableRow], index: dict[str, TableRow]) -> dict[str, str]:
    """By trial id. Whether the files of an indexed leaf are sound, `aggregate` tells; here its last one must exist."""
    names = None if isinstance(run_dir, Path) else files_below(run_dir)  # one question instead of one a trial

    def state(row: TableRow, entry: TableRow) -> str:
        for leaf in leaves_of(row, entry):
            metrics = f"{leaf}/{tree.METRICS}"
            there = is_file(run_dir / metrics) if names is None else metrics in names
            if there and (leaf == entry.get("leaf") or holds(run_dir / leaf, row["trial_id"])):
                return "done"
        return "failed" if entry.get("status") == "failed" else "missing"

    return {row["trial_id"]: state(row, index.get(row["trial_id"], {})) for row in plan}


def _counts(plan: list[TableRow], status: dict[str, str]) -> dict[tuple[str, str], Counter[str]]:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in plan:
        count = counts.setdefault((row["config"] or "-", row["normal_class"]), Counter())
        count.update(["planned", status.get(row["trial_id"], "missing")])
    return counts


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Names to the left, numbers to the right, columns as wide as their widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _failure(run_dir: Location, row: TableRow) -> str:
    number = row["attempt"] if isinstance(run_dir, Path) else f"{row['attempt']}-*"  # see results.attempts
    place = f"{tree.ATTEMPTS}/{row['trial_id']}/{number}/{tree.ERROR}"
    name = f"config {row['config']}, " if row["config"] else ""
    return f"failed: {name}class {row['normal_class']}, seed {row['seed']}: {row['error']} ({place})"
