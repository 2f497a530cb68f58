"""Which figures of classes, configs and run are as they would be drawn now: only what has changed is drawn again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fcdd_sweep.report.class_scores import DECIDED
from fcdd_sweep.report.figures.contact_sheet import ContactSheet
from fcdd_sweep.report.report_state import code_state
from fcdd_sweep.report.run_files import Run, Trial
from fcdd_sweep.results import tree
from fcdd_sweep.results.files import write_text
from fcdd_sweep.results.tree import RunPaths

_INPUTS = (tree.METRICS, tree.CURVES, tree.SCORES, tree.MAPS)
"""Files of a leaf that figures show."""


class FigureCache:
    """What each group of a run's figures was drawn from, by its name: kept in the run, `.figures.json`.

    Files are compared by size and time, as those of the whole report are.
    """

    def __init__(self, run: Run, *, anew: bool = False) -> None:
        """Read what was kept; with `anew`, nothing counts as drawn."""
        self._path = RunPaths(run.path).figure_state
        self._root = run.path
        self._same = [code_state(), run.experiment.report.style, run.experiment.heatmaps.model_dump(mode="json")]
        self._old: Mapping[str, Any] = {} if anew else _read(self._path)
        self._new: dict[str, Any] = {}

    def key(self, trials: Sequence[Trial], *more: object) -> str:
        """Return a digest of everything that figures of these trials depend on, with `more`, plain values."""
        shown = [_inputs(trial) for trial in trials]
        return hashlib.sha256(json.dumps([self._same, shown, more]).encode()).hexdigest()

    def is_drawn(self, name: str, key: str) -> bool:
        """Return whether the group was drawn by this key and its files are still there; it stays known then."""
        kept = self._old.get(name, {})
        if kept.get("key") != key or not all((self._root / file).is_file() for file in kept["files"]):
            return False
        self._new[name] = kept
        return True

    def sheet(self, name: str) -> ContactSheet | None:
        """Return the contact sheet of a group that is drawn; None where it has none."""
        kept = self._new[name]["sheet"]
        if kept is None:
            return None
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in kept.items()}
        return ContactSheet(**fields)

    def drawn(self, name: str, key: str, files: Sequence[Path], sheet: ContactSheet | None = None) -> None:
        """Remember a group that was just drawn.

        Args:
            name: of the group.
            key: of its inputs.
            files: where its figures are, if they exist.
            sheet: its contact sheet.
        """
        names = [path.relative_to(self._root).as_posix() for path in files if path.is_file()]
        self._new[name] = {"key": key, "files": names, "sheet": None if sheet is None else asdict(sheet)}

    def write(self) -> None:
        """Keep what is drawn now, where it differs from what was kept."""
        if self._new != self._old:
            write_text(self._path, json.dumps(self._new))


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}  # none was kept yet, or it is damaged


def _inputs(trial: Trial) -> list[Any]:
    """Return plain values on which figures of a trial depend; its files by size and time."""
    folder = trial.folder
    stats = [(folder / name).stat() for name in _INPUTS if folder is not None and (folder / name).is_file()]
    decided = [trial.metrics.get(name) for name in DECIDED]
    planned = [trial.plan[name] for name in ("trial_id", "parameters")]
    return [*planned, trial.status, *decided, *([stat.st_size, stat.st_mtime_ns] for stat in stats)]
