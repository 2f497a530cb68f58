"""`status`: planned, done, failed and missing trials from plan, index and leaves; running ones from `progress.json`."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fcdd_sweep.config.locations import as_written
from fcdd_sweep.config.text import count_noun, duration_text
from fcdd_sweep.report.experiment_file import ExperimentFile
from fcdd_sweep.report.result_table import found_lines
from fcdd_sweep.report.run_files import COUNTED, PLANNED, index_or_problem, leaves_of, read_plan
from fcdd_sweep.report.terminal import table_text
from fcdd_sweep.report.trial_costs import hours_lines
from fcdd_sweep.results import tree
from fcdd_sweep.results.attempts import traceback_file
from fcdd_sweep.results.documents import RunningTrial, SweepProgress, TrialStatus, read_progress
from fcdd_sweep.results.files import TableRow, check_run_version, holds_trial
from fcdd_sweep.results.processes import has_ended
from fcdd_sweep.results.search_schemas import CONFIRMING, EVALUATING, NUMBER, ROLE
from fcdd_sweep.results.storage import Location, check_reachable, files_below, is_file
from fcdd_sweep.results.tree import RunPaths

_COLUMNS = (PLANNED, *COUNTED)
_MOST_FAILURES = 20
"""Failed trials that are named; all are counted, and `failures.parquet` has each attempt."""
_MOST_RUNNING = 12
"""Running trials that are named."""
_SILENT_AFTER = 6
"""Number of missing updates of `progress.json` after which its driver counts as dead or cut off."""


_NO_PROGRESS = f"{tree.PROGRESS} is damaged: whether a sweep is running is unknown; a running one writes it again"


def status_text(run_dir: Location | str, width: int | None = None) -> str:
    """Return a run's status as text.

    Args:
        run_dir: the run's directory, on this machine or in an object store.
        width: columns of the terminal; None for lines of any length.
    Raises:
        InputError: `run_dir` is not a run directory, or its store cannot be used.
    """
    run_dir = as_written(run_dir)
    check_reachable(run_dir)
    problems: list[str] = []
    check_run_version(run_dir)
    plan, index = read_plan(run_dir), index_or_problem(run_dir, problems)
    status = status_by_trial(run_dir, plan, index)
    counts = _counts(plan, status)
    rows = [(*key, *(str(count[column]) for column in _COLUMNS)) for key, count in counts.items()]
    total = sum(counts.values(), Counter())
    rows.append(("all", "", *(str(total[column]) for column in _COLUMNS)))
    whole = {key: row for key, row in index.items() if status.get(key) != TrialStatus.MISSING}
    failed = [index[row["trial_id"]] for row in plan if status[row["trial_id"]] == TrialStatus.FAILED]
    progress, now = read_progress(run_dir), dt.datetime.now(dt.UTC)
    done = _shares_done(progress, now)
    experiment = ExperimentFile.of_run(run_dir)
    unfinished = {key: 1 - done.get(key, 0.0) for key, state in status.items() if state != TrialStatus.DONE}
    return "\n".join(
        [
            table_text([("config", "class", *_COLUMNS), *rows], names=2, width=width),
            *_failure_lines(run_dir, failed),
            *problems,
            *_figures(run_dir, plan, index, status, width),
            *_search_lines(plan, status, experiment),
            *hours_lines(run_dir, whole, plan, unfinished, experiment),
            *(
                [_NO_PROGRESS]
                if progress is None and is_file(RunPaths(run_dir).progress)
                else progress_lines(progress, now)
            ),
        ]
    )


def _figures(
    run_dir: Location,
    plan: list[TableRow],
    index: Mapping[str, TableRow],
    status: Mapping[str, TrialStatus],
    width: int | None,
) -> list[str]:
    """Return the metrics of the trials that are done."""
    leaves = {
        row["trial_id"]: index.get(row["trial_id"], {}).get("leaf") or row["leaf"]
        for row in plan
        if status[row["trial_id"]] == TrialStatus.DONE
    }
    return found_lines(run_dir, plan, leaves, width)


def _search_lines(plan: Sequence[TableRow], status: Mapping[str, TrialStatus], experiment: ExperimentFile) -> list[str]:
    """Return how far a search is, whose further trials are planned one config after another."""
    trials: dict[str, dict[int, list[TrialStatus]]] = {EVALUATING: {}, CONFIRMING: {}}
    for row in plan:
        parameters = json.loads(row["parameters"] or "{}")
        if ROLE in parameters:
            trials[parameters[ROLE]].setdefault(parameters[NUMBER], []).append(status[row["trial_id"]])
    if not trials[EVALUATING]:
        return []
    evaluated, confirmed = map(_done_of, trials.values())
    limits = experiment.search.get("budget")
    amounts = limits.items() if isinstance(limits, dict) else ()  # the file may be damaged
    budget = ", ".join(f"{amount} {name}" for name, amount in amounts if amount) or "not known"
    text = f"search: {evaluated} that were suggested are evaluated (budget: {budget})"
    return [f"{text}; {confirmed} confirmed" if trials[CONFIRMING] else f"{text}; the confirmation has not begun"]


def _done_of(configs: Mapping[int, Sequence[TrialStatus]]) -> str:
    """Return how many configs have all of their trials done."""
    done = sum(set(found) == {TrialStatus.DONE} for found in configs.values())
    return f"{done} of {count_noun(len(configs), 'config')}"


def watch(
    run_dir: Location | str,
    every_s: float,
    show: Callable[[str], bool],
    *,
    width: int | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Show the status repeatedly until the sweep ends, its driver falls silent, or nobody reads it.

    Args:
        run_dir: see `status_text`.
        every_s: seconds between two updates.
        show: called with the text of each update; returns whether anyone still reads.
        width: see `status_text`.
        sleep: waits.
    Raises:
        InputError: see `status_text`.
    """
    while True:
        if not show(status_text(run_dir, width)):
            return
        progress = read_progress(as_written(run_dir))
        if progress is None or progress.state != "running" or is_silent(progress, dt.datetime.now(dt.UTC)):
            return
        sleep(every_s)


def _shares_done(progress: SweepProgress | None, now: dt.datetime) -> dict[str, float]:
    """Return by trial id the share of their epochs that running trials have done."""
    if progress is None or progress.state != "running" or is_silent(progress, now):
        return {}
    return {trial.trial_id: trial.epoch / max(trial.epochs, 1) for trial in progress.trials}


def status_by_trial(
    run_dir: Location, plan: Sequence[TableRow], index: Mapping[str, TableRow]
) -> dict[str, TrialStatus]:
    """Return the status of each planned trial: done when its leaf has all tables, and metrics of this trial.

    A store is spared one request per leaf, as its objects are whole or absent. `aggregate` reads all tables.
    """
    names = None if isinstance(run_dir, Path) else files_below(run_dir)  # one request instead of one per trial

    def status_of(row: TableRow, entry: TableRow) -> TrialStatus:
        for leaf in leaves_of(row, entry):
            tables = [f"{leaf}/{name}" for name in tree.LEAF_TABLES]
            exist = all(is_file(run_dir / name) if names is None else name in names for name in tables)
            is_known = names is not None and leaf == entry.get("leaf")
            if exist and (is_known or holds_trial(run_dir / leaf, row["trial_id"])):
                return TrialStatus.DONE
        return TrialStatus.FAILED if entry.get("status") == TrialStatus.FAILED else TrialStatus.MISSING

    return {row["trial_id"]: status_of(row, index.get(row["trial_id"], {})) for row in plan}


def _counts(plan: list[TableRow], status: Mapping[str, TrialStatus]) -> dict[tuple[str, str], Counter[str]]:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in plan:
        count = counts.setdefault((row["config"] or "-", row["normal_class"]), Counter())
        count.update([PLANNED, status[row["trial_id"]]])
    return counts


def _failure_lines(run_dir: Location, failed: list[TableRow]) -> list[str]:
    more = len(failed) - _MOST_FAILURES
    lines = [_failure_line(run_dir, row) for row in failed[:_MOST_FAILURES]]
    return [*lines, *([f"and {more} more failed, see {tree.FAILURES}"] if more > 0 else [])]


def _failure_line(run_dir: Location, row: TableRow) -> str:
    path = traceback_file(run_dir, row["trial_id"], row["attempt"])
    where = f"no traceback, see {tree.FAILURES}" if path is None else str(path)
    config = f"config {row['config']}, " if row["config"] else ""
    return f"failed: {config}class {row['normal_class']}, seed {row['seed']}: {row['error']} ({where})"


def _seconds_since(time: dt.datetime, now: dt.datetime) -> float:
    """Return the seconds between two times, which may come from the clocks of two machines."""
    return max(0.0, (now - time).total_seconds())


def _age_text(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else duration_text(seconds)


def is_silent(progress: SweepProgress, now: dt.datetime) -> bool:
    """Return whether nothing more is to be expected of a running sweep: its driver is dead, or cut off for long."""
    late = _seconds_since(progress.written, now) > _SILENT_AFTER * progress.every_s
    return progress.state == "running" and (late or has_ended(progress.driver.model_dump()))


def progress_lines(progress: SweepProgress | None, now: dt.datetime) -> list[str]:
    """Return what the driver does, or since when it has ended or fallen silent; nothing without `progress.json`."""
    if progress is None:
        return []
    age, host = _age_text(_seconds_since(progress.written, now)), progress.driver.host
    if progress.state != "running":
        ended = "was interrupted" if progress.state == "interrupted" else progress.state
        return [f"no sweep is running: the last start on {host} {ended} {age} ago"]
    if has_ended(progress.driver.model_dump()):
        what = f"the driver on {host} is gone: process {progress.driver.pid} has ended, its last update was {age} ago"
        return [f"{what}; rerun the same command"]
    if is_silent(progress, now):
        what = f"the driver on {host} has not updated its progress for {age}: it is dead, or cut off from the results"
        return [f"{what}; once it is gone, rerun the same command"]
    elapsed = duration_text(_seconds_since(progress.began, now))
    left = "" if progress.eta_s is None else f", about {duration_text(progress.eta_s)} left"
    finished = f"{progress.done} done and {progress.failed} failed of {progress.to_run} in this start"
    lines = [f"running on {host}, updated {age} ago, elapsed {elapsed}{left}: {finished}"]
    if progress.machines:
        lines.append(f"machines: {', '.join(progress.machines)}")
    shown = progress.trials[:_MOST_RUNNING]
    more = progress.running - len(shown)
    return [*lines, *map(_running_line, shown), *([f"  and {more} more"] if more > 0 else [])]


def _running_line(trial: RunningTrial) -> str:
    config = f"{trial.config}, " if trial.config else ""
    loss = "" if trial.loss is None else f", loss {trial.loss:.4f}"
    state = f"epoch {trial.epoch}/{trial.epochs}{loss}" if trial.epoch else "starting"
    return f"  {config}class {trial.normal_class}, seed {trial.seed}: {state}"
