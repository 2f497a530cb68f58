"""One way to run any experiment: a search where it has one, else a sweep."""

from __future__ import annotations

from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.planning.plan import Plan
from fcdd_sweep.runners.events import Progress, Work
from fcdd_sweep.sweep.session import OnChangedData, SweepResult


def run_experiment(
    experiment: Experiment | Plan,
    *,
    local: bool = False,
    address: str | None = None,
    changed_data: OnChangedData = "stop",
    progress: Progress | None = None,
    work: Work | None = None,
) -> SweepResult:
    """Run an experiment: its search if it has one, else its sweep.

    Args:
        experiment: from `load_experiment`; or its plan.
        local, address, changed_data, progress, work: see `sweep.sweep.run_sweep`.
    Returns:
        How it ended.
    Raises:
        InputError: an experiment that cannot run, or data that cannot be read; nothing has been started.
        StorageError: the folder for the results is full or unreachable. What is finished is kept there.
    """
    if (experiment.experiment if isinstance(experiment, Plan) else experiment).search is not None:
        from fcdd_sweep.search.search import run_search as run  # imports Optuna, which only a search needs
    else:
        from fcdd_sweep.sweep.sweep import run_sweep as run
    return run(experiment, local=local, address=address, changed_data=changed_data, progress=progress, work=work)
