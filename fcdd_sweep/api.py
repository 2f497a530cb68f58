"""Run experiments from Python programs and notebooks, with the display that the command line has.

All take an experiment, its plan, or what `load_experiment` takes: a file, or a mapping. All take the same keywords, see
`sweep.session.RunOptions`: `local=True` runs in this process, one trial after another, instead of on Ray Tune;
`address` names a Ray cluster, `auto` or HOST:PORT; `changed_data`, one of `stop`, `keep` and `redo`, says what happens
to finished trials whose data has changed; `progress=None` shows nothing, and a sink of your own gets all events. The
same call again runs only what is missing. Each raises an `InputError` for an experiment that cannot run and for data
that cannot be read, before anything has been started, and a `StorageError` where the storage of the results is full or
unreachable; finished trials are then kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from rich.console import Console

from fcdd_sweep import run
from fcdd_sweep.config.loading import Written, load_experiment
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.planning.plan import Plan
from fcdd_sweep.progress import make_progress
from fcdd_sweep.report.result_table import result_lines
from fcdd_sweep.sweep import sweep
from fcdd_sweep.sweep.session import RunKeywords, SweepResult

Given = Experiment | Plan | str | Path | Written
"""An experiment, its plan, or what `load_experiment` takes."""


def run_experiment(experiment: Given, **keywords: Unpack[RunKeywords]) -> SweepResult:
    """Run an experiment: its search if it has one, else its sweep."""
    return _run(run.run_experiment, experiment, keywords)


def run_sweep(experiment: Given, **keywords: Unpack[RunKeywords]) -> SweepResult:
    """Run the trials of an experiment without a search that are not done, and build its report."""
    return _run(sweep.run_sweep, experiment, keywords)


def run_search(experiment: Given, **keywords: Unpack[RunKeywords]) -> SweepResult:
    """Continue the search of an experiment until its budget is spent, confirm the best config, and build the report."""
    from fcdd_sweep.search import search  # imports Optuna, which only a search needs

    return _run(search.run_search, experiment, keywords)


def _run(start: Callable[..., SweepResult], experiment: Given, keywords: RunKeywords) -> SweepResult:
    """Run with a display and the result at its end, unless the keywords say what takes the events."""
    loaded = experiment if isinstance(experiment, Experiment | Plan) else load_experiment(experiment)
    if "progress" in keywords:
        return start(loaded, **keywords)
    with make_progress(Console(highlight=False)) as progress:
        result = start(loaded, **keywords, progress=progress)
    if not result.interrupted:
        print(*result_lines(result.run_dir), f"report: {result.report}", sep="\n")
    return result
