"""The section of a report on which config is better: sentences, and the tables behind them."""

from __future__ import annotations

from collections.abc import Sequence

from fcdd_sweep.report.comparison_text import (
    LEVELS_TEXT,
    NOTHING_TO_COMPARE,
    compared_metrics,
    comparison_sentences,
    named,
    p_text,
)
from fcdd_sweep.report.comparisons import clear_best, deciding_rows
from fcdd_sweep.report.figures.rank_diagram import draw_ranks, rank_groups, ranked_rows
from fcdd_sweep.report.figures.style import as_svg_uri
from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.html import Markup, element
from fcdd_sweep.report.summaries import SUMMARY_METRICS
from fcdd_sweep.report.text import NOT_DEFINED
from fcdd_sweep.results.files import TableRow

_TITLE = "Which config is better"
_MOST_PAIRS = 50
"""Most pairs in a table of the page; `comparisons.parquet` has all."""
_HEAD = ("first", "second", "difference", "corrected interval", "corrected p", "better", "more seeds, or why undecided")


def comparison_section(rows: Sequence[TableRow]) -> Markup:
    """Return the section on rows of `comparisons.comparison_rows`; without any it says that there is one config."""
    if not rows:
        return html.section(_TITLE, element("p", NOTHING_TO_COMPARE), anchor="better")
    tables = [_pair_table(rows, metric) for metric in compared_metrics(rows) if deciding_rows(rows, metric)[0]["first"]]
    note = element("p", LEVELS_TEXT, cls="note")
    return html.section(_TITLE, html.bullets(comparison_sentences(rows)), _ranks(rows), *tables, note, anchor="better")


def _ranks(rows: Sequence[TableRow]) -> Markup | str:
    metric = rows[0]["metric"]
    figure = draw_ranks(rows, metric, SUMMARY_METRICS[metric])
    if figure is None:
        return ""
    ranks = ", ".join(f"{named(row['first'])} {row['estimate']:.2f}" for row in ranked_rows(rows, metric))
    joins = "A bar on the right joins configs of which none is better than another over classes."
    caption = joins if rank_groups(rows, metric) else "Over classes, each config differs from each other."
    return html.picture(as_svg_uri(figure), f"average ranks by {SUMMARY_METRICS[metric]}: {ranks}", caption)


def _pair_table(rows: Sequence[TableRow], metric: str) -> Markup:
    pairs = deciding_rows(rows, metric)
    body = [_pair_cells(row) for row in pairs[:_MOST_PAIRS]]
    more = len(pairs) - _MOST_PAIRS
    rest = element("p", f"And {more} more pairs, see comparisons.parquet.", cls="note") if more > 0 else ""
    title = f"{SUMMARY_METRICS[metric]}: pairs of configs"
    return html.details(title, html.table(_HEAD, body, names=2), rest, _single_table(rows, metric))


def _pair_cells(row: TableRow) -> tuple[object, ...]:
    names = [
        element("b", named(name)) if name == row["better"] else named(name) for name in (row["first"], row["second"])
    ]
    difference = NOT_DEFINED if row["estimate"] is None else f"{row['estimate']:+.3f}"
    interval = NOT_DEFINED
    if row["corrected_low"] is not None:
        interval = f"[{row['corrected_low']:+.3f}, {row['corrected_high']:+.3f}]"
    better = named(row["better"]) if row["better"] else ""
    rest = "" if better else row["reason"] or row["more_seeds"] or "over 1,000"
    return (*names, difference, interval, p_text(row["p_corrected"]), better, rest)


def _single_table(rows: Sequence[TableRow], metric: str) -> Markup:
    """Return interquartile mean and average rank of each config, best in bold where it is better than all others."""
    found = {
        (row["test"], row["first"]): row
        for row in rows
        if row["metric"] == metric and row["test"] in ("iqm", "average_rank")
    }
    best = clear_best(rows, metric)
    names = list(dict.fromkeys(name for _, name in found))
    body = [
        (
            element("b", named(name)) if name == best else named(name),
            *(estimate_text(found[test, name]) for test in ("iqm", "average_rank")),
        )
        for name in names
    ]
    head = ("config", "interquartile mean", "average rank over classes")
    note = "Intervals: 95%, by a bootstrap of seeds within classes."
    return html.joined([html.table(head, body), element("p", note, cls="note")])


def estimate_text(row: TableRow) -> str:
    """Return `0.912 [0.905, 0.920]`, or n/a and the reason."""
    if row["estimate"] is None:
        return f"{NOT_DEFINED}: {row['reason']}"
    return f"{row['estimate']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
