"""How well heatmaps show where defects are: figures by class, and by the size of the defect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.cells import metric_cell, metric_heads
from fcdd_sweep.report.page.html import Markup, element, section
from fcdd_sweep.report.recomputed import lacking_note
from fcdd_sweep.report.run_files import Run
from fcdd_sweep.report.summaries import HEATMAP_METRICS, SIZE_METRICS, SummaryRow
from fcdd_sweep.report.tables import mean_name
from fcdd_sweep.report.text import class_text


def heatmap_section(run: Run, config: str, rows: Sequence[SummaryRow]) -> Markup | str:
    """Return the section of a config; empty where no trial has ground-truth maps."""
    note = lacking_note(run)
    names = [
        class_text(row.normal_class) if row.normal_class else mean_name(row, len(run.classes(config))) for row in rows
    ]
    table, by_size = (_table(names, rows, titles) for titles in (HEATMAP_METRICS, SIZE_METRICS))
    if not table and not note:
        return ""
    parts = [
        element("p", html.with_code(f"{note}."), cls="note") if note else "",
        table,
        html.details("By size of the defect", by_size) if by_size else "",
    ]
    return section("Heatmaps as explanations", *parts, level=3)


def _table(names: Sequence[str], rows: Sequence[SummaryRow], titles: Mapping[str, str]) -> Markup | str:
    heads = metric_heads(rows, titles)
    if not heads:
        return ""
    body = [
        (name, *(metric_cell(row.metrics[metric], span) for metric, (_, span) in heads.items()))
        for name, row in zip(names, rows, strict=True)
    ]
    head = ("class", *(title for title, _ in heads.values()))
    return html.table(head, body, last_is_mean=len(rows) > 1, cls="metrics")
