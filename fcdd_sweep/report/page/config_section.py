"""The comparison of configs: a table of their values and metrics, the two-way table of a grid, all keys together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from fcdd_sweep.config.names import slug
from fcdd_sweep.metrics.statistics import Summary, summarize
from fcdd_sweep.report.config_ranks import RankedConfig, is_decided
from fcdd_sweep.report.figures.roc import RocFigure, run_roc
from fcdd_sweep.report.figures.run_figures import MOST_LINES, RunFigures
from fcdd_sweep.report.headline import METRIC
from fcdd_sweep.report.matrices import Matrix, config_matrix, has_comparison, two_way, varied_keys
from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.cells import count_cell, heat_cell, metric_cell, metric_heads, span_of
from fcdd_sweep.report.page.html import Markup, TableCell, element, section
from fcdd_sweep.report.page.parallel_plot import parallel_plot
from fcdd_sweep.report.page.svg import Line, PlotScale, line_plot
from fcdd_sweep.report.run_files import Run
from fcdd_sweep.report.summaries import SUMMARY_METRICS, over_classes
from fcdd_sweep.report.text import class_text, config_words, key_text, key_titles, metric_text
from fcdd_sweep.results.search_schemas import NUMBER

_MOST_CONFIGS = 1000
"""Configs in the table; `summary.csv` has all."""
_SELECTION = "validation_image_auroc"
_NAMES = ("variant", NUMBER)
"""Keys that name a config, and have no two-way table."""
_MOST_KEYS_IN_PAIRS = 3
"""Keys up to which each pair gets a table; of more, the two with the most values."""
MOST_PARALLEL = 500
_MOST_HEAT = 60
"""Configs in the table by class, the best ones."""


def config_anchor(config: str) -> str:
    """Return the name by which links find a config's section."""
    return f"config-{slug(config)}" if config else "classes"


def config_table(run: Run, ranked: Sequence[RankedConfig], figures: RunFigures) -> Markup:
    """Return the configs with their values, the best first, and bold where it is better than each of the others."""
    shown = ranked[:_MOST_CONFIGS]
    keys = varied_keys(run) or list(run.parameters(shown[0].config))
    titles = key_titles(keys)
    heads = metric_heads([each.row for each in shown])
    first, *others = heads
    decided = is_decided(ranked)
    selection = [_on_selection_data(run, each.config) for each in shown]
    span = span_of([summary.mean for summary in selection])
    has_selection = any(not math.isnan(summary.mean) for summary in selection)
    head = (
        "rank",
        heads[first][0],
        *(titles[key] for key in keys),
        Markup(f"{element('span', 'behind the best')}{element('small', 'paired over seeds')}"),
        *(["validation image AUROC"] if has_selection else []),
        *(heads[metric][0] for metric in others),
        "done",
    )
    body = []
    for rank, (each, selected) in enumerate(zip(shown, selection, strict=True), 1):
        is_best = rank == 1 and decided
        row = each.row.metrics
        body.append(
            (
                _rank_cell(rank, each.config, figures),
                metric_cell(row[first], heads[first][1], bold=is_best),
                *(_parameter_cell(run.parameters(each.config), key) for key in keys),
                _behind_cell(each),
                *([metric_cell(selected, span)] if has_selection else []),
                *(metric_cell(row[metric], heads[metric][1]) for metric in others),
                count_cell(each.row.counts),
            )
        )
    return html.table(head, body, cls="metrics")


def _on_selection_data(run: Run, config: str) -> Summary:
    """Return the mean over classes of what may choose a config; undefined in a search, which has chosen already."""
    by_class = [run.of(config, name) for name in run.classes(config)]
    return summarize([]) if NUMBER in run.parameters(config) else over_classes(by_class, _SELECTION)[0]


def _rank_cell(rank: int, config: str, figures: RunFigures) -> TableCell:
    name = config or "(no name)"
    if config not in figures.configs:
        return TableCell(str(rank), value=rank, title=name)
    return TableCell(element("a", str(rank), href=f"#{config_anchor(config)}"), value=rank, title=name)


def _parameter_cell(parameters: Mapping[str, object], key: str) -> TableCell:
    value = parameters.get(key)
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return TableCell(key_text(parameters, key), value=number)


def _behind_cell(each: RankedConfig) -> TableCell:
    """Return how far a config is behind the best, with the interval of the paired difference."""
    if each.behind is None:
        return TableCell("" if math.isnan(each.row.metrics[METRIC].mean) else "best")
    summary = each.behind
    if math.isnan(summary.mean):
        return TableCell("n/a", title="no seed has all classes with both configs")
    if each.is_open:
        why = element("small", "undecided", title="trials are missing or seeds too few: see Which config is better")
        return TableCell(Markup(f"{element('span', f'{summary.mean:.3f}')}{why}"), value=summary.mean)
    interval = element("small", f"[{summary.low:.3f}, {summary.high:.3f}]")
    digits = element("b" if each.is_told_apart else "span", f"{summary.mean:.3f}")
    return TableCell(Markup(f"{digits}{interval}"), value=summary.mean)


def comparison_note(run: Run, ranked: Sequence[RankedConfig]) -> Markup:
    """Return how to read the table of configs."""
    more = len(ranked) - _MOST_CONFIGS
    rest = f" The table has the best {_MOST_CONFIGS}; summary.csv has all {len(ranked)}." if more > 0 else ""
    text = (
        "Means over classes, sorted by image AUROC. Bold: the best config where it is better than each of the others, "
        "and the differences that decide so. Intervals are of paired differences over seeds, corrected for the number "
        f"of configs.{rest}"
    )
    if not any(NUMBER in run.parameters(each.config) for each in ranked):
        step = (
            "choose by the validation image AUROC"
            if any(not math.isnan(_on_selection_data(run, each.config).mean) for each in ranked)
            else "hold images out to choose by (evaluation.validation), or run a search"
        )
        text += f" The largest of several on test images is too high by chance: {step}."
    return element("p", text, cls="note")


def by_class_section(run: Run, ranked: Sequence[RankedConfig]) -> Markup | str:
    """Return the table config by class; empty with one class."""
    configs = [each.config for each in ranked[:_MOST_HEAT]]
    matrix = config_matrix(run, configs, METRIC)
    if len(matrix.columns) < 2:
        return ""
    names = [config_words(config, run.parameters(config)) for config in configs]
    table = heat_table("config", matrix, names, [class_text(name) for name in matrix.columns], best_of_column=True)
    note = "Image AUROC, mean over seeds; the largest value of each class is underlined."
    return section("Configs by class", element("p", note, cls="note"), table, anchor="by-class")


def heat_table(
    corner: str, matrix: Matrix, rows: Sequence[str], columns: Sequence[str], *, best_of_column: bool = False
) -> Markup:
    """Return a matrix as a table of tinted cells.

    Args:
        corner: what the rows are.
        matrix: values and counts.
        rows, columns: names as they are shown.
        best_of_column: whether the largest value of each column is underlined.
    """
    values = np.array(matrix.values, float)
    span = span_of(values.ravel().tolist())
    best = [np.nanmax(column) if not np.isnan(column).all() else np.nan for column in values.T]
    body = []
    for name, line, counts in zip(rows, matrix.values, matrix.counts, strict=True):
        cells = [
            TableCell("", cls="heat own")
            if name == column
            else heat_cell(value, span, title=f"{name}, {column}: {metric_text(value)}, n={count}")
            for column, value, count in zip(columns, line, counts, strict=True)
        ]
        if best_of_column:
            marked = [value == top for value, top in zip(line, best, strict=True)]
            cells = [
                cell._replace(cls=f"{cell.cls} top") if is_top else cell
                for cell, is_top in zip(cells, marked, strict=True)
            ]
        body.append((name, *cells))
    return html.table((corner, *columns), body, cls="matrix")


def two_way_section(run: Run) -> Markup | str:
    """Return a table for each pair of varied keys; empty where no two configs share a value of any pair."""
    keys = [key for key in varied_keys(run) if key not in _NAMES]
    if len(keys) < 2:
        return ""
    if len(keys) > _MOST_KEYS_IN_PAIRS:
        numbers = {key: len({key_text(run.parameters(config), key) for config in run.configs}) for key in keys}
        keys = sorted(keys, key=lambda key: -numbers[key])[:2]
    titles = key_titles(keys)
    parts: list[Markup] = []
    for down, across in combinations(keys, 2):
        matrix = two_way(run, down, across, METRIC)
        if not has_comparison(matrix):
            continue
        columns = [f"{titles[across]} {name}" for name in matrix.columns]
        table = heat_table(titles[down], matrix, matrix.rows, columns)
        parts.append(section(f"{titles[down]} by {titles[across]}", table, level=3))
    if not parts:
        return ""
    note = "Image AUROC, mean over classes and over the configs that share both values."
    pairs = element("div", *parts, cls="pair")
    return section("Pairs of settings", element("p", note, cls="note"), pairs, anchor="pairs")


def parallel_section(run: Run, ranked: Sequence[RankedConfig]) -> Markup | str:
    """Return all varied keys in parallel coordinates; empty with fewer than two keys or three configs."""
    keys = [key for key in varied_keys(run) if key != NUMBER]
    if len(keys) < 2 or len(run.configs) < 3:
        return ""
    shown = ranked[:MOST_PARALLEL]
    columns: dict[str, list[object]] = {key: [run.parameters(each.config).get(key) for each in shown] for key in keys}
    titles = key_titles(keys)
    values = [each.row.metrics[METRIC].mean for each in shown]
    named: Mapping[str, list[object]] = {titles[key]: found for key, found in columns.items()}
    drawing = parallel_plot(named, values, SUMMARY_METRICS[METRIC])
    note = "One line per config: the stronger its color, the larger its image AUROC; the best is thick."
    return section("All settings together", element("p", note, cls="note"), drawing, anchor="together")


def roc_plots(figures: Sequence[RocFigure]) -> list[Markup]:
    """Return ROC plots as drawings of the page; those without lines are left out."""
    return [_roc_plot(figure) for figure in figures if figure.lines]


def _roc_plot(figure: RocFigure) -> Markup:
    lines = [
        Line(
            line.label,
            line.x,
            line.y,
            line.is_mean,
            None if line.low is None or line.high is None or not line.is_mean else (line.low, line.high),
        )
        for line in figure.lines
    ]
    alt = f"{figure.title}. {'; '.join(line.name for line in lines)}."
    drawing = line_plot(
        alt, lines, PlotScale("false-positive rate", 0, 1), PlotScale("true-positive rate", 0, 1), diagonal=True
    )
    absent = [element("p", f"Not shown, {reason}.", cls="note") for reason in figure.absent]
    return element("div", element("h4", figure.title), drawing, *absent)


def run_roc_section(run: Run, figures: RunFigures) -> Markup | str:
    """Return the ROC plots by config."""
    plots = roc_plots([run_roc(run, kind, list(figures.configs[:MOST_LINES])) for kind in ("image", "pixel")])
    return section("ROC by config", element("div", *plots, cls="pair"), anchor="roc") if plots else ""
