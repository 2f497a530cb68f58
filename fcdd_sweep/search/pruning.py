"""Which configs are given up early: means on the same classes, seeds and epochs are compared, never single trials."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fcdd_sweep.config.search_schema import Prune
from fcdd_sweep.config.trial_spec import TrialSpec

CURVE_KEY = "course"
"""In the study: what a config has reached at the epochs of pruning."""
Point = tuple[str, int, int]
"""Normal class, seed and epoch at which validation images were looked at."""


class LearningCurves:
    """How far configs have come, by number: the AUROC over validation images at epochs that the file names.

    Attributes:
        at: these epochs; none where no config is given up.
    """

    def __init__(self, prune: Prune | None, classes: Sequence[str]) -> None:
        self.at = [] if prune is None else prune.at
        self._prune, self._classes = prune, set(classes)
        self._reached: dict[int, dict[Point, float]] = {}

    def add(self, number: int, spec: TrialSpec, measured: Mapping[int, float]) -> None:
        """A trial of the config has these values by epoch."""
        own = self._reached.setdefault(number, {})
        for epoch, value in measured.items():
            if epoch in self.at:
                own[spec.normal_class, spec.seed, epoch] = value

    def restore(self, number: int, plain: Iterable[Sequence[Any]]) -> None:
        """What `plain` gave of a config in an earlier start."""
        own = self._reached.setdefault(number, {})
        own.update({(str(name), int(seed), int(epoch)): float(value) for name, seed, epoch, value in plain})

    def plain(self, number: int) -> list[list[Any]]:
        """A config's values for the study."""
        return [[*point, value] for point, value in self._reached.get(number, {}).items()]

    def means(self, number: int) -> dict[int, float]:
        """By epoch, the config's mean over the classes and seeds that have come so far."""
        values = {epoch: list(self._at(number, epoch).values()) for epoch in self.at}
        return {epoch: math.fsum(found) / len(found) for epoch, found in values.items() if found}

    def _at(self, number: int, epoch: int) -> dict[Point, float]:
        return {point: value for point, value in self._reached.get(number, {}).items() if point[2] == epoch}

    def hopeless(self, number: int) -> int | None:
        """The first epoch at which a config is not among the best; None while it is, or too little is known.

        All judging classes must have come so far, or a config would be judged by its hard classes alone.
        """
        for epoch in self.at:
            own = self._at(number, epoch)
            if {name for name, _, _ in own} != self._classes:
                continue
            points = own.keys()
            others = [
                math.fsum(values[point] for point in points)
                for other, values in self._reached.items()
                if other != number and points <= values.keys()
            ]
            better = sum(other > math.fsum(own.values()) for other in others)
            if self._too_few_worse(better, len(others)):
                return epoch
        return None

    def _too_few_worse(self, better: int, others: int) -> bool:
        prune = self._prune
        return (
            prune is not None
            and others >= prune.min_configs
            and better >= math.ceil(prune.keep_fraction * (others + 1))
        )
