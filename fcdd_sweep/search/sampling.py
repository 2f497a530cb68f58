"""Samplers of a search, and the axes of its space as distributions of Optuna."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from fcdd_sweep.config.search_schema import Algorithm, SearchAxis
from fcdd_sweep.config.text import value_text

_NSGA2_POPULATION = 16
"""Optuna's default of 50 would spend a usual budget on the first generation, which is drawn at random."""


def sampler_of(algorithm: Algorithm, seed: int) -> optuna.samplers.BaseSampler:
    """Return a new sampler of an algorithm, seeded."""
    match algorithm:
        case "tpe":
            return optuna.samplers.TPESampler(seed=seed)
        case "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=_NSGA2_POPULATION, seed=seed)
        case _:
            return optuna.samplers.RandomSampler(seed=seed)


def distribution_of(axis: SearchAxis) -> BaseDistribution:
    """Return the distribution in Optuna of an axis of the search space."""
    if axis.choices is not None:
        return CategoricalDistribution([stored_choice(value) for value in axis.choices])
    low, high = axis.ends or (0.0, 1.0)
    last = high if axis.size is None else axis.value(axis.size - 1)
    if axis.int_ is not None:
        return IntDistribution(axis.value(0), int(last), log=axis.is_log, step=int(axis.step or 1))
    return FloatDistribution(low, last, log=axis.is_log, step=axis.step)


def suggested_value(trial: optuna.Trial, key: str, axis: SearchAxis) -> Any:
    """Return the value that a trial of Optuna suggests for an axis, as the experiment has it."""
    match distribution_of(axis):
        case CategoricalDistribution(choices=labels):
            label = trial.suggest_categorical(key, labels)
            return (axis.choices or [])[labels.index(label)]
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(key, low, high, log=log, step=step)
        case FloatDistribution(low=low, high=high, log=log, step=step):
            value = trial.suggest_float(key, low, high, log=log, step=step)
            return value if step is None else float(f"{value:.12g}")
    raise AssertionError(axis)


def stored_choice(value: Any) -> Any:
    """Return a choice as Optuna stores it: plain values as they are, others as text."""
    return value if value is None or isinstance(value, bool | int | float | str) else value_text(value)
