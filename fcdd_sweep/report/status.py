"""What is planned, done, failed and missing, by config and class, from the plan and the index alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from fcdd_sweep.report.records import read_index, read_plan
from fcdd_sweep.results import tree

_STATES = ("planned", "done", "failed", "missing")


def status_text(run_dir: Path) -> str:
    """A table for the terminal.

    Raises:
        InputError: `run_dir` is no run.
    """
    problems: list[str] = []
    plan, index = read_plan(run_dir), read_index(run_dir, problems)
    counts = _counts(plan, {key: row["status"] for key, row in index.items()})
    rows = [(*key, *(str(count[state]) for state in _STATES)) for key, count in counts.items()]
    total = sum(counts.values(), Counter())
    rows.append(("all", "", *(str(total[state]) for state in _STATES)))
    lines = _table([("config", "class", *_STATES), *rows])
    failures = [index[row["trial_id"]] for row in plan if index.get(row["trial_id"], {}).get("status") == "failed"]
    return "\n".join([*lines, *(_failure(row) for row in failures), *problems])


def _counts(plan: list[dict[str, Any]], status: dict[str, str]) -> dict[tuple[str, str], Counter[str]]:
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


def _failure(row: dict[str, Any]) -> str:
    place = f"{tree.ATTEMPTS}/{row['trial_id']}/{row['attempt']}/{tree.ERROR}"
    return f"failed: class {row['normal_class']}, seed {row['seed']}: {row['error']} ({place})"
