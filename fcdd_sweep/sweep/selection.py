"""Which images judge the configs of a search."""

from fcdd_sweep.config.schema import Experiment, Validation


def validation_for_search(experiment: Experiment) -> Validation:
    return Validation(nominal_fraction=0.2)
