"""The page's section on a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcdd_sweep.config.text import count_noun, duration_text
from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.html import Markup, element, section
from fcdd_sweep.report.search.confirmation import ORACLE_TEXT, conclusions
from fcdd_sweep.report.search.figures import SearchPicture, pruning_text
from fcdd_sweep.report.search.marks import counts_of_states, metric_name, metric_value_text
from fcdd_sweep.report.search.numbers import all_values, pareto_rows
from fcdd_sweep.report.search.record import ORACLE_MARK, SearchRecord
from fcdd_sweep.report.text import NOT_DEFINED, setting_text
from fcdd_sweep.results import tree
from fcdd_sweep.results.documents import SearchAmounts

_TOP = 10
_MOST_ROWS = 1000


def search_section(search: SearchRecord, pictures: Sequence[SearchPicture]) -> Markup:
    """Return the section: conclusions, settings and costs, figures, configs."""
    concluded = [element("p", element("b", sentence)) for sentence in conclusions(search)]
    oracle = element("p", element("b", ORACLE_TEXT)) if search.summary.oracle else ""
    sentences = search.summary.sentences
    return section(
        "Search",
        oracle,
        *concluded,
        html.bullets(sentences) if sentences else "",
        html.table(("search", "value"), _facts(search), names=2, cls="plain"),
        *(_shown(picture) for picture in pictures),
        _configs(search),
        anchor="search",
    )


def _facts(search: SearchRecord) -> list[tuple[object, object]]:
    summary = search.summary
    facts: list[tuple[str, Any]] = [
        ("metric", "; ".join(map(_metric_text, search.metrics, summary.direction))),
        ("algorithm, seed", _listed(summary.algorithm, summary.seed)),
        ("selected on", summary.selection_source),
        ("configs", counts_of_states(search)),
        ("spent of the budget", _spent(summary.spent, summary.budget)),
        ("classes of the search", _listed(*summary.classes)),
        ("seeds of the search", _listed(*summary.seeds)),
        ("seeds of the confirmation", _listed(*summary.confirm_seeds)),
        ("noise of a value", _noise(search)),
        ("pruning", pruning_text(search) or "off"),
        ("best config", _best_text(search)),
    ]
    return [(name, NOT_DEFINED if value in (None, "") else value) for name, value in facts]


def used_settings(search: SearchRecord) -> dict[str, str]:
    """Return what the trials of a search had for some settings, whatever its experiment file says, by name."""
    summary = search.summary
    seeds = f"{_listed(*summary.seeds)}; confirmation: {_listed(*summary.confirm_seeds)}" if summary.seeds else ""
    validation = ", ".join(f"{key} {setting_text(value)}" for key, value in summary.validation.items() if value != [])
    return {name: text for name, text in (("seeds", seeds), ("validation", validation)) if text}


def _metric_text(metric: str, direction: str) -> str:
    oracle = f" ({ORACLE_MARK})" if metric.startswith("oracle/") else ""
    return f"{metric}, {direction}{oracle}"


def _listed(*values: Any) -> str:
    return ", ".join(str(value) for value in values if value is not None)


def _noise(search: SearchRecord) -> str:
    noise = search.summary.noise
    if noise is None:
        return "not known"
    of_first = f" of {metric_name(search.metrics[0])}" if len(search.metrics) > 1 else ""
    return f"standard error {metric_value_text(noise)}{of_first} (median over configs)"


def _spent(spent: SearchAmounts, budget: SearchAmounts) -> str:
    parts = []
    if spent.configs is not None:
        parts.append(f"{count_noun(spent.configs, 'config')}{_limit(budget.configs)}")
    if spent.trials is not None:
        parts.append(f"{count_noun(spent.trials, 'trial')}{_limit(budget.trials)}")
    if spent.hours is not None:
        hours = None if budget.hours is None else duration_text(3600 * budget.hours)
        parts.append(f"{duration_text(3600 * spent.hours)} of searching{_limit(hours)}")
    return ", ".join(parts)


def _limit(budget: object) -> str:
    return "" if budget is None else f" (budget {budget})"


def _best_text(search: SearchRecord) -> str:
    if len(search.metrics) > 1:
        front = pareto_rows(all_values(search), search.sign)
        return f"Pareto set: {', '.join(str(search.numbers[row]) for row in front)}" if front else ""
    row = search.row_of(search.best)
    if row is None:
        return ""
    values = [f"{axis.key} {setting_text(search.parameter(axis.key)[row])}" for axis in search.axes]
    return f"{search.best}: {', '.join(values)}"


def _shown(picture: SearchPicture) -> Markup:
    caption = picture.caption
    # wide plots scroll on narrow screens, where their text would be too small
    shown = element("div", html.picture(picture.address, picture.title), cls="wide plot")
    return section(picture.title, shown, element("p", caption, cls="note") if caption else "", level=3)


def _configs(search: SearchRecord) -> Markup:
    """Return the best configs, and all of them in a folded table."""
    if not search.configs:
        return element("p", "No config was suggested yet.")
    ranked = _ranked(search)
    shown = section(
        "Best configs" if len(search.metrics) == 1 else "Configs, the Pareto set first",
        _table(search, ranked[:_TOP]),
        element("p", _VALUE_NOTE, cls="note"),
        level=3,
    )
    if len(ranked) <= _TOP:
        return shown
    rest = f"; the first {_MOST_ROWS}" if len(ranked) > _MOST_ROWS else ""
    every = list(range(len(ranked)))[:_MOST_ROWS]
    name = f"All {len(ranked)} configs in the order of suggestions{rest}, {tree.SEARCH_DIR}/{tree.SEARCH_CONFIGS}"
    return html.joined([shown, html.details(name, _table(search, every))])


_VALUE_NOTE = (
    "Values are means over the classes and seeds of the search ± standard error by the noise of the images. The best "
    "of many is too high by chance; the confirmation measures it on fresh seeds."
)


def _ranked(search: SearchRecord) -> list[int]:
    """Return the rows by value, those without one last; for several metrics the Pareto set comes first."""
    values = all_values(search)
    front = set(pareto_rows(values, search.sign))
    first = np.where(np.isnan(values[:, 0]), -np.inf, search.sign[0] * np.nan_to_num(values[:, 0]))
    several = len(search.metrics) > 1
    return sorted(range(len(values)), key=lambda row: (several and row not in front, -first[row]))


def _table(search: SearchRecord, rows: Sequence[int]) -> Markup:
    names = [
        f"{metric_name(metric)}{f' ({ORACLE_MARK})' if metric.startswith('oracle/') else ''}"
        for metric in search.metrics
    ]
    head = ("config", "state", *names, *(axis.key for axis in search.axes), "trials", "failed", "epochs", "note")
    return html.table(head, [_cells(search, row) for row in rows], names=2)


def _cells(search: SearchRecord, row: int) -> tuple[object, ...]:
    config = search.configs[row]
    values = [_value_text(search.values(i)[row], search.errors(i)[row]) for i in range(len(search.metrics))]
    number = f"{config['number']} (default)" if config["number"] == 0 else config["number"]
    if config["number"] == search.best:
        number = element("b", f"{number} (best)")
    parameters = [setting_text(search.parameter(axis.key)[row]) for axis in search.axes]
    trials = f"{config['n_done']} of {config['n_trials']}"
    return (number, config["state"], *values, *parameters, trials, config["n_failed"], *_cost(config))


def _value_text(value: float, error: float) -> str:
    return f"{metric_value_text(value)}{'' if np.isnan(error) else f' ± {metric_value_text(error)}'}"


def _cost(config: dict[str, Any]) -> tuple[object, object]:
    pruned = f"pruned at epoch {config['pruned_at']}" if config["pruned_at"] is not None else ""
    epochs = config["epochs_trained"]
    return NOT_DEFINED if epochs is None else epochs, pruned or config["failure_policy"] or ""
