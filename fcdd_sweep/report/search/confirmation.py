"""Confirmation: the best configs of a search compared with the default on fresh seeds and the test set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.statistics import Summary
from fcdd_sweep.report.config_ranks import RankedConfig
from fcdd_sweep.report.figures.style import FAINT_INK, GRID, INK, TEXT_PT, dress, new_figure
from fcdd_sweep.report.headline import chosen_sentence, detail_sentences, result_sentences
from fcdd_sweep.report.run_files import Run
from fcdd_sweep.report.search import marks
from fcdd_sweep.report.search.marks import BEST_COLOR, DEFAULT_COLOR, DONE_COLOR, mark_handle, metric_name
from fcdd_sweep.report.search.numbers import Comparison, comparisons, confirmed_metric, difference_rows
from fcdd_sweep.report.search.record import ORACLE_MARK, SearchRecord
from fcdd_sweep.report.text import LEAST_FOR_INTERVAL
from fcdd_sweep.results.files import TableRow

_MOST_CLASSES = 40
"""Most classes in the figure; of more classes, those with the largest differences are shown."""
ORACLE_TEXT = (
    "Oracle: configs were selected on the test set. The metrics of the chosen config are biased upwards and do not "
    "estimate its performance on new images."
)


def search_notes(search: SearchRecord) -> list[str]:
    """Return what a reader of test metrics must know of the search behind them."""
    scope = "Test metrics are those of the confirmation on fresh seeds; trials that evaluated configs are excluded."
    return [*([ORACLE_TEXT] if search.summary.oracle else []), *conclusions(search), scope]


def conclusions(search: SearchRecord) -> list[str]:
    """Return one sentence per confirmed config: whether and by how much it beats the default, of how many tried."""
    rows = difference_rows(search)
    metric = metric_name(confirmed_metric(search))
    if not rows:
        return ["No config is confirmed yet, so there is no result on the test set."]
    if [comparison.number for comparison in comparisons(rows)] == [0]:
        return [f"The best of {_tried(search)} is the default config itself: no other config is confirmed."]
    return [_conclusion(search, metric, comparison) for comparison in comparisons(rows) if comparison.number != 0]


_MOST_LEADING = 2
"""Sentences that a report begins with."""


def lead_sentences(run: Run, ranked: Sequence[RankedConfig], search: SearchRecord | None) -> list[str]:
    """Return the result of a run, or of its search, in one or two sentences: what is decided, then what is not.

    Args:
        run: with the trials whose test metrics may be shown.
        ranked: its configs, from `ranked_configs`.
        search: of the run, if it has one.
    Returns:
        Empty before the first trial finished.
    """
    return result_sentences(run, ranked) if search is None else conclusions(search)[:_MOST_LEADING]


def further_sentences(run: Run, ranked: Sequence[RankedConfig], search: SearchRecord | None) -> list[str]:
    """Return sentences with details of the result; see `lead_sentences` for the arguments."""
    found = detail_sentences(run, ranked)
    if search is None:
        return found
    chosen = chosen_sentence(run, ranked) if any(trial.is_done for trial in run.trials) else ""
    return [*conclusions(search)[_MOST_LEADING:], *([chosen] if chosen else result_sentences(run, ranked)[:1]), *found]


def _conclusion(search: SearchRecord, metric: str, comparison: Comparison) -> str:
    overall = comparison.overall
    name = f"Config {comparison.number}"
    lost = comparison.planned - overall.n
    undecided = f"Undecided whether {name.lower()} beats the default"
    if lost:
        return f"{undecided}: {lost} of {comparison.planned} pairs of class and seed lack {metric} for either."
    if not comparison.has_interval:
        fresh = count_noun(comparison.seeds, "fresh seed")
        return f"{undecided}: {fresh} for each class, and an interval needs {LEAST_FOR_INTERVAL}."
    numbers = (
        f"{metric} {overall.mean:+.3f}, 95% interval [{overall.low:+.3f}, {overall.high:+.3f}], over {overall.n} pairs "
        f"of class and fresh seed; {_tried(search)} tried."
    )
    oracle = f" The config is an {ORACLE_MARK}, so that this favors it." if search.summary.oracle else ""
    return f"{name} {comparison_outcome(overall)} the default on the test set: {numbers}{oracle}"


def comparison_outcome(overall: Summary) -> str:
    """Return `beats` where the whole interval is above 0, `is worse than` where it is below, else `does not beat`."""
    if overall.low > 0:
        return "beats"
    return "is worse than" if overall.high < 0 else "does not beat"


def _tried(search: SearchRecord) -> str:
    return count_noun(search.tried or len(search.configs), "config")


def draw_confirmation(search: SearchRecord) -> Figure | None:
    """Draw default and best by class, and their difference; for a Pareto set the difference of each config.

    Returns:
        None where no pair of class and seed has both.
    """
    rows = difference_rows(search)
    found = [comparison for comparison in comparisons(rows) if comparison.overall.n and comparison.number != 0]
    if not found:
        return None
    return _draw_set(search, found) if len(found) > 1 else _draw_best(search, found[0], rows)


def _draw_best(search: SearchRecord, comparison: Comparison, rows: Sequence[TableRow]) -> Figure:
    classes = _shown_classes(comparison)
    figure = new_figure(8.2, 1.9 + 0.34 * (len(classes) + 1))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    name = metric_name(confirmed_metric(search))
    oracle = f" ({ORACLE_MARK})" if search.summary.oracle else ""
    number = comparison.number
    title = f"Config {number} and the default on fresh seeds{oracle}"
    dress(left, title=title, x=f"{name}, test set: mean and seeds", y="")
    dress(right, title="", x=f"difference of {name}, 95% interval", y="")
    heights = {name: len(classes) - row for row, name in enumerate(classes)}
    for each, height in heights.items():
        own = [row for row in rows if row["normal_class"] == each and row["number"] == number]
        _draw_dumbbell(left, own, height)
        _draw_difference(right, comparison.by_class[each], height)
    _draw_difference(right, comparison.drawn, 0, bold=True)
    left.set_yticks([*heights.values(), 0], [*(marks.shorten(each, 24) for each in classes), "all classes"])
    left.get_yticklabels()[-1].set_fontweight("bold")
    _finish(left, right, len(classes))
    handles = [
        mark_handle("default config", marker="D", color="white", markeredgecolor=DEFAULT_COLOR),
        mark_handle(f"config {number}", marker="o", color=BEST_COLOR),
        mark_handle("single seeds of either", marker="|", color=INK, alpha=0.6, markersize=8),
        Line2D([], [], color=DONE_COLOR, marker="o", label="mean difference"),
    ]
    marks.legend_below(figure, handles)
    return figure


def _shown_classes(comparison: Comparison) -> list[str]:
    """Return all classes in order, or of too many those with the largest differences."""
    names = list(comparison.by_class)
    if len(names) <= _MOST_CLASSES:
        return names
    size = {name: abs(np.nan_to_num(summary.mean)) for name, summary in comparison.by_class.items()}
    kept = sorted(names, key=lambda name: -size[name])[:_MOST_CLASSES]
    return [name for name in names if name in kept]


def _draw_dumbbell(ax: Any, rows: Sequence[TableRow], height: float) -> None:
    ends = []
    for column, color, style in (("default", INK, _DEFAULT), ("value", BEST_COLOR, _BEST)):
        known = [row[column] for row in rows if row[column] is not None]
        ax.plot(
            known, [height] * len(known), linestyle="none", marker="|", color=color, markersize=8, alpha=0.6, zorder=1
        )
        if known:
            ends.append(float(np.mean(known)))
            ax.plot(ends[-1], height, linestyle="none", zorder=4, **style)
    if len(ends) == 2:
        ax.plot(ends, [height, height], color=INK, linewidth=1.4, zorder=2)
    if not ends:
        ax.annotate(
            "n/a", (0.02, height), xycoords=("axes fraction", "data"), va="center", color=FAINT_INK, fontsize=TEXT_PT
        )


_DEFAULT: dict[str, Any] = {"marker": "D", "color": "white", "markeredgecolor": DEFAULT_COLOR, "markersize": 6.5}
_BEST: dict[str, Any] = {"marker": "o", "color": BEST_COLOR, "markersize": 7}


def _draw_difference(ax: Any, summary: Summary, height: float, *, bold: bool = False) -> None:
    color = INK if bold else DONE_COLOR
    if summary.n >= LEAST_FOR_INTERVAL and not np.isnan(summary.low):
        ax.plot([summary.low, summary.high], [height, height], color=color, linewidth=2.4 if bold else 1.5, zorder=2)
    if summary.n:
        ax.plot(summary.mean, height, marker="D" if bold else "o", color=color, markersize=6, zorder=3)
    else:
        ax.annotate(
            "n/a", (0.02, height), xycoords=("axes fraction", "data"), va="center", color=FAINT_INK, fontsize=TEXT_PT
        )


def _finish(left: Any, right: Any, count: int) -> None:
    right.axvline(0, color=INK, linewidth=0.9, zorder=1)
    for ax in (left, right):
        ax.axhline(0.5, color=GRID, linewidth=1.0)
        ax.set_ylim(-0.6, count + 0.6)
        marks.no_grid(ax, "y")


def _draw_set(search: SearchRecord, found: Sequence[Comparison]) -> Figure:
    """Draw one row per config of the Pareto set."""
    figure = new_figure(6.4, 1.7 + 0.34 * len(found))
    ax = figure.add_subplot()
    name = metric_name(confirmed_metric(search))
    oracle = f"\n({ORACLE_MARK})" if search.summary.oracle else ""
    title = f"The Pareto set against the default on fresh seeds{oracle}"
    dress(ax, title=title, x=f"difference of {name} on the test set, 95% interval", y="")
    for height, comparison in enumerate(reversed(found)):
        _draw_difference(ax, comparison.drawn, height)
    ax.set_yticks(range(len(found)), [f"config {each.number} (n={each.overall.n})" for each in reversed(found)])
    ax.set_ylim(-0.6, len(found) - 0.4)
    ax.axvline(0, color=INK, linewidth=0.9, zorder=1)
    marks.no_grid(ax, "y")
    return figure
