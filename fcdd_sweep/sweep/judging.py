"""What the trials of a search are told beside their config: the images that judge, and the seeds."""

from __future__ import annotations

from typing import Any

from fcdd_sweep.config.schema import Experiment, Settings, Validation
from fcdd_sweep.config.search import Search
from fcdd_sweep.config.search_space import seed_list
from fcdd_sweep.sweep.selection import validation_for_search


def judged(experiment: Experiment, search: Search) -> Experiment:
    """The experiment as the trials that judge configs see it.

    Their validation split is the file's own, or where it says none the default of a search. They are not tested unless
    the search asks for it.
    """
    evaluation = experiment.evaluation
    validation = evaluation.validation
    if validation == Validation():
        validation = validation_for_search(experiment)
    if search.prune is not None:
        validation = validation.model_copy(update={"epochs": sorted({*validation.epochs, *search.prune.at})})
    test = search.test or search.oracle
    changes: dict[str, Any] = {
        "evaluation": evaluation.model_copy(update={"validation": validation, "test": test}),
        "seeds": judging_seeds(experiment, search),
    }
    return experiment.model_copy(update=changes).with_origin(experiment.origin)


def tested(settings: Settings) -> Settings:
    """The same settings with the test set scored at the end."""
    return settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update={"test": True})})


def judging_seeds(experiment: Experiment, search: Search) -> list[int]:
    return experiment.seed_list if search.seeds == "all" else seed_list(search.seeds)


def fresh_seeds(experiment: Experiment, search: Search) -> list[int]:
    """The seeds of confirmation: those that the file lists, or as many as it says after all others."""
    if isinstance(search.confirm_seeds, list):
        return search.confirm_seeds
    count = len(experiment.seed_list) if search.confirm_seeds is None else search.confirm_seeds
    first = 1 + max([*judging_seeds(experiment, search), *experiment.seed_list])
    return list(range(first, first + count))
