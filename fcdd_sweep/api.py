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

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

from rich.console import Console

from fcdd_sweep import run
from fcdd_sweep.config.loading import Written, load_experiment
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.planning.plan import Plan
from fcdd_sweep.progress import make_progress
from fcdd_sweep.sweep import sweep
from fcdd_sweep.sweep.session import RunKeywords, SweepResult

Given = Experiment | Plan | str | Path | Written
"""An experiment, its plan, or what `load_experiment` takes."""


def run_experiment(experiment: Given, **keywords: Unpack[RunKeywords]) -> SweepResult:
    """Run an experiment: its search if it has one, else its sweep."""
    loaded = _loaded(experiment)
    with _shown(keywords) as options:
        return run.run_experiment(loaded, **options)


def run_sweep(experiment: Given, **keywords: Unpack[RunKeywords]) -> SweepResult:
    """Run the trials of an experiment that are not done, and build its report."""
    loaded = _loaded(experiment)
    with _shown(keywords) as options:
        return sweep.run_sweep(loaded, **options)


def run_search(experiment: Given, **keywords: Unpack[RunKeywords]) -> SweepResult:
    """Continue the search of an experiment until its budget is spent, confirm the best config, and build the report."""
    from fcdd_sweep.search import search  # imports Optuna, which only a search needs

    loaded = _loaded(experiment)
    with _shown(keywords) as options:
        return search.run_search(loaded, **options)


def _loaded(experiment: Given) -> Experiment | Plan:
    return experiment if isinstance(experiment, Experiment | Plan) else load_experiment(experiment)


@contextmanager
def _shown(keywords: RunKeywords) -> Iterator[RunKeywords]:
    """Yield the keywords with a display, unless they say what takes the events."""
    if "progress" in keywords:
        yield keywords
        return
    with make_progress(Console(highlight=False)) as progress:
        yield {**keywords, "progress": progress}
