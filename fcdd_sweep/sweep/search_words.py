"""What a search will do, in words for `--dry-run` and `validate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.search import Axis, Search
from fcdd_sweep.config.search_space import Space
from fcdd_sweep.config.words import number_of, show
from fcdd_sweep.sweep.judging import fresh_seeds, judging_seeds


def headline(search: Search, experiment: Experiment, classes: int, all_classes: int) -> str:
    """How many configs and trials; `classes` judge, `all_classes` confirm."""
    budget = search.budget
    limits = [
        *([] if budget.configs is None else [number_of(budget.configs, "config")]),
        *([] if budget.trials is None else [number_of(budget.trials, "trial")]),
        *([] if budget.hours is None else [f"{budget.hours:g} h"]),
    ]
    seeds, fresh = len(judging_seeds(experiment, search)), len(fresh_seeds(experiment, search))
    judges = f"{number_of(classes, 'class')} x {number_of(seeds, 'seed')}"
    confirm = f"{number_of(all_classes, 'class')} x {number_of(fresh, 'fresh seed')}"
    return (
        f"a search of at most {' or '.join(limits)}, {number_of(classes * seeds, 'trial')} a config ({judges}); then "
        f"the best and the default confirmed by {number_of(all_classes * fresh, 'trial')} each ({confirm})"
    )


def search_entries(search: Search, experiment: Experiment) -> Mapping[str, list[str]]:
    """Titles and lines of the plan."""
    metrics = zip(search.metrics, search.directions, strict=True)
    judged = ", ".join(f"{direction} {metric}" for metric, direction in metrics)
    oracle = ["ORACLE: the search looks at the test set, and all that it finds is marked so"] if search.oracle else []
    prune, pruned = search.prune, []
    if prune is not None:
        pruned = [f"given up at epoch {', '.join(map(str, prune.at))}: all but the best {prune.keep:.0%}"]
    return {
        "search": [
            f"{search.algorithm}, seed {search.seed}: {judged}; a failed trial: {search.failed_trials}",
            *pruned,
            *oracle,
        ],
        "space": [f"{key}: {_axis_text(axis)}" for key, axis in search.space.items()],
        "confirmed": [f"on seeds {', '.join(map(str, fresh_seeds(experiment, search)))}, with the test set scored"],
    }


def _axis_text(axis: Axis) -> str:
    condition = "".join(f", when {key} is {show(value)}" for key, value in axis.when.items())
    if axis.ends is None:
        return f"one of {', '.join(show(value) for value in axis.choices or [])}{condition}"
    low, high = axis.ends
    kind = "whole numbers, " if axis.int_ is not None else ""
    step = "" if axis.step is None else f" in steps of {axis.step:g}"
    return f"{kind}{low:g} to {high:g}{step}{', logarithmic' if axis.is_log else ''}{condition}"


def outside_notes(space: Space) -> Iterator[str]:
    """Values of the file's own config that its space does not have."""
    for key, value in space.default().items():
        if not space.axes[key].contains(value):
            yield (
                f"the file's own {key}, {show(value)}, is outside of search.space: it is judged and confirmed as the "
                "default, and suggestions learn nothing of it from that."
            )
