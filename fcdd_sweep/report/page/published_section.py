"""The section of a report that sets published figures beside those of the run, with conclusions."""

from __future__ import annotations

from collections.abc import Sequence

from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.html import Markup, element
from fcdd_sweep.report.published import SPREADS
from fcdd_sweep.report.summaries import SUMMARY_METRICS
from fcdd_sweep.report.text import NOT_DEFINED
from fcdd_sweep.results.files import TableRow

_NOTE = (
    "Conclusions: within rounding, at the precision that is printed; within the spread of seeds, "
    f"{SPREADS:g} standard deviations of this run's seeds, as the sources print none; off by the difference. "
    "An asterisk marks figures that were not seen in print."
)


def published_section(rows: Sequence[TableRow]) -> Markup | str:
    """Return the section on rows of `published.published_rows`; empty where nothing is published."""
    if not rows:
        return ""
    groups = list(dict.fromkeys((row["config"], row["metric"]) for row in rows))
    tables = [_table([row for row in rows if (row["config"], row["metric"]) == group]) for group in groups]
    remarks = (element("p", _NOTE, cls="note"), html.bullets(_remarks(rows)))
    return html.section("Published figures", *tables, *remarks, anchor="published")


def _table(rows: Sequence[TableRow]) -> Markup:
    """Return one table of a config and metric: a row per class, columns of each source, the run and the conclusions."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    classes = list(dict.fromkeys(row["normal_class"] for row in rows))
    found = {(row["normal_class"], row["source"]): row for row in rows}
    body = []
    for name in classes:
        own = [found.get((name, source)) for source in sources]
        known = next(row for row in own if row is not None)
        conclusions = [NOT_DEFINED if row is None else row["conclusion"] for row in own]
        body.append((name or "mean", *map(published_text, own), ours_text(known), *conclusions))
    head = ("class", *sources, "this run", *(f"against the {source}" for source in sources))
    title = f"{SUMMARY_METRICS[rows[0]['metric']]}{', config ' if rows[0]['config'] else ''}{rows[0]['config']}"
    return html.section(title, html.table(head, body, last_is_mean=classes[-1] is None), level=3)


def published_text(row: TableRow | None) -> str:
    """Return a published figure with its printed precision, and an asterisk where it was not seen in print."""
    if row is None:
        return NOT_DEFINED
    return f"{row['published']:.{row['decimals']}f}{'' if row['status'] == 'first-hand' else '*'}"


def ours_text(row: TableRow) -> str:
    """Return `0.912 ± 0.013 (n=5)` of the run, without the spread for a single seed."""
    if row["mean"] is None:
        return NOT_DEFINED
    spread = "" if row["std"] is None else f" ± {row['std']:.3f}"
    return f"{row['mean']:.3f}{spread} (n={row['n']})"


def _remarks(rows: Sequence[TableRow]) -> list[str]:
    """Return what each source is, and why it gives no conclusion."""
    remarks = []
    for row in rows:
        source = f"{SUMMARY_METRICS[row['metric']]}, {row['source']}"
        remarks.append(
            f"{source}: {row['reference']}, {row['place']}; {row['protocol']}; {row['status']}, {row['note']}."
        )
    reasons = dict.fromkeys(
        f"{SUMMARY_METRICS[row['metric']]}, {row['source']}, no conclusion: {row['reason']}."
        for row in rows
        if row["reason"]
    )
    return [*dict.fromkeys(remarks), *reasons]
