"""Which images judge the configs of a search."""

from __future__ import annotations

from fcdd_sweep.config.schema import Settings, Validation


def validation_for_search(settings: Settings) -> Validation:
    """The default of a data set."""
    return Validation(nominal_fraction=0.2)
