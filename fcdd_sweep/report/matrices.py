"""Metrics arranged in two ways: normal class by other class, config by class, and two searched keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fcdd_sweep.report.run_files import Run
from fcdd_sweep.report.summaries import defect_rows, mean_row
from fcdd_sweep.report.text import key_text

LEAST_CLASSES = 3


def is_one_vs_rest(run: Run, config: str) -> bool:
    """Return whether the anomalies of each class are the other classes: then the table of defects is a matrix."""
    classes = run.classes(config)
    rows = defect_rows(run, config)
    found = {row.defect for row in rows}
    others = {name: {row.defect for row in rows if row.normal_class == name} for name in classes}
    known = [name for name in classes if others[name]]
    return len(known) >= LEAST_CLASSES and set(known) <= found and all(name not in others[name] for name in known)


@dataclass(frozen=True)
class Matrix:
    """A table of means.

    Attributes:
        rows, columns: their names.
        values: by row, one value per column; NaN where there is none.
        counts: by row, what each value is a mean of.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    counts: tuple[tuple[int, ...], ...]


def class_matrix(run: Run, config: str) -> Matrix:
    """Return the mean image AUROC of each normal class against each other class, over seeds."""
    found = {(row.normal_class, row.defect): row.metrics["image_auroc"] for row in defect_rows(run, config)}
    rows = run.classes(config)
    columns = list(dict.fromkeys([*rows, *(defect for _, defect in found)]))
    columns = [name for name in columns if any((row, name) in found for row in rows)]
    cells = [[found.get((row, column)) for column in columns] for row in rows]
    return Matrix(
        tuple(rows),
        tuple(columns),
        tuple(tuple(math.nan if cell is None else cell.mean for cell in row) for row in cells),
        tuple(tuple(0 if cell is None else cell.n for cell in row) for row in cells),
    )


def config_matrix(run: Run, configs: Sequence[str], metric: str) -> Matrix:
    """Return the mean of a metric of each config on each class, over seeds."""
    columns = list(dict.fromkeys(name for config in configs for name in run.classes(config)))
    values, counts = [], []
    for config in configs:
        known = [[v for t in run.of(config, name) if not math.isnan(v := t.value(metric))] for name in columns]
        values.append(tuple(float(np.mean(each)) if each else math.nan for each in known))
        counts.append(tuple(map(len, known)))
    return Matrix(tuple(configs), tuple(columns), tuple(values), tuple(counts))


def varied_keys(run: Run) -> list[str]:
    """Return the keys that have at least two values among the configs, or that only some configs have, in the order of
    the plan. Whole sections, which only a variant has, are left out: its name stands for them."""
    parameters = [run.parameters(config) for config in run.configs]
    keys = dict.fromkeys(key for given in parameters for key, value in given.items() if not isinstance(value, dict))
    return [key for key in keys if len({key_text(given, key) for given in parameters}) > 1]


def two_way(run: Run, down: str, across: str, metric: str) -> Matrix:
    """Return the mean of a metric by two keys, over the configs that have both values.

    Args:
        run: with several configs.
        down, across: keys of rows and of columns.
        metric: of which the mean over classes is used.
    """
    groups: dict[tuple[str, str], list[float]] = {}
    order: tuple[dict[str, object], dict[str, object]] = ({}, {})
    for config in run.configs:
        given = run.parameters(config)
        place = key_text(given, down), key_text(given, across)
        for names, name, key in zip(order, place, (down, across), strict=True):
            names.setdefault(name, given.get(key))
        mean = mean_row(run, config).metrics[metric].mean
        if not math.isnan(mean):
            groups.setdefault(place, []).append(mean)
    rows, columns = (_in_order(names) for names in order)
    cells = [[groups.get((row, column), []) for column in columns] for row in rows]
    return Matrix(
        tuple(rows),
        tuple(columns),
        tuple(tuple(float(np.mean(cell)) if cell else math.nan for cell in row) for row in cells),
        tuple(tuple(map(len, row)) for row in cells),
    )


def has_comparison(matrix: Matrix) -> bool:
    """Return whether some row or column has two values."""
    known = np.array(matrix.counts) > 0
    return any(bool((known.sum(axis=axis) > 1).any()) for axis in (0, 1))


def _in_order(names: dict[str, object]) -> list[str]:
    """Return texts of values: numbers by size, then words as they came."""

    def is_number(value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    numbers = sorted((name for name, value in names.items() if is_number(value)), key=lambda name: float(name))
    return [*numbers, *(name for name in names if name not in numbers)]
