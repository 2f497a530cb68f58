"""The run that was probably meant by a folder that is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fcdd_sweep.config.nearest import nearest
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import RunPaths

_MOST_NAMED = 5


def run_suggestion(folder: Location) -> str:
    """Return which run was probably meant by a folder that is no run; empty where no run is near.

    Looks above it, in it and beside it, on this machine only.
    """
    if not isinstance(folder, Path):
        return ""
    if above := next(filter(_is_run, folder.absolute().parents), None):
        return f"It is part of the run '{above}'"
    if inside := _runs_in(folder):
        return f"It holds {_named(inside)}"
    beside = _runs_in(folder.parent)
    near = nearest(folder.name, [run.name for run in beside])
    if near:
        return f"Closest: '{folder.parent / near}'"
    return f"Beside it: {_named(beside)}" if beside else ""


def _is_run(folder: Path) -> bool:
    return RunPaths(folder).plan.is_file()


def _runs_in(folder: Path) -> list[Path]:
    try:
        return sorted(filter(_is_run, folder.iterdir()))
    except OSError:
        return []


def _named(runs: Sequence[Path]) -> str:
    more = len(runs) - _MOST_NAMED
    names = ", ".join(f"'{run}'" for run in runs[:_MOST_NAMED])
    return f"{names}{f' and {more} more runs' if more > 0 else ''}"
