"""Cells of the page's tables: a mean with its interval on a scale that the whole column shares, and colored cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.statistics import Summary
from fcdd_sweep.report.page.html import Markup, TableCell, element
from fcdd_sweep.report.run_files import PLANNED
from fcdd_sweep.report.summaries import SUMMARY_METRICS, SummaryRow
from fcdd_sweep.report.tables import summary_metrics
from fcdd_sweep.report.text import LEAST_FOR_INTERVAL, NOT_DEFINED, metric_text
from fcdd_sweep.results.documents import TrialStatus

_MOST_TINT = 62
"""Percent of color in the cell with the largest value: text on it stays readable."""


class Span(NamedTuple):
    """The ends of a column's scale."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        """Return the place of a value along the scale, from 0 to 100."""
        return 100 * min(max((value - self.low) / ((self.high - self.low) or 1.0), 0.0), 1.0)


def span_of(values: Sequence[float]) -> Span:
    """Return a scale of two digits around the defined values: 0.95 and 0.99 must be far apart on it."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Span(0.0, 1.0)
    low, high = math.floor(50 * min(known)) / 50, math.ceil(50 * max(known)) / 50
    if high == low:
        low, high = (max(low - 0.02, 0.0), min(high + 0.02, 1.0)) if 0 <= low <= 1 else (low - 0.02, high + 0.02)
    return Span(low, high)


def _ends(summary: Summary) -> list[float]:
    shown = [summary.mean]
    if summary.n >= LEAST_FOR_INTERVAL and 0 < summary.mean < 1:
        shown += [max(summary.low, 0.0), min(summary.high, 1.0)]
    return shown


def metric_cell(summary: Summary, span: Span, *, bold: bool = False, below: str = "") -> TableCell:
    """Return mean and spread, and below them interval, place on the column's scale and number of seeds.

    Args:
        summary: of the metric.
        span: scale of the column.
        bold: whether the mean stands out.
        below: a further text, such as the base rate.
    """
    if math.isnan(summary.mean):
        return TableCell(NOT_DEFINED)
    spread = "" if math.isnan(summary.std) else element("small", f" ± {summary.std:.3f}", cls="spread")
    digits = element("b" if bold else "span", metric_text(summary.mean), spread)
    has_interval = summary.n >= LEAST_FOR_INTERVAL
    interval = f"[{summary.low:.3f}, {summary.high:.3f}]" if has_interval else ""
    lines = [element("small", text) for text in (interval, below) if text]
    parts = [digits, _track(summary, span), *lines]
    title = f"mean over {count_noun(summary.n, 'seed')}" if summary.n else "no seed has all classes"
    return TableCell(Markup("".join(parts)), value=summary.mean, title=title)


def _track(summary: Summary, span: Span) -> Markup:
    """Return a thin scale below the digits with the interval and the mean."""
    style = f"--at:{span.percent(summary.mean):.1f}%"
    if summary.n >= LEAST_FOR_INTERVAL:
        low, high = span.percent(summary.low), span.percent(summary.high)
        style += f";--from:{low:.1f}%;--width:{high - low:.1f}%"
    return element("span", cls="track", style=style)


def metric_heads(
    rows: Sequence[SummaryRow], titles: Mapping[str, str] = SUMMARY_METRICS
) -> dict[str, tuple[Markup, Span]]:
    """Return by metric that a table shows the title of its column, with the ends of its scale, and the scale."""
    found = {}
    for metric in summary_metrics(rows, titles):
        span = span_of([end for row in rows for end in _ends(row.metrics[metric])])
        ends = element("small", f"{span.low:.2f} to {span.high:.2f}")
        found[metric] = (Markup(f"{element('span', titles[metric])}{ends}"), span)
    return found


def base_rate_text(rate: float) -> str:
    """Return what a metric of ranking is by chance; empty where it is unknown."""
    if math.isnan(rate):
        return ""
    digits = f"{rate:.3f}" if rate >= 0.01 else f"{rate:.1g}"
    return f"chance {digits}"


def count_cell(counts: Mapping[str, int]) -> TableCell:
    """Return `3 of 3`, with what failed or is missing below it."""
    done, planned = counts[TrialStatus.DONE], counts[PLANNED]
    absent = [f"{counts[status]} {status}" for status in (TrialStatus.FAILED, TrialStatus.MISSING) if counts[status]]
    below = element("small", ", ".join(absent), cls="bad") if absent else ""
    return TableCell(Markup(f"{element('span', f'{done} of {planned}')}{below}"), value=done)


def heat_cell(value: float, span: Span, *, title: str = "", text: str | None = None, bold: bool = False) -> TableCell:
    """Return a number on a tint that grows with it."""
    if math.isnan(value):
        return TableCell(NOT_DEFINED, title=title or None, cls="heat")
    style = f"--tint:{span.percent(value) * _MOST_TINT / 100:.0f}%"
    content = metric_text(value) if text is None else text
    return TableCell(
        element("b", content) if bold else content, value=value, cls="heat", style=style, title=title or None
    )
