"""What to tell when a report's file cannot be written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.locations import StorageError
from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.results import files, schemas, tree
from fcdd_sweep.results.files import TableRow as TableRow
from fcdd_sweep.results.files import read_columns, read_rows
from fcdd_sweep.results.storage import Location

_ASIDE = re.compile(r"^\.[0-9a-f]{8}-")
"""How `results.files.write_atomically` marks a file that is not yet in its place."""


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the file system into words; files that can be written by then are kept.

    Raises:
        InputError: a file below `folder` cannot be written; names it.
    """
    try:
        yield
    except OSError as error:
        path = Path(str(error.filename2 or error.filename or folder))
        path = path.with_name(_ASIDE.sub("", path.name))
        what = f"the report cannot be written there ({error.strerror or error})"
        step = "Move away what lies there, or make the folder writable, and run the command again"
        raise InputError(Problem(str(path), what, next_step=step)) from error


XY = tuple[FloatArray, FloatArray]
UNREADABLE = (OSError, pa.ArrowException, BadZipFile, EOFError, ValueError, KeyError)
"""What reading a damaged or missing file raises."""


@dataclass(frozen=True)
class Trial:
    """A planned trial and what it left.

    Attributes:
        plan: its row of `plan.parquet`.
        status: `done` only if its files can be read.
        leaf: its folder below the run; empty unless done.
        error: last line of the last failure; empty unless failed.
        failures: attempts that failed so far.
        metrics: its row of `metrics.parquet`; empty unless done.
        defects: its rows of `defects.parquet`.
        folder: its leaf on this machine; None unless done.
    """

    plan: TableRow
    status: Literal["done", "failed", "missing"]
    leaf: str = ""
    error: str = ""
    failures: int = 0
    metrics: TableRow = field(default_factory=dict)
    defects: list[TableRow] = field(default_factory=list)
    folder: Path | None = None

    @cached_property
    def curves(self) -> dict[str, XY]:
        """x and y by kind (`image_roc`, ...), none where a label is missing. Read when they are asked for: a large run
        draws only some of its trials, and the curves of all would not fit into memory."""
        return {} if self.folder is None else read_curves(self.folder)

    @property
    def config(self) -> str:
        return str(self.plan["config"])

    @property
    def normal_class(self) -> str:
        return str(self.plan["normal_class"])

    @property
    def seed(self) -> int:
        return int(self.plan["seed"])

    @cached_property
    def parameters(self) -> TableRow:
        return dict(json.loads(self.plan["parameters"] or "{}"))

    @property
    def class_folder(self) -> str:
        """Where the class's own pictures go: the planned leaf's parent."""
        return str(self.plan["leaf"]).rpartition("/")[0]

    def value(self, metric: str) -> float:
        """A figure of the trial; NaN when undefined or not there."""
        value = self.metrics.get(metric)
        return np.nan if value is None else float(value)


@dataclass(frozen=True)
class Run:
    """Everything a report is made of.

    Attributes:
        path: the run's directory.
        trials: in the order of the plan.
        problems: sentences on files that could not be read.
        unplanned: finished trials in the index that the plan no longer holds.
        experiment: the text of `experiment.yaml`; empty when there is none.
        environment: `environment.json`; its `notes` are sentences on the data.
        last_published: when the last trial came in, or None.
    """

    path: Path
    trials: tuple[Trial, ...]
    problems: tuple[str, ...]
    unplanned: int
    experiment: str
    environment: TableRow
    last_published: Any = None

    @property
    def configs(self) -> list[str]:
        return list(self._grouped)

    def classes(self, config: str) -> list[str]:
        return list(self._grouped.get(config, {}))

    def of(self, config: str, normal_class: str | None = None) -> list[Trial]:
        """The trials of a config, or of one of its classes."""
        by_class = self._grouped.get(config, {})
        if normal_class is not None:
            return list(by_class.get(normal_class, []))
        return list(self._by_config.get(config, []))

    @cached_property
    def _by_config(self) -> dict[str, list[Trial]]:
        """In the order of the plan. Looking through all trials for each class would grow with their square."""
        groups: dict[str, list[Trial]] = {}
        for trial in self.trials:
            groups.setdefault(trial.config, []).append(trial)
        return groups

    @cached_property
    def _grouped(self) -> dict[str, dict[str, list[Trial]]]:
        groups: dict[str, dict[str, list[Trial]]] = {config: {} for config in self._by_config}
        for trial in self.trials:
            groups[trial.config].setdefault(trial.normal_class, []).append(trial)
        return groups


def read_run(run_dir: Path) -> Run:
    """Read a run's tree.

    Raises:
        InputError: `run_dir` is no run: it has no readable plan.
    """
    plan = read_plan(run_dir)
    problems: list[str] = []
    index = read_index(run_dir, problems)
    trials = tuple(_read_trial(run_dir, row, index.get(row["trial_id"], {}), problems) for row in plan)
    planned = {row["trial_id"] for row in plan}
    return Run(
        path=run_dir,
        trials=trials,
        problems=tuple(problems),
        unplanned=sum(row["status"] == "done" and key not in planned for key, row in index.items()),
        experiment=_read_text(run_dir / tree.EXPERIMENT),
        environment=_read_environment(run_dir / tree.ENVIRONMENT, problems),
        last_published=max((row["published_at"] for row in index.values() if row["published_at"]), default=None),
    )


def read_plan(run_dir: Location) -> list[TableRow]:
    """The rows of `plan.parquet`; without a readable one `run_dir` is no run, an InputError."""
    try:
        return read_rows(run_dir / tree.PLAN, schemas.PLAN)
    except StorageError:
        raise  # nothing is known of the plan
    except UNREADABLE as error:
        problem = Problem(
            str(run_dir),
            f"is no run's directory: {tree.PLAN} cannot be read ({brief(error)})",
            allowed="the directory that a sweep wrote, OUTPUT/NAME",
        )
        raise InputError(problem) from error


def read_index(run_dir: Location, problems: list[str]) -> dict[str, TableRow]:
    """The rows of `index.parquet` by trial id; empty when there is none, with a sentence when it is damaged."""
    try:
        return files.read_index(run_dir)
    except StorageError:
        raise  # nothing is known of the index
    except UNREADABLE as error:
        problems.append(
            f"{tree.INDEX} cannot be read ({brief(error)}): finished trials are found by their folders, failures are "
            "not known. The sweep's command makes it again."
        )
        return {}


def leaves_of(plan: TableRow, entry: TableRow) -> list[str]:
    """Where a planned trial's leaf may lie, whatever the index says: it may be lost, or older than the leaf."""
    indexed = [entry["leaf"]] if entry.get("status") == "done" else []
    return list(dict.fromkeys([*indexed, plan["leaf"], tree.alternative_leaf(plan["leaf"], plan["config_id"])]))


def _read_trial(run_dir: Path, plan: TableRow, entry: TableRow, problems: list[str]) -> Trial:
    failures = entry.get("failures", 0)
    leaf = next((leaf for leaf in leaves_of(plan, entry) if holds(run_dir / leaf, plan["trial_id"])), "")
    if not leaf and entry.get("status") == "failed":
        return Trial(plan, "failed", error=entry["error"], failures=failures)
    if not leaf and not entry:
        return Trial(plan, "missing")
    try:
        return _read_leaf(run_dir, plan, leaf or entry["leaf"], failures)
    except UNREADABLE as error:
        step = f"Delete its {tree.METRICS} and run" if leaf else "Run"
        problems.append(
            f"{leaf or entry['leaf']} (class {plan['normal_class']}, seed {plan['seed']}) counts as missing: "
            f"{brief(error)}. {step} the same command again."
        )
        return Trial(plan, "missing", failures=failures)


def holds(leaf: Location, trial_id: str) -> bool:
    """Whether a folder is a leaf of this trial, as the sweep sees it: by its `metrics.parquet` alone."""
    try:
        return [row["trial_id"] for row in read_rows(leaf / tree.METRICS, schemas.METRICS)] == [trial_id]
    except StorageError:
        raise  # nothing is known of the leaf
    except UNREADABLE:
        return False


def _read_leaf(run_dir: Path, plan: TableRow, leaf: str, failures: int) -> Trial:
    folder = run_dir / leaf
    (metrics,) = read_rows(folder / tree.METRICS, schemas.METRICS) or [{"trial_id": "nothing"}]
    if metrics["trial_id"] != plan["trial_id"]:
        raise ValueError(f"{tree.METRICS} holds trial {metrics['trial_id']}, not {plan['trial_id']}")
    for name, schema in ((tree.SCORES, schemas.SCORES), (tree.HISTORY, schemas.HISTORY)):
        read_columns(folder / name, schema)  # others read them later, where a damaged one would be no trial's problem
    read_curves(folder)
    return Trial(
        plan,
        "done",
        leaf=leaf,
        failures=failures,
        metrics=metrics,
        defects=read_rows(folder / tree.DEFECTS, schemas.DEFECTS),
        folder=folder,
    )


def read_curves(leaf: Path) -> dict[str, XY]:
    """x and y of each of a leaf's curves, by kind, in stored order."""
    table = read_columns(leaf / tree.CURVES, schemas.CURVES)
    kind = np.array(table["kind"].to_pylist(), dtype=object)
    x, y = (table[name].to_numpy() for name in ("x", "y"))
    return {name: (x[kind == name], y[kind == name]) for name in dict.fromkeys(kind)}


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _read_environment(path: Path, problems: list[str]) -> TableRow:
    try:
        return dict(json.loads(_read_text(path) or "{}"))
    except (ValueError, TypeError) as error:
        problems.append(f"{path.name} cannot be read ({brief(error)})")
        return {}


def brief(error: Exception) -> str:
    """The error's own words in one line; for a missing file its name."""
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename)).name} is missing"
    return " ".join(str(error).split())[:200]


def counted(trials: Iterable[Trial]) -> dict[str, int]:
    """The ledger: planned, done, failed, missing."""
    given = [trial.status for trial in trials]
    return {"planned": len(given)} | {status: given.count(status) for status in ("done", "failed", "missing")}
