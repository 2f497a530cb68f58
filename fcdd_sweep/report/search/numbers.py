"""The numbers behind a search's plots, as rows of Parquet tables. Undefined numbers are NaN or None, never 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fcdd_sweep.metrics.paired_tests import seed_summary
from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.metrics.statistics import ALPHA, Summary, summarize
from fcdd_sweep.report.search.axes import Group, PlotAxis
from fcdd_sweep.report.search.record import SearchRecord
from fcdd_sweep.report.text import LEAST_FOR_INTERVAL
from fcdd_sweep.results import search_schemas
from fcdd_sweep.results.files import TableRow, write_rows
from fcdd_sweep.results.tree import SearchPaths

LIMIT, LEARNING_RATE = "anomalies.limit", "training.learning_rate"
TWO_SIDED = 1.96
"""Standard errors on either side of the mean that hold 95% of a normal distribution."""
LEAST_FOR_QUARTILES = 3
CONFIRMED = ("image_auroc", "image_ap", "pixel_auroc")
"""Metrics of the test set in `confirmation.parquet`."""


def write_search_tables(search: SearchRecord, cells: Sequence[TableRow]) -> None:
    """Write the numbers behind the plots into RUN/search."""
    write_rows(SearchPaths(search.path).optimization, optimization_rows(search), search_schemas.OPTIMIZATION)
    write_rows(SearchPaths(search.path).levels, level_rows(search), search_schemas.LEVELS)
    write_rows(SearchPaths(search.path).cells, cells, search_schemas.CELLS)
    write_rows(SearchPaths(search.path).differences, difference_rows(search), search_schemas.DIFFERENCES)


def known(value: float) -> float | None:
    """Return a number for a table: None where it is NaN."""
    return None if np.isnan(value) else float(value)


def running_best(values: FloatArray, sign: float) -> list[int | None]:
    """Return by row the index of the best value so far, the first of equals; None before there is one."""
    found: list[int | None] = []
    best: int | None = None
    for row, value in enumerate(values):
        if not np.isnan(value) and (best is None or sign * value > sign * values[best]):
            best = row
        found.append(best)
    return found


def optimization_rows(search: SearchRecord) -> list[TableRow]:
    """Return one row per metric and config: its value, and the best so far."""
    rows = []
    for index, metric in enumerate(search.metrics):
        values, errors = search.values(index), search.errors(index)
        for row, best in enumerate(running_best(values, search.sign[index])):
            rows.append(
                {
                    "metric": metric,
                    "number": search.numbers[row],
                    "state": search.states[row],
                    "value": known(values[row]),
                    "value_std_error": known(errors[row]),
                    "best": None if best is None else float(values[best]),
                    "best_number": None if best is None else search.numbers[best],
                }
            )
    return rows


def level_rows(search: SearchRecord) -> list[TableRow]:
    """Return one row per metric, key and level, in the order of the key's axis."""
    return [
        _level_row(search, index, axis.key, group)
        for index in range(len(search.metrics))
        for axis in search.axes
        for group in axis.groups(search.parameter(axis.key))
    ]


def _level_row(search: SearchRecord, metric: int, key: str, group: Group) -> TableRow:
    rows = [row for row in group.rows if not np.isnan(search.values(metric)[row])]
    values = search.values(metric)[rows]
    best = rows[int(np.argmax(search.sign[metric] * values))] if rows else None
    low, high = np.percentile(values, (25, 75)) if len(rows) >= LEAST_FOR_QUARTILES else (np.nan, np.nan)
    return {
        "metric": search.metrics[metric],
        "key": key,
        "level": group.text,
        "n": len(rows),
        "n_other": len(group.rows) - len(rows),
        "best": None if best is None else float(search.values(metric)[best]),
        "best_std_error": None if best is None else known(search.errors(metric)[best]),
        "best_number": None if best is None else search.numbers[best],
        "median": float(np.median(values)) if rows else None,
        "low": known(low),
        "high": known(high),
    }


def enough_text(levels: Sequence[TableRow], sign: float) -> str:
    """Return a sentence on the least level whose best config equals the best of all within the noise of both.

    Args:
        levels: of one metric and key, in the order of the axis.
        sign: -1 where small values are better.
    Returns:
        Empty when fewer than two levels have a value.
    """
    found = [level for level in levels if level["n"]]
    if len(found) < 2:
        return ""
    top = max(found, key=lambda level: sign * level["best"])
    if top["best_std_error"] is None:
        return f"The best config has {top['level']}; the noise of its value is unknown."
    for level in found:
        if level is top:
            break
        if level["best_std_error"] is None:
            continue
        gap = sign * (top["best"] - level["best"])
        noise = TWO_SIDED * float(np.hypot(top["best_std_error"], level["best_std_error"]))
        if gap <= noise:
            return (
                f"{level['level']} is the least whose best config is as good as the best of all (with "
                f"{top['level']}) within the noise: they differ by {gap:.3f}, noise alone by up to {noise:.3f}."
            )
    return f"The best config of every value before {top['level']} differs from the best of all by more than the noise."


def pareto_rows(values: FloatArray, signs: FloatArray) -> list[int]:
    """Return the rows that no other row beats, by the first metric. One row beats another by being as good in all
    metrics and better in one; rows with NaN are left out.

    Args:
        values: (N, K).
        signs: (K,), -1 where small values are better.
    """
    whole = np.flatnonzero(~np.isnan(values).any(axis=1))
    better = values[whole] * signs
    kept = [
        int(whole[i])
        for i, own in enumerate(better)
        if not ((better >= own).all(axis=1) & (better > own).any(axis=1)).any()
    ]
    return sorted(kept, key=lambda row: values[row, 0])


def confirmed_metric(search: SearchRecord) -> str:
    """Return the metric of the test set by which configs are compared."""
    comparison = search.summary.comparison
    wanted = [*([comparison.metric] if comparison else []), *search.metrics]
    plain = [name.removeprefix("oracle/").removeprefix("validation_") for name in wanted]
    return next((name for name in plain if name in CONFIRMED), CONFIRMED[0])


def difference_rows(search: SearchRecord) -> list[TableRow]:
    """Return one row per confirmed config, class and seed that was planned for it or for the default."""
    metric = confirmed_metric(search)
    by_config: dict[int, dict[tuple[str, int], float | None]] = {}
    default: dict[tuple[str, int], float | None] = {}
    for row in search.confirmation:
        own = default if row["role"] == "default" else by_config.setdefault(int(row["number"]), {})
        own[row["normal_class"], int(row["seed"])] = row[metric]
    return [
        {
            "number": number,
            "normal_class": pair[0],
            "seed": pair[1],
            "metric": metric,
            "value": found.get(pair),
            "default": default.get(pair),
            "difference": _difference(found.get(pair), default.get(pair)),
        }
        for number, found in by_config.items()
        for pair in dict.fromkeys([*found, *default])
    ]


def _difference(value: float | None, default: float | None) -> float | None:
    return None if value is None or default is None else value - default


class Comparison(NamedTuple):
    """A confirmed config compared with the default.

    Attributes:
        overall: summary of the differences, the mean over classes, with the interval of a paired t-test over the seeds
            of each class, corrected for all pairs of confirmed configs.
        by_class: summary of the differences over seeds.
        planned: number of planned pairs.
    """

    number: int
    overall: Summary
    by_class: dict[str, Summary]
    planned: int

    @property
    def seeds(self) -> int:
        """The fewest seeds of a class."""
        return min(summary.n for summary in self.by_class.values())

    @property
    def has_interval(self) -> bool:
        """Whether each class has enough seeds for the interval to be shown."""
        return self.seeds >= LEAST_FOR_INTERVAL

    @property
    def drawn(self) -> Summary:
        """`overall`, without an interval that is not shown."""
        return self.overall if self.has_interval else self.overall._replace(low=np.nan, high=np.nan)


def comparisons(rows: Sequence[TableRow]) -> list[Comparison]:
    """Return one comparison per confirmed config, from `difference_rows`."""
    found = []
    count = len({0, *(row["number"] for row in rows)})
    alpha = ALPHA / max(1, count * (count - 1) // 2)  # all pairs, as in `comparisons.parquet`
    for number in dict.fromkeys(row["number"] for row in rows):
        own = [row for row in rows if row["number"] == number]
        classes = dict.fromkeys(row["normal_class"] for row in own)
        by_class = {
            name: summarize(row["difference"] for row in own if row["normal_class"] == name) for name in classes
        }
        overall, _ = seed_summary({(row["normal_class"], row["seed"]): row["difference"] for row in own}, alpha)
        found.append(Comparison(number, overall, by_class, len(own)))
    return found


def all_values(search: SearchRecord) -> FloatArray:
    """Return the (N, K) values of all metrics."""
    return np.stack([search.values(index) for index in range(len(search.metrics))], axis=1)


def by_relevance(search: SearchRecord) -> list[PlotAxis]:
    """Return the axes, the most important first; those of unknown importance in the order of the space."""
    return sorted(search.axes, key=lambda axis: -search.importance.get(axis.key, 0.0))
