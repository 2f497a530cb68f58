"""The values that a comparison is about: a metric of configs, methods or runs on their common classes and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics.paired_tests import all_pairs
from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.report.run_files import Trial

MOST_PAIRED = 20
"""Up to this many configs all pairs are compared; of more, each with the config of the largest mean. The family counts
all pairs in either case, as that config was chosen by its results."""
EntryPairs = npt.NDArray[np.intp]


@dataclass(frozen=True)
class ComparedEntry:
    """A config, method or run in a comparison.

    Attributes:
        name: as tables show it.
        trials: all of its planned trials.
    """

    name: str
    trials: tuple[Trial, ...]

    @cached_property
    def by_key(self) -> dict[tuple[str, int], Trial]:
        """Its trials by class and seed."""
        return {(trial.normal_class, trial.seed): trial for trial in self.trials}


@dataclass(frozen=True)
class CommonValues:
    """A metric of all entries on their common classes and seeds.

    Attributes:
        metric: its name.
        names: (K) of the entries.
        classes: (C) all but those without the metric; none where no entry has it.
        seeds: (S) of any class.
        values: (K, C, S), NaN where not planned, missing or undefined.
        planned: (C, S) whether all entries planned the class with the seed.
        pairs: (P, 2) entries that are compared with each other.
    """

    metric: str
    names: list[str]
    classes: list[str]
    seeds: list[int]
    values: FloatArray
    planned: npt.NDArray[np.bool_]
    pairs: EntryPairs

    @property
    def family(self) -> int:
        """Number of pairs of entries."""
        return len(self.names) * (len(self.names) - 1) // 2

    @cached_property
    def whole(self) -> npt.NDArray[np.bool_]:
        """(K) whether no planned value of the entry is missing."""
        return np.asarray(~(np.isnan(self.values) & self.planned).any(axis=(1, 2)))

    @cached_property
    def differences(self) -> FloatArray:
        """(P, C, S) values of the first minus those of the second."""
        return self.values[self.pairs[:, 0]] - self.values[self.pairs[:, 1]]


def common_values(entries: Sequence[ComparedEntry], common: Sequence[tuple[str, int]], metric: str) -> CommonValues:
    """Return a metric of entries on these pairs of class and seed, which all of them planned.

    Classes without the metric, though trials are done, are left out: it is undefined there, as pixel metrics without
    ground-truth maps are. Classes without a finished trial are missing, and stay.
    """
    classes, seeds = list(dict.fromkeys(name for name, _ in common)), sorted({seed for _, seed in common})
    values = np.full((len(entries), len(classes), len(seeds)), np.nan)
    planned = np.zeros(values.shape[1:], np.bool_)
    for name, seed in common:
        cell = classes.index(name), seeds.index(seed)
        planned[cell] = True
        values[(slice(None), *cell)] = [entry.by_key[name, seed].value(metric) for entry in entries]
    done = {name for name, seed in common for entry in entries if entry.by_key[name, seed].is_done}
    defined = ~np.isnan(values).all(axis=(0, 2))
    defined = (defined | [name not in done for name in classes]) & defined.any()
    values, planned = values[:, defined], planned[defined]
    kept = [name for name, is_defined in zip(classes, defined, strict=True) if is_defined]
    return CommonValues(metric, [entry.name for entry in entries], kept, seeds, values, planned, _pairs(values))


def _pairs(values: FloatArray) -> EntryPairs:
    count = len(values)
    pairs = all_pairs(count)
    if count <= MOST_PAIRED or np.isnan(values).all():
        return pairs
    known = (~np.isnan(values)).sum(axis=(1, 2))
    most = known == known.max()
    best = int(np.argmax(np.where(most, np.nansum(values, axis=(1, 2)), -np.inf)))
    return pairs[(pairs == best).any(axis=1)]
