"""The result of a run in a few sentences: what page, terminal and files begin with."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.paired_tests import LEAST_SEEDS
from fcdd_sweep.metrics.statistics import Summary
from fcdd_sweep.report.config_ranks import RankedConfig, is_decided, ranked_configs
from fcdd_sweep.report.matrices import is_one_vs_rest
from fcdd_sweep.report.run_files import Run, status_counts
from fcdd_sweep.report.summaries import SUMMARY_METRICS, DefectRow, SummaryRow, defect_rows, summary_rows
from fcdd_sweep.report.text import LEAST_FOR_INTERVAL, class_text, config_words, metric_text
from fcdd_sweep.results.documents import TrialStatus

METRIC = "image_auroc"
_MOST_NAMED = 2
"""Configs that cannot be told from the best one and are named."""


def result_sentences(run: Run, *, decide: bool = True) -> list[str]:
    """Return what the finished trials say: mean and interval, the best config, best_and_worst, and what is missing.

    Args:
        run: with the trials whose test metrics may be shown.
        decide: whether a sentence says which configs the best can be told from; a search has conclusions of its own.
    Returns:
        Empty before the first trial finished.
    """
    if not any(trial.is_done for trial in run.trials):
        return []
    ranked = ranked_configs(run)
    best = ranked[0]
    sentences = [_mean_sentence(run, ranked)]
    if len(ranked) > 1 and decide:
        sentences.append(_decision_sentence(run, ranked))
    sentences += filter(None, [_extremes_sentence(run, best.config), _defects_sentence(run, best.config)])
    return [*sentences, *filter(None, [absent_sentence(run)])]


def _mean_sentence(run: Run, ranked: Sequence[RankedConfig]) -> str:
    best, metric = ranked[0], SUMMARY_METRICS[METRIC]
    summary = best.row.metrics[METRIC]
    classes = best.row.classes[METRIC]
    if math.isnan(summary.mean):
        return f"The {metric} is undefined: no finished trial has nominal and anomalous test images."
    names = run.classes(best.config)
    over = class_text(names[0]) if len(names) == 1 else f"mean over {count_noun(classes, 'class')}"
    if len(ranked) == 1:
        what = f"{metric} of {over}" if len(names) == 1 else f"{metric}, {over}"
        return f"{what[0].upper()}{what[1:]}: {mean_with_interval(summary)}."
    name = config_words(best.config, run.parameters(best.config))
    return f"Best of {len(ranked)} configs: {name}, with {metric} {mean_with_interval(summary)}, {over}."


def mean_with_interval(summary: Summary) -> str:
    """Return a mean with its interval and its number of seeds: `0.953 [0.941, 0.965], 3 seeds`."""
    if not summary.n:
        return f"{metric_text(summary.mean)} (no seed has all classes)"
    interval = f" [{summary.low:.3f}, {summary.high:.3f}]" if summary.n >= LEAST_FOR_INTERVAL else ""
    return f"{metric_text(summary.mean)}{interval}, {count_noun(summary.n, 'seed')}"


def _decision_sentence(run: Run, ranked: Sequence[RankedConfig]) -> str:
    if is_decided(ranked):
        return "It is better than each of the others: all intervals of paired differences exclude 0."
    if close := [each for each in ranked[1:] if not each.is_told_apart and not each.is_open]:
        return f"It cannot be told from {_named(run, close)}: the interval of their paired difference includes 0."
    undecided = [each for each in ranked[1:] if each.is_open or each.behind is None]
    return (
        f"Undecided against {_named(run, undecided)}: trials are missing, or there are fewer than {LEAST_SEEDS} seeds."
    )


def _named(run: Run, configs: Sequence[RankedConfig]) -> str:
    more = len(configs) - _MOST_NAMED
    names = "; ".join(config_words(each.config, run.parameters(each.config)) for each in configs[:_MOST_NAMED])
    return f"{names}{f' and {more} more' if more > 0 else ''}"


def _extremes_sentence(run: Run, config: str) -> str:
    rows = [row for row in summary_rows(run, config) if row.normal_class and row.metrics[METRIC].n]
    if len(rows) < 2:
        return ""
    best, worst = best_and_worst(rows)
    return f"Best: {_named_value(best)}; worst: {_named_value(worst)}."


def best_and_worst(rows: Sequence[SummaryRow]) -> tuple[SummaryRow, SummaryRow]:
    """Return the classes with the largest and the smallest mean, of those that have one."""

    def mean(row: SummaryRow) -> float:
        return row.metrics[METRIC].mean

    known = [row for row in rows if not math.isnan(mean(row))]
    return max(known, key=mean), min(known, key=mean)


def _named_value(row: SummaryRow) -> str:
    return f"{class_text(row.normal_class or '')} ({metric_text(row.metrics[METRIC].mean)})"


def _defects_sentence(run: Run, config: str) -> str:
    rows = [row for row in defect_rows(run, config) if row.metrics[METRIC].n]
    if len(rows) < 2:
        return ""
    easiest, hardest = (pick(rows, key=lambda row: row.metrics[METRIC].mean) for pick in (max, min))
    if easiest.metrics[METRIC].mean == hardest.metrics[METRIC].mean:
        return ""
    several = len(run.classes(config)) > 1
    if is_one_vs_rest(run, config):
        return f"Hardest pair: {_pair_text(hardest)}; easiest: {_pair_text(easiest)}."
    names = [
        f"{_defect_name(row, several=several)} ({metric_text(row.metrics[METRIC].mean)})" for row in (hardest, easiest)
    ]
    return f"Hardest defect type: {names[0]}; easiest: {names[1]}."


def _pair_text(row: DefectRow) -> str:
    names = f"{class_text(row.normal_class)} against {class_text(row.defect)}"
    return f"{names} ({metric_text(row.metrics[METRIC].mean)})"


def _defect_name(row: DefectRow, *, several: bool) -> str:
    return f"{row.defect} of {class_text(row.normal_class)}" if several else row.defect


def absent_sentence(run: Run) -> str:
    """Return how many trials failed or are missing; empty where all are done."""
    counts = status_counts(run.trials)
    absent = [f"{counts[status]} {status}" for status in (TrialStatus.FAILED, TrialStatus.MISSING) if counts[status]]
    return f"Of {count_noun(len(run.trials), 'trial')}: {', '.join(absent)}." if absent else ""
