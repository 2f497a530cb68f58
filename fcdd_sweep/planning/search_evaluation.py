"""How a search evaluates configs: on which classes, seeds and images, and on which fresh seeds it confirms the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.schema import Experiment, Settings
from fcdd_sweep.config.search_schema import BY_MAX, PRUNABLE, SearchSettings
from fcdd_sweep.config.search_space import Space, seed_list
from fcdd_sweep.config.text import value_text
from fcdd_sweep.data.records import DatasetFacts
from fcdd_sweep.planning.sections import chosen_classes, class_name
from fcdd_sweep.planning.validation_checks import validation_for_search


def as_evaluated(experiment: Experiment, search: SearchSettings, facts: DatasetFacts) -> Experiment:
    """Return the experiment as the trials that evaluate configs see it.

    What the file leaves out of `evaluation.validation`, the default of a search says. The test set is scored only if
    the search asks for it.
    """
    evaluation = experiment.evaluation
    validation = evaluation.validation
    if validation.anomalies == "none":
        default = validation_for_search(experiment, facts)
        held_out = validation.nominal_fraction or default.nominal_fraction
        validation = validation.model_copy(update={"nominal_fraction": held_out, "anomalies": default.anomalies})
    if search.prune is not None:
        validation = validation.model_copy(update={"epochs": sorted({*validation.epochs, *search.prune.at})})
    test = search.test or search.oracle
    changes: dict[str, Any] = {
        "evaluation": evaluation.model_copy(update={"validation": validation, "test": test}),
        "seeds": evaluation_seeds(experiment, search),
    }
    return experiment.model_copy(update=changes).with_origin(experiment.origin)


def with_test(settings: Settings) -> Settings:
    """Return the same settings with the test set scored at the end."""
    return settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update={"test": True})})


def evaluation_classes(search: SearchSettings, experiment: Experiment, facts: DatasetFacts) -> tuple[str, ...]:
    """Return the names of the classes that a search evaluates configs on."""
    dataset = experiment.dataset
    if search.classes != "all":
        dataset = dataset.model_copy(update={"classes": search.classes})
    return tuple(dict.fromkeys(chosen_classes(dataset, facts)))


def evaluation_class_problems(search: SearchSettings, experiment: Experiment, facts: DatasetFacts) -> list[Problem]:
    """Return a problem for each class of `search.classes` that is not a class of the experiment."""
    where, known = experiment.origin.where(("search", "classes")), chosen_classes(experiment.dataset, facts)
    listed: Sequence[str | int] = [] if search.classes == "all" else search.classes
    if search.classes == []:
        return [Problem(where, "the list of classes is empty", f"all, or some of {', '.join(known)}")]
    return [
        Problem(where, f"{value_text(wanted)} is not a class of the experiment", ", ".join(known))
        for wanted in dict.fromkeys(listed)
        if class_name(wanted, facts.classes) not in known
    ]


def evaluation_seeds(experiment: Experiment, search: SearchSettings) -> list[int]:
    """Return the seeds that a search evaluates configs on."""
    return experiment.seed_list if search.seeds == "all" else seed_list(search.seeds)


def fresh_seeds(experiment: Experiment, search: SearchSettings) -> list[int]:
    """Return the seeds of confirmation: those that the file lists, or as many as it asks for, after all others."""
    if isinstance(search.confirm_seeds, list):
        return search.confirm_seeds
    count = len(experiment.seed_list) if search.confirm_seeds is None else search.confirm_seeds
    first = 1 + max([*evaluation_seeds(experiment, search), *experiment.seed_list])
    return list(range(first, first + count))


def notes_on_search(experiment: Experiment, search: SearchSettings, space: Space) -> Iterator[str]:
    """Yield notes on image scores, and on values of the file's own config that the search space does not contain."""
    score = experiment.evaluation.image_score
    if BY_MAX in search.metrics and score != "max":
        yield (
            f"search.metric {BY_MAX} compares configs by the largest heatmap value, and the confirmation goes by "
            "evaluation.image_score: set that to max, too."
        )
    elif PRUNABLE in search.metrics and score != "mean":
        yield (
            f"search.metric {PRUNABLE} compares configs by the mean of the anomaly map, whatever "
            f"evaluation.image_score is. {BY_MAX} compares them by the largest heatmap value."
        )
    for key, value in space.default().items():
        if not space.axes[key].contains(value):
            yield (
                f"the file's own {key}, {value_text(value)}, is outside of search.space: it is evaluated and confirmed "
                "as the default, but the sampler learns nothing from it for this key."
            )
