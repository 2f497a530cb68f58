"""Configs by their metric: which is best, and from which others it can be told by paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fcdd_sweep.metrics.statistics import Summary, paired_difference
from fcdd_sweep.report.run_files import Run
from fcdd_sweep.report.summaries import SummaryRow, mean_row

LEAST_SEEDS = 3
"""Seeds that two configs must share before anything is said of their difference."""


@dataclass(frozen=True)
class RankedConfig:
    """A config and what is known of its distance from the best one.

    Attributes:
        config: its name.
        row: its metrics, means over classes.
        behind: the best config's metric minus its own, over the seeds that both have with all classes; None for the
            best config itself.
    """

    config: str
    row: SummaryRow
    behind: Summary | None

    @property
    def is_told_apart(self) -> bool:
        """Whether the paired interval excludes 0; never with fewer than three common seeds."""
        return self.behind is not None and self.behind.n >= LEAST_SEEDS and self.behind.low > 0


def ranked_configs(run: Run, metric: str = "image_auroc") -> list[RankedConfig]:
    """Return the configs by a metric, the best first and those without a value last, in the order of the plan."""
    rows = [mean_row(run, config) for config in run.configs]
    rows.sort(key=lambda row: -np.nan_to_num(row.metrics[metric].mean, nan=-np.inf))
    best = rows[0].config if rows and rows[0].metrics[metric].mean == rows[0].metrics[metric].mean else None
    return [
        RankedConfig(
            row.config, row, None if best in (None, row.config) else paired_by_seed(run, best or "", row.config, metric)
        )
        for row in rows
    ]


def is_decided(ranked: Sequence[RankedConfig]) -> bool:
    """Return whether the first config is told apart from each of the others."""
    return len(ranked) > 1 and all(each.is_told_apart for each in ranked[1:])


def paired_by_seed(run: Run, first: str, second: str, metric: str) -> Summary:
    """Return the difference `first - second` of a metric over seeds: of its means over the classes that both have."""
    one, other = _by_seed(run, first, metric), _by_seed(run, second, metric)
    classes = [name for name in one if name in other]
    if not classes:
        return paired_difference([], []).summary
    seeds = sorted(set.intersection(*(one[name].keys() & other[name].keys() for name in classes)))
    means = [[float(np.mean([by[name][seed] for name in classes])) for seed in seeds] for by in (one, other)]
    return paired_difference(*means).summary


def _by_seed(run: Run, config: str, metric: str) -> dict[str, dict[int, float]]:
    """Return by class and seed the values of a metric that are defined; classes without any are left out."""
    found = {
        name: {trial.seed: value for trial in run.of(config, name) if not np.isnan(value := trial.value(metric))}
        for name in run.classes(config)
    }
    return {name: values for name, values in found.items() if values}
