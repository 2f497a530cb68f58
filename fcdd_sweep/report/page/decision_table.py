"""How often the decisions of each trial of a class are right on the test set."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.report.class_scores import CONFUSION
from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.html import Markup, TableCell, element
from fcdd_sweep.report.run_files import Trial
from fcdd_sweep.report.summaries import DECISION_METRICS, SUMMARY_METRICS
from fcdd_sweep.report.text import NOT_DEFINED, metric_text
from fcdd_sweep.results import tree

_MOST_UNFOLDED = 10
"""Trials up to which the table is not folded."""
_MOST_LISTED = 50
"""Trials in the table; `trials.parquet` has all."""
_ALARMS = "test_false_alarm_rate"
_SHARES = ("accuracy", "precision", "recall", "f1")
_COUNTS = ("TP", "FP", "TN", "FN")
"""Titles of `CONFUSION`."""
_NOTE = (
    "TP, FP, TN, FN: true and false positives and negatives; positive is anomalous. False alarms: share of the nominal "
    "test images that are called anomalous, with its 95% interval (Wilson). Agree: share of the images that are called "
    "anomalous and have a pixel above the pixel threshold, or neither."
)


def decision_table(trials: Sequence[Trial]) -> Markup | str:
    """Return one row per finished trial of a class; empty where none has a decision."""
    done = [trial for trial in trials if trial.is_done]
    if not any(_is_decided(trial) for trial in done):
        return ""
    titles = SUMMARY_METRICS | DECISION_METRICS
    last = ("fpr_at_95_recall", "test_agreement")
    head = ("trial", *_COUNTS, *(titles[name] for name in (*_SHARES, _ALARMS, last[0])), "agree")
    rows = [
        (
            f"seed\N{NO-BREAK SPACE}{trial.seed}",
            *(NOT_DEFINED if (count := trial.metrics.get(name)) is None else count for name in CONFUSION),
            *(metric_text(trial.value(name)) for name in _SHARES),
            _alarm_cell(trial),
            *(metric_text(trial.value(name)) for name in last),
        )
        for trial in done[:_MOST_LISTED]
    ]
    more = len(done) - len(rows)
    left_out = f" And {count_noun(more, 'more trial')}, see {tree.TRIALS}." if more > 0 else ""
    title, table, note = "Decisions by seed", html.table(head, rows), element("p", f"{_NOTE}{left_out}", cls="note")
    if len(rows) > _MOST_UNFOLDED:
        return html.details(f"{title}, {count_noun(len(rows), 'trial')}", table, note)
    return element("div", element("h4", title), table, note, style="margin-top:1.2rem")


def _is_decided(trial: Trial) -> bool:
    return trial.metrics.get(CONFUSION[0]) is not None


def _alarm_cell(trial: Trial) -> TableCell:
    rate, low, high = (trial.value(name) for name in (_ALARMS, "test_false_alarm_low", "test_false_alarm_high"))
    interval = "" if math.isnan(low) else element("small", f"[{low:.3f}, {high:.3f}]")
    return TableCell(Markup(f"{element('span', metric_text(rate))}{interval}"), value=rate)
