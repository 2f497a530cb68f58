"""Metrics by defect type, or in one-vs-rest a matrix of normal class by other class."""

from __future__ import annotations

from fcdd_sweep.report.matrices import class_matrix, is_one_vs_rest
from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.cells import metric_cell, span_of
from fcdd_sweep.report.page.config_section import heat_table
from fcdd_sweep.report.page.html import Markup, element, section
from fcdd_sweep.report.run_files import Run
from fcdd_sweep.report.summaries import ALL_METRICS, defect_rows
from fcdd_sweep.report.tables import defect_metrics
from fcdd_sweep.report.text import class_text

_MOST_UNFOLDED = 30


def defect_section(run: Run, config: str) -> Markup | str:
    """Return the section of a config; empty where no trial has defect types."""
    rows = defect_rows(run, config)
    if not rows:
        return ""
    if is_one_vs_rest(run, config):
        matrix = class_matrix(run, config)
        names = [[class_text(name) for name in side] for side in (matrix.rows, matrix.columns)]
        table = heat_table("normal class", matrix, names[0], names[1])
        note = "Image AUROC of each normal class (row) against the images of each other class (column), over seeds."
        return section("Class against class", element("p", note, cls="note"), table, level=3)
    metrics = defect_metrics(rows)
    spans = {metric: span_of([row.metrics[metric].mean for row in rows]) for metric in metrics}
    several = len(run.classes(config)) > 1
    body = [
        (
            *([class_text(row.normal_class)] if several else []),
            row.defect,
            *(metric_cell(row.metrics[metric], spans[metric]) for metric in metrics),
            row.images,
        )
        for row in rows
    ]
    titles = [f"{ALL_METRICS[metric]}" for metric in metrics]
    head = (*(["class"] if several else []), "defect, or other class", *titles, "images")
    table = html.table(head, body, names=2 if several else 1, cls="metrics")
    note = element("p", "Each defect type against all nominal test images, over seeds.", cls="note")
    content = table if len(rows) <= _MOST_UNFOLDED else html.details(f"All {len(rows)} rows", table)
    return section("By defect type", note, content, level=3)
