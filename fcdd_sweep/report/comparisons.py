"""Configs, methods or runs against each other: `comparisons.parquet`, and what pages say of it.

What pages call better and print in bold is decided by one test, that of `clear_best`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fcdd_sweep.metrics.statistics import Summary
from fcdd_sweep.report.common_values import ComparedEntry, common_values
from fcdd_sweep.report.comparison_rows import class_rows, resampled_rows, seed_rows
from fcdd_sweep.report.image_level import image_rows
from fcdd_sweep.report.run_files import Run
from fcdd_sweep.results.comparison_schemas import COMPARISONS
from fcdd_sweep.results.files import TableRow, nulled

COMPARED_METRICS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")
"""Metrics that configs are compared by. Each is a family of its own: the first is the one to decide by."""
DECIDING = "paired_t"
"""The test, at the level of seeds, whose `better` is what pages call better."""


def run_entries(run: Run) -> list[ComparedEntry]:
    """Return the configs of a run."""
    return [ComparedEntry(config, tuple(run.of(config))) for config in run.configs]


def comparison_rows(entries: Sequence[ComparedEntry], tried: int | None = None) -> list[TableRow]:
    """Return all rows about entries; none for fewer than two.

    Args:
        entries: what is compared, paired by class and seed.
        tried: number of configs that were tried; None for all of `entries`.
    """
    if len(entries) < 2:
        return []
    tried = tried or len(entries)
    about: TableRow = {"metric": COMPARED_METRICS[0], "level": "seeds", "test": DECIDING, "n_pairs": 0}
    common = common_keys(entries)
    if not common:
        return [_row(about | {"reason": "no class and seed is planned for all: there is no common pair"}, tried)]
    rows: list[TableRow] = []
    for metric in COMPARED_METRICS:
        values = common_values(entries, common, metric)
        if values.classes:
            rows += [*seed_rows(values), *class_rows(values), *resampled_rows(values)]
            if metric == "image_auroc":
                rows += image_rows(values, [entry.by_key for entry in entries])
    if not rows:
        rows.append(about | {"dropped": len(common), "reason": "no trial has a result yet"})
    return [_row(row, tried) for row in rows]


def seed_decisions(run: Run, metric: str) -> list[TableRow]:
    """Return the rows of the test that decides between a run's configs by one metric: a part of `comparison_rows`."""
    entries = run_entries(run)
    common = common_keys(entries)
    if len(entries) < 2 or not common:
        return []
    values = common_values(entries, common, metric)
    return [_row(row, len(entries)) for row in seed_rows(values)] if values.classes else []


def paired_summaries(rows: Sequence[TableRow], metric: str) -> dict[tuple[str, str], Summary]:
    """Return the differences of configs, the mean over classes of the first minus the second, in either order.

    The interval is the corrected one of the test that decides: it leaves out 0 exactly where the table says better. It
    is NaN where nothing is decided, as trials are missing or seeds too few. `n` is the number of seeds.

    Args:
        rows: of `comparison_rows`, or those of the metric alone.
        metric: one of `COMPARED_METRICS`.
    """
    found: dict[tuple[str, str], Summary] = {}
    for cells in deciding_rows(rows, metric):
        if cells["first"] is not None:
            mean, *ends = (_number(cells[name]) for name in ("estimate", "corrected_low", "corrected_high"))
            low, high = (np.nan, np.nan) if cells["reason"] else ends
            first, second, n = cells["first"], cells["second"], int(cells["n"])
            found[first, second] = Summary(mean, np.nan, n, low, high)
            found[second, first] = Summary(-mean, np.nan, n, -high, -low)
    return found


def _number(cell: float | None) -> float:
    return np.nan if cell is None else float(cell)


def common_keys(entries: Sequence[ComparedEntry]) -> list[tuple[str, int]]:
    """Return the pairs of class and seed that all entries planned."""
    return [key for key in entries[0].by_key if all(key in entry.by_key for entry in entries)] if entries else []


def unshared_note(entries: Sequence[ComparedEntry]) -> str:
    """Return a sentence on what tests leave out, since not all entries planned it; empty where nothing is left out."""
    every = {key for entry in entries for key in entry.by_key}
    common = common_keys(entries)
    if not common or len(common) == len(every):
        return ""
    seeds = ", ".join(map(str, sorted({seed for _, seed in common})))
    classes = ", ".join(dict.fromkeys(name for name, _ in common))
    return (
        f"Tests, also those within one run, use only what all {len(entries)} planned: {len(common)} of {len(every)} "
        f"pairs of class and seed (classes {classes}; seeds {seeds}). Tables of means use each one's own."
    )


def _row(cells: TableRow, tried: int) -> TableRow:
    plain = {name: cell.item() if isinstance(cell, np.generic | np.ndarray) else cell for name, cell in cells.items()}
    return nulled(dict.fromkeys(COMPARISONS.names) | {"tried": tried} | plain)


def with_names(rows: Sequence[TableRow], names: Mapping[str, str]) -> list[TableRow]:
    """Return rows in which configs have other names, those for readers."""
    keys = ("first", "second", "better")
    return [row | {key: names.get(row[key], row[key]) for key in keys} for row in rows]


def deciding_rows(rows: Sequence[TableRow], metric: str, normal_class: str | None = None) -> list[TableRow]:
    """Return the rows of the test that decides, on one class or on the mean over all of them (None)."""
    wanted = (metric, DECIDING, normal_class)
    return [row for row in rows if (row["metric"], row["test"], row["normal_class"]) == wanted]


def lost_trials(rows: Sequence[TableRow], metric: str) -> dict[str, int]:
    """Return by config the number of planned trials that lack the metric; such a config is never ranked."""
    return {row["first"]: row["dropped"] for row in rows if (row["metric"], row["test"]) == (metric, "iqm")}


def clear_best(rows: Sequence[TableRow], metric: str, normal_class: str | None = None) -> str | None:
    """Return the config that is better than every other complete one, for bold print; None where no config is.

    Args:
        rows: of `comparison_rows`.
        metric: one of `COMPARED_METRICS`.
        normal_class: None for the mean over classes. With a single class both are the same.
    """
    names = {name for name, lost in lost_trials(rows, metric).items() if not lost}
    found = [row for row in deciding_rows(rows, metric, normal_class) if {row["first"], row["second"]} <= names]
    for name in {row["better"] for row in found} - {None}:
        own = [row for row in found if name in (row["first"], row["second"])]
        if len(own) == len(names) - 1 and all(row["better"] == name for row in own):
            return str(name)
    return None
