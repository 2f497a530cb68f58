"""Decide which configs are pruned, by means over the same classes, seeds and epochs, never by single trials."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fcdd_sweep.config.search_schema import Prune
from fcdd_sweep.config.trial_spec import TrialSpec

CURVE_KEY = "learning_curve"
"""Fact of a config in the study: its validation AUROCs at the epochs of pruning."""
Point = tuple[str, int, int]
"""Normal class, seed and epoch of a validation."""


class LearningCurves:
    """AUROCs over validation images at the epochs of pruning, by number of the config.

    Attributes:
        at: the epochs of pruning; empty without pruning.
    """

    def __init__(self, prune: Prune | None, classes: Sequence[str]) -> None:
        self.at = [] if prune is None else prune.at
        self._prune, self._classes = prune, set(classes)
        self._values: dict[int, dict[Point, float]] = {}

    def add(self, number: int, spec: TrialSpec, measured: Mapping[int, float]) -> None:
        """Add the values of a trial of the config, by epoch; those of other epochs are ignored."""
        curve = self._values.setdefault(number, {})
        for epoch, value in measured.items():
            if epoch in self.at:
                curve[spec.normal_class, spec.seed, epoch] = value

    def restore(self, number: int, plain: Iterable[Sequence[Any]]) -> None:
        """Add what `plain` returned for the config in an earlier start."""
        curve = self._values.setdefault(number, {})
        curve.update({(str(name), int(seed), int(epoch)): float(value) for name, seed, epoch, value in plain})

    def plain(self, number: int) -> list[list[Any]]:
        """Return the values of a config as JSON values, for the study."""
        return [[*point, value] for point, value in self._values.get(number, {}).items()]

    def means(self, number: int) -> dict[int, float]:
        """Return the mean of a config over the classes and seeds that have reached an epoch, by epoch."""
        values = {epoch: list(self._at(number, epoch).values()) for epoch in self.at}
        return {epoch: math.fsum(found) / len(found) for epoch, found in values.items() if found}

    def _at(self, number: int, epoch: int) -> dict[Point, float]:
        return {point: value for point, value in self._values.get(number, {}).items() if point[2] == epoch}

    def prune_epoch(self, number: int) -> int | None:
        """Return the first epoch at which a config is not among the best; None without one.

        An epoch counts once all evaluating classes have reached it: a comparison on the hard classes alone would be
        unfair.
        """
        for epoch in self.at:
            own = self._at(number, epoch)
            if {name for name, _, _ in own} != self._classes:
                continue
            points = own.keys()
            others = [
                math.fsum(values[point] for point in points)
                for other, values in self._values.items()
                if other != number and points <= values.keys()
            ]
            better = sum(other > math.fsum(own.values()) for other in others)
            if self._is_pruned(better, len(others)):
                return epoch
        return None

    def _is_pruned(self, better: int, others: int) -> bool:
        prune = self._prune
        return (
            prune is not None
            and others >= prune.min_configs
            and better >= math.ceil(prune.keep_fraction * (others + 1))
        )
