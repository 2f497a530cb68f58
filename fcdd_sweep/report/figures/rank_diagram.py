"""The rank diagram: average ranks of configs over classes, and which of them the test over classes cannot tell apart.

Source: Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7 (2006); groups by Wilcoxon's test
with Holm's correction instead of a critical difference.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from fcdd_sweep.report.common_values import MOST_PAIRED
from fcdd_sweep.report.figures.style import FAINT_INK, INK, LINE_COLORS, SMALL_PT, dress, new_figure
from fcdd_sweep.report.text import abbreviated
from fcdd_sweep.results.files import TableRow

_LEAST = 3
"""Of two configs the diagram would say what one number says."""


def ranked_rows(rows: Sequence[TableRow], metric: str) -> list[TableRow]:
    """Return the rows with average ranks of complete configs, the best first."""
    found = [row for row in rows if (row["metric"], row["test"]) == (metric, "average_rank")]
    return sorted((row for row in found if row["estimate"] is not None), key=lambda row: row["estimate"])


def rank_groups(rows: Sequence[TableRow], metric: str) -> list[tuple[int, int]]:
    """Return first and last place of each largest group of configs, in the order of ranks, of which none is better than
    another over classes. Groups of one are left out.
    """
    names = [row["first"] for row in ranked_rows(rows, metric)]
    tests = [row for row in rows if (row["metric"], row["test"]) == (metric, "wilcoxon")]
    apart = {frozenset((row["first"], row["second"])) for row in tests if row["better"]}
    groups: list[tuple[int, int]] = []
    for start in range(len(names)):
        end = start
        while end + 1 < len(names) and not any(
            frozenset((names[end + 1], name)) in apart for name in names[start : end + 1]
        ):
            end += 1
        if end > start and (not groups or end > groups[-1][1]):
            groups.append((start, end))
    return groups


def draw_ranks(rows: Sequence[TableRow], metric: str, title: str) -> Figure | None:
    """Draw average ranks with their intervals, and a bar beside each group that cannot be told apart.

    Args:
        rows: of `comparisons.comparison_rows`.
        metric: whose ranks are drawn.
        title: of the metric.
    Returns:
        None for fewer than three complete configs, one class, or more configs than are compared pair by pair.
    """
    ranked = ranked_rows(rows, metric)
    if not _LEAST <= len(ranked) <= MOST_PAIRED or ranked[0]["n_classes"] < 2:
        return None
    figure = new_figure(6.4, 1.3 + 0.3 * len(ranked))
    ax = figure.add_subplot()
    dress(ax, title=f"Average rank by {title}", x="average rank over classes, 95% interval over seeds; 1 is best", y="")
    heights = range(len(ranked), 0, -1)
    for height, row in zip(heights, ranked, strict=True):
        ax.plot([row["low"], row["high"]], [height, height], color=LINE_COLORS[0], linewidth=1.6)
        ax.plot(row["estimate"], height, marker="o", color=INK, markersize=5)
    for place, (start, end) in enumerate(rank_groups(rows, metric)):
        x = len(ranked) + 0.35 + 0.15 * place
        ax.plot([x, x], [len(ranked) - start + 0.2, len(ranked) - end - 0.2], color=FAINT_INK, linewidth=3.0)
    ax.set_yticks(list(heights), [abbreviated(row["first"] or "(no name)", 40) for row in ranked], fontsize=SMALL_PT)
    ax.set_xlim(0.8, len(ranked) + 0.5 + 0.15 * len(rank_groups(rows, metric)))
    ax.set_ylim(0.3, len(ranked) + 0.7)
    ax.set_xticks(range(1, len(ranked) + 1))
    return figure
