"""One way to run any experiment: a search if it has one, else a sweep."""

from __future__ import annotations

from typing import Unpack

from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.planning.plan import Plan
from fcdd_sweep.results.storage import is_file
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.sweep.session import RunKeywords, SweepResult
from fcdd_sweep.sweep.sweep import run_sweep


def run_experiment(experiment: Experiment | Plan, **keywords: Unpack[RunKeywords]) -> SweepResult:
    """Run an experiment: its search if it has one, else its sweep.

    Args:
        experiment: from `load_experiment`, or its plan.
        keywords: `local`, `address`, `changed_data`, `progress`, `work`, see `sweep.session.RunOptions`.
    Raises:
        InputError: an experiment that cannot run, or data that cannot be read; nothing has been started.
        StorageError: the storage of the results is full or unreachable; finished trials are kept.
    """
    if (experiment.experiment if isinstance(experiment, Plan) else experiment).search is None:
        return run_sweep(experiment, **keywords)
    from fcdd_sweep.search.search import run_search  # imports Optuna, which only a search needs

    return run_search(experiment, **keywords)


def check_own_study(planned: Plan) -> None:
    """Check that the study that a run may have is that of the experiment's search; write nothing.

    Raises:
        InputError: it is of another search or version, or its database cannot be used.
    """
    search, run_dir = planned.experiment.search, planned.experiment.run_dir
    if search is None or not (search.storage or is_file(RunPaths(run_dir).search.journal)):
        return
    from fcdd_sweep.search.plan import plan_search
    from fcdd_sweep.search.search import check_search

    check_search(plan_search(planned))
