"""Configs by their metric: which is best, and than which others it is better by the test that decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fcdd_sweep.metrics.statistics import Summary, summarize
from fcdd_sweep.report.comparisons import paired_summaries, seed_decisions
from fcdd_sweep.report.run_files import Run
from fcdd_sweep.report.summaries import SummaryRow, mean_row
from fcdd_sweep.results.files import TableRow


@dataclass(frozen=True)
class RankedConfig:
    """A config and what is known of its distance from the best one.

    Attributes:
        config: its name.
        row: its metrics, means over classes.
        behind: the best config's metric minus its own, with the corrected interval of `paired_summaries`; None for the
            best config itself.
    """

    config: str
    row: SummaryRow
    behind: Summary | None

    @property
    def is_told_apart(self) -> bool:
        """Whether the best config is better than this one."""
        return self.behind is not None and self.behind.low > 0

    @property
    def is_open(self) -> bool:
        """Whether nothing is decided, as trials are missing or seeds too few."""
        return self.behind is not None and math.isnan(self.behind.low)


def ranked_configs(
    run: Run, metric: str = "image_auroc", comparisons: Sequence[TableRow] | None = None
) -> list[RankedConfig]:
    """Return the configs by a metric, the best first and those without a value last, in the order of the plan.

    Args:
        run: with the trials whose test metrics may be shown.
        metric: a column of the summary.
        comparisons: the rows of `comparison_rows` about the run's configs; None: those needed are computed.
    """
    rows = [mean_row(run, config) for config in run.configs]
    rows.sort(key=lambda row: -np.nan_to_num(row.metrics[metric].mean, nan=-np.inf))
    if not rows or math.isnan(rows[0].metrics[metric].mean):
        return [RankedConfig(row.config, row, None) for row in rows]
    best = rows[0].config
    pairs = paired_summaries(seed_decisions(run, metric) if comparisons is None else comparisons, metric)
    behind = {row.config: pairs.get((best, row.config), summarize([])) for row in rows if row.config != best}
    return [RankedConfig(row.config, row, behind.get(row.config)) for row in rows]


def shown_config(run: Run, ranked: Sequence[RankedConfig]) -> str:
    """Return the config whose classes are shown first: that of a search's choice, else the best one.

    The best of those that a search confirmed was not chosen by anyone: to show it would choose on the test set.
    """
    return run.chosen if run.chosen is not None else ranked[0].config


def is_decided(ranked: Sequence[RankedConfig]) -> bool:
    """Return whether the first config is better than each of the others."""
    return len(ranked) > 1 and all(each.is_told_apart for each in ranked[1:])
