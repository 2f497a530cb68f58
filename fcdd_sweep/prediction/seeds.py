"""Which seeds of a class decide together: the whole leaves of the run's plan. What is left out is said, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.config.locations import StorageError
from fcdd_sweep.config.names import printable
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.score_choice import is_held_out
from fcdd_sweep.report.run_files import UNREADABLE, index_or_problem, leaves_of, read_plan
from fcdd_sweep.results import schemas
from fcdd_sweep.results.files import DamagedTableError, TableRow, read_columns
from fcdd_sweep.results.storage import Location, children, is_file
from fcdd_sweep.results.tree import LEAF_TABLES, METRICS, SCORES, SNAPSHOT, RunPaths

SEED = "it_"
"""Beginning of the names of leaves."""
_MOST_ABOVE = 3
"""Folders from that of a class up to its run, at most."""
_NAMED = 12
_MISSING = "is missing or empty"
_Faults = dict[Location, str]
"""By leaf why it is left out; empty for one that decides."""


class DecidingLeaves(NamedTuple):
    """Those of a class.

    Attributes:
        leaves: in the order of their seeds.
        notes: sentences on what is left out, and on what is not known.
    """

    leaves: list[Location]
    notes: list[str]


def seeds_of_class(folder: Location) -> DecidingLeaves:
    """Return the leaves that decide for the folder of a class, in its run or copied away from it.

    In a run they are those of its plan, in whichever folder of the run they are; elsewhere all that are whole.

    Raises:
        InputError: none can decide, or they are of several classes or configs and no plan says which of them count.
    """
    names = sorted((name for name in children(folder) if name.startswith(SEED)), key=lambda name: (len(name), name))
    planned, notes = _planned_leaves(folder)
    faults: _Faults = {}
    if planned:
        for row, places in planned:
            faults |= _faults_of_trial(row, places)
        faults |= {folder / name: "is not in the run's plan" for name in names if folder / name not in faults}
    else:
        faults = _faults_without_plan(folder, names)
    deciding = [leaf for leaf, fault in faults.items() if not fault]
    left = _left_out(folder, faults)
    if not deciding:
        what = "has no seed that can predict" + (f": {left}" if left else "")
        step = f"Trials leave a {SNAPSHOT} unless keep.snapshots is none: train it again with keep.snapshots: all. "
        step += f"Where other files are missing or damaged, rerun the experiment, or name the {SNAPSHOT} of one seed"
        raise InputError(Problem(str(folder), what, next_step=step))
    if left:
        total = count_noun(len(planned) or len(names), "planned seed" if planned else "seed")
        decide = "decides, by its own threshold and plain scores" if len(deciding) == 1 else "decide"
        notes.append(f"{len(deciding)} of {total} {decide}, for {folder}; left out: {left}.")
    if elsewhere := [str(leaf) for leaf in deciding if leaf.parent != folder]:
        notes.append(f"Of the seeds that decide for {folder}, the plan has in other folders: {', '.join(elsewhere)}.")
    return DecidingLeaves(deciding, list(map(printable, notes)))


def _left_out(folder: Location, faults: _Faults) -> str:
    """Return the leaves with a fault as text."""
    left = [(leaf.name if leaf.parent == folder else leaf, fault) for leaf, fault in faults.items() if fault]
    shown = ", ".join(f"{leaf} ({fault})" for leaf, fault in left[:_NAMED])
    return shown + (", ..." if len(left) > _NAMED else "")


def _planned_leaves(folder: Location) -> tuple[list[tuple[TableRow, list[Location]]], list[str]]:
    """Return the rows of a class's planned trials by seed, each with the places of its leaf, and sentences on the plan.

    There are none without a run above, or where the class or its config is no longer planned.

    Raises:
        InputError: the folder has trials of several planned configs.
    """
    place, inside = folder.resolve() if isinstance(folder, Path) else folder, ""
    for _ in range(_MOST_ABOVE):
        inside, place = f"{place.name}/{inside}", place.parent
        if is_file(RunPaths(place).plan):
            break
    else:
        return [], []
    try:
        plan, index = read_plan(place), index_or_problem(place, [])
    except InputError as error:
        return [], [f"Which seeds were planned is not known: {short_error(error)}; all whole ones decide."]
    trials = [(row, leaves_of(row, index.get(row["trial_id"], {}))) for row in plan]
    kinds = {_kind(row) for row, leaves in trials if any(f"{leaf.rpartition('/')[0]}/" == inside for leaf in leaves)}
    if not kinds:
        return [], [f"No seed of {folder} is in the plan of its run {place}: all whole ones decide."]
    if len(kinds) > 1:
        what = f"has trials of {len(kinds)} configs of the run's plan, and each has detectors of its own"
        raise InputError(Problem(str(folder), what, next_step=f"Name one seed, such as its folder {SEED}0"))
    found = []
    for row, leaves in sorted(trials, key=lambda trial: int(trial[0]["seed"])):
        if _kind(row) in kinds:
            found.append((row, [_in_folder(folder, inside, place, leaf) for leaf in leaves]))
    return found, []


def _kind(row: TableRow) -> tuple[str, str]:
    return row["config_id"], row["normal_class"]


def _in_folder(folder: Location, inside: str, run_dir: Location, leaf: str) -> Location:
    """Return the place of a leaf, below the folder as it was given where it is there."""
    return folder / leaf.removeprefix(inside) if leaf.startswith(inside) else run_dir / leaf


def _faults_of_trial(planned: TableRow, places: Sequence[Location]) -> _Faults:
    """Return the faults of the places of a planned trial, up to the first that has its whole leaf."""
    faults: _Faults = {}
    for place in places:
        faults[place], row = _read(place)
        if row and row["trial_id"] != planned["trial_id"]:
            is_same = all(row[name] == planned[name] for name in ("normal_class", "seed"))
            other = "other settings" if is_same else f"class {row['normal_class']}, seed {row['seed']}"
            faults[place] = f"holds a trial of {other}"
        if not faults[place]:
            return {each: fault for each, fault in faults.items() if fault != _MISSING}
    there = {place: fault for place, fault in faults.items() if fault != _MISSING}
    return there or {places[0]: _MISSING}


def _faults_without_plan(folder: Location, names: Sequence[str]) -> _Faults:
    """Return the faults of all leaves in a folder.

    Raises:
        InputError: those without a fault are of several classes or configs.
    """
    faults: _Faults = {}
    rows: dict[str, TableRow] = {}
    for name in names:
        fault, row = _read(folder / name)
        if not re.fullmatch(rf"{SEED}\d+", name):
            fault = f"is not named {SEED}SEED"
        elif row and f"{SEED}{row['seed']}" != name:
            fault = f"holds seed {row['seed']}"
        faults[folder / name] = fault
        if not fault:
            rows[name] = row
    _check_same(folder, rows)
    return faults


def _check_same(folder: Location, rows: Mapping[str, TableRow]) -> None:
    if len({_kind(row) for row in rows.values()}) > 1:
        texts = [f"{name} (class {row['normal_class']}, config {row['config_id']})" for name, row in rows.items()]
        shown = ", ".join(texts[:_NAMED]) + (", ..." if len(texts) > _NAMED else "")
        what = f"its seeds are of several classes or configs, and no plan says which of them count: {shown}"
        raise InputError(Problem(str(folder), what, next_step="Move the others elsewhere, or name one seed"))


def _read(leaf: Location) -> tuple[str, TableRow]:
    """Return why a leaf cannot decide, and the row of its `metrics.parquet`; empty where it can, or is not known.

    Raises:
        StorageError: the store did not answer, so that nothing is known of the leaf.
    """
    names = children(leaf)
    if not names:
        return _MISSING, {}
    if absent := [name for name in (SNAPSHOT, *LEAF_TABLES) if name not in names]:
        return f"lacks {', '.join(absent)}", {}
    tables = {}
    for name, schema in ((METRICS, schemas.METRICS), (SCORES, schemas.SCORES)):
        try:
            tables[name] = read_columns(leaf / name, schema)
        except StorageError:
            raise
        except UNREADABLE as error:
            is_named = isinstance(error, DamagedTableError)
            return str(error) if is_named else f"{name} cannot be read ({short_error(error)})", {}
    rows: list[TableRow] = tables[METRICS].to_pylist()
    if len(rows) != 1:
        return f"{METRICS} is damaged: it has {len(rows)} rows", {}
    return _scores_fault(tables[SCORES], rows[0]), rows[0]


def _scores_fault(scores: pa.Table, row: TableRow) -> str:
    """Return why the `scores.parquet` of a leaf is not that of its trial; empty where it is."""
    if any(each != row["trial_id"] for each in scores["trial_id"].unique().to_pylist()):
        return f"{SCORES} is of another trial"
    found, wanted = int(is_held_out(scores.to_pydict()).sum()), row["n_validation"] or 0
    return f"{SCORES} is damaged: it has {found} of {wanted} held-out images" if found < wanted else ""
