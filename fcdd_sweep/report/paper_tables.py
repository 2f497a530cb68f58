"""The tables of a run as Markdown, LaTeX or CSV: mean and interval, the best in bold where it is told apart."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass

from fcdd_sweep.metrics.statistics import Summary
from fcdd_sweep.report.config_ranks import is_decided, ranked_configs
from fcdd_sweep.report.matrices import varied_keys
from fcdd_sweep.report.run_files import Run
from fcdd_sweep.report.summaries import SUMMARY_METRICS, summary_rows
from fcdd_sweep.report.tables import mean_name, summary_metrics
from fcdd_sweep.report.text import (
    LEAST_FOR_INTERVAL,
    NOT_DEFINED,
    class_text,
    config_words,
    key_titles,
    metric_text,
    setting_text,
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
        rows: texts of a row, its metrics, and whether it is bold.
    """

    caption: str
    names: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Summary, ...], bool], ...]


def run_tables(run: Run) -> list[PaperTable]:
    """Return the table of configs, if there are several, and that of the classes of the best config."""
    ranked = ranked_configs(run)
    tables = []
    if len(ranked) > 1:
        keys = varied_keys(run)
        titles = key_titles(keys)
        metrics = summary_metrics([each.row for each in ranked])
        decided = is_decided(ranked)
        rows = [
            (
                tuple(setting_text(run.parameters(each.config).get(key)) for key in keys) or (each.config,),
                tuple(each.row.metrics[metric] for metric in metrics),
                decided and rank == 0,
            )
            for rank, each in enumerate(ranked)
        ]
        names = tuple(titles[key] for key in keys) or ("config",)
        caption = "Configs, means over classes; bold where the best is told from each of the others."
        tables.append(PaperTable(caption, names, tuple(SUMMARY_METRICS[metric] for metric in metrics), tuple(rows)))
    best = ranked[0].config
    classes = summary_rows(run, best)
    metrics = summary_metrics(classes)
    lines = [
        (
            (class_text(row.normal_class) if row.normal_class else mean_name(row, len(run.classes(best))),),
            tuple(row.metrics[metric] for metric in metrics),
            row.normal_class is None,
        )
        for row in classes
    ]
    of = config_words(best, run.parameters(best))
    caption = f"Classes{f' of {of}' if of else ''}, means over seeds with 95% intervals."
    tables.append(PaperTable(caption, ("class",), tuple(SUMMARY_METRICS[metric] for metric in metrics), tuple(lines)))
    return tables


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
        values = [f"**{_value(each)}**" if bold else _value(each) for each in summaries]
        lines.append([*(name.replace("|", "\\|") for name in names), *values])
    return "\n".join([table.caption, "", *(f"| {' | '.join(line)} |" for line in lines)])


def _latex(table: PaperTable) -> str:
    head = " & ".join(map(_escaped, (*table.names, *table.metrics)))
    body = [
        " & ".join([*map(_escaped, names), *(_latex_value(each, bold=bold) for each in summaries)]) + r" \\"
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
    writer.writerow([*table.names, *(f"{metric} {part}" for metric in table.metrics for part in parts), "bold"])
    for names, summaries, bold in table.rows:
        values = [getattr(each, part) for each in summaries for part in parts]
        cells = ["" if isinstance(value, float) and math.isnan(value) else value for value in values]
        writer.writerow([*names, *cells, int(bold)])
    return stream.getvalue().rstrip("\n")
