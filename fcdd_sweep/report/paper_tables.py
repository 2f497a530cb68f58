"""The tables of a run as Markdown, LaTeX or CSV: mean and interval, the best in bold where it is clearly better."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass

from fcdd_sweep.metrics.statistics import Summary
from fcdd_sweep.report.config_ranks import is_decided, ranked_configs, shown_config
from fcdd_sweep.report.matrices import varied_keys
from fcdd_sweep.report.run_files import Run
from fcdd_sweep.report.summaries import SUMMARY_METRICS, summary_rows
from fcdd_sweep.report.tables import mean_name, summary_metrics
from fcdd_sweep.report.text import (
    LEAST_FOR_INTERVAL,
    NOT_DEFINED,
    class_text,
    config_words,
    key_text,
    key_titles,
    metric_text,
)

_ESCAPED = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


@dataclass(frozen=True)
class PaperTable:
    """A table before it is written.

    Attributes:
        caption: what it shows.
        names: titles of the columns of text.
        metrics: titles of the columns of metrics.
        rows: texts of a row, its metrics, and which of them are bold.
    """

    caption: str
    names: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Summary, ...], tuple[bool, ...]], ...]


def run_tables(run: Run) -> list[PaperTable]:
    """Return the table of configs, if there are several, and that of the classes of `shown_config`."""
    ranked = ranked_configs(run)
    tables = []
    if len(ranked) > 1:
        keys = varied_keys(run)
        titles = key_titles(keys)
        metrics = summary_metrics([each.row for each in ranked])
        best = {metric: _decided_best(run, metric) for metric in metrics}
        rows = [
            (
                tuple(key_text(run.parameters(each.config), key) for key in keys) or (each.config,),
                tuple(each.row.metrics[metric] for metric in metrics),
                tuple(each.config == best[metric] for metric in metrics),
            )
            for each in ranked
        ]
        names = tuple(titles[key] for key in keys) or ("config",)
        caption = "Configs, means over classes; bold where the best is better than each of the others."
        tables.append(PaperTable(caption, names, tuple(SUMMARY_METRICS[metric] for metric in metrics), tuple(rows)))
    first = shown_config(run, ranked)
    classes = summary_rows(run, first)
    metrics = summary_metrics(classes)
    lines = [
        (
            (class_text(row.normal_class) if row.normal_class else mean_name(row, len(run.classes(first))),),
            tuple(row.metrics[metric] for metric in metrics),
            (False,) * len(metrics),
        )
        for row in classes
    ]
    of = config_words(first, run.parameters(first))
    caption = f"Classes{f' of {of}' if of else ''}, means over seeds with 95% intervals."
    tables.append(PaperTable(caption, ("class",), tuple(SUMMARY_METRICS[metric] for metric in metrics), tuple(lines)))
    return tables


def _decided_best(run: Run, metric: str) -> str | None:
    """Return the config with the largest mean where it is better than all others; None for false alarms."""
    if metric == "test_false_alarm_rate":
        return None
    ranked = ranked_configs(run, metric)
    return ranked[0].config if is_decided(ranked) else None


def paper_tables(run: Run, form: str) -> str:
    """Return the tables of a run as text.

    Args:
        run: with the trials whose test metrics may be shown.
        form: `markdown`, `latex` (needs the package `booktabs`) or `csv`, whose numbers have all digits.
    """
    writers: dict[str, Callable[[PaperTable], str]] = {"markdown": _markdown, "latex": _latex, "csv": _csv}
    return "\n\n".join(writers[form](table) for table in run_tables(run))


def _value(summary: Summary) -> str:
    if math.isnan(summary.mean):
        return NOT_DEFINED
    interval = f" [{summary.low:.3f}, {summary.high:.3f}]" if summary.n >= LEAST_FOR_INTERVAL else ""
    return f"{metric_text(summary.mean)}{interval}"


def _markdown(table: PaperTable) -> str:
    head = [*table.names, *table.metrics]
    rule = [":---"] * len(table.names) + ["---:"] * len(table.metrics)
    lines = [head, rule]
    for names, summaries, bold in table.rows:
        values = [f"**{_value(each)}**" if b else _value(each) for each, b in zip(summaries, bold, strict=True)]
        lines.append([*(name.replace("|", "\\|") for name in names), *values])
    return "\n".join([table.caption, "", *(f"| {' | '.join(line)} |" for line in lines)])


def _latex(table: PaperTable) -> str:
    head = " & ".join(map(_escaped, (*table.names, *table.metrics)))
    body = [
        " & ".join(
            [*map(_escaped, names), *(_latex_value(each, bold=b) for each, b in zip(summaries, bold, strict=True))]
        )
        + r" \\"
        for names, summaries, bold in table.rows
    ]
    columns = "l" * len(table.names) + "r" * len(table.metrics)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escaped(table.caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _latex_value(summary: Summary, *, bold: bool) -> str:
    mean, _, interval = _value(summary).partition(" ")
    strong = rf"\textbf{{{mean}}}" if bold else mean
    return f"{strong} {{\\scriptsize {interval}}}" if interval else strong


def _escaped(text: str) -> str:
    return "".join(_ESCAPED.get(char, char) for char in text)


def _csv(table: PaperTable) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    parts = ("mean", "std", "n", "low", "high")
    writer.writerow([*table.names, *(f"{metric} {part}" for metric in table.metrics for part in (*parts, "bold"))])
    for names, summaries, bold in table.rows:
        values = [
            v for each, b in zip(summaries, bold, strict=True) for v in (*(getattr(each, p) for p in parts), int(b))
        ]
        cells = ["" if isinstance(value, float) and math.isnan(value) else value for value in values]
        writer.writerow([*names, *cells])
    return stream.getvalue().rstrip("\n")
