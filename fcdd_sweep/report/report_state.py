"""Whether the report of a run is up to date: no file of the run, and no code, has changed since it was built.

The run's files are compared by size and time, inputs and outputs alike, so a report whose page was removed is built
again, too. Those that each start writes again are compared by their content.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from fcdd_sweep.results import tree
from fcdd_sweep.results.files import source_digest, write_text
from fcdd_sweep.results.lease import LEASE, LOCK
from fcdd_sweep.results.storage import files_below
from fcdd_sweep.results.tree import RunPaths

_NO_INPUT = (tree.REPORT_STATE, tree.FIGURE_STATE, tree.PROGRESS, tree.LOG, LOCK, LEASE)
_NO_INPUT_FOLDERS = (tree.ATTEMPTS, tree.TRACKERS, tree.SOURCE)
_WRITTEN_AGAIN = (tree.EXPERIMENT, tree.PLAN, tree.INDEX, tree.ENVIRONMENT)
_LIBRARIES = ("matplotlib", "numpy", "scipy", "pillow")
_version = cache(version)


def code_state() -> list[str]:
    """Return what else a report depends on besides the run's files: the package's code, and versions of libraries."""
    return [source_digest(), *map(_version, _LIBRARIES)]


def _state(folder: Path) -> dict[str, Any]:
    files = {}
    for name, stamp in files_below(folder).items():
        path = PurePosixPath(name)
        if path.name in _NO_INPUT or set(path.parts).intersection(_NO_INPUT_FOLDERS):
            continue
        if path.name in _WRITTEN_AGAIN:
            files[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        else:
            files[name] = f"{stamp.size} {stamp.written_ns}"
    return {"code": code_state(), "files": files}


def sentences_of_current_report(folder: Path) -> list[str] | None:
    """Return what was told when the report was built; None when it must be built again."""
    try:
        kept = json.loads(RunPaths(folder).report_state.read_bytes())
        if kept["state"] == _state(folder):
            return [str(sentence) for sentence in kept["told"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none was built yet, or its state is damaged
    return None


def keep_state(folder: Path, told: list[str]) -> None:
    """Record that the report was built of the files that the run has now; `told` are the sentences for the user."""
    write_text(RunPaths(folder).report_state, json.dumps({"state": _state(folder), "told": told}))
