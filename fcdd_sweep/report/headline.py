"""The result of a run in a few sentences: what page, terminal and files begin with."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.paired_tests import LEAST_SEEDS
from fcdd_sweep.metrics.statistics import Summary
from fcdd_sweep.report.config_ranks import RankedConfig, shown_config
from fcdd_sweep.report.matrices import is_one_vs_rest
from fcdd_sweep.report.run_files import Run, status_counts
from fcdd_sweep.report.summaries import SUMMARY_METRICS, DefectRow, SummaryRow, defect_rows, summary_rows
from fcdd_sweep.report.text import LEAST_FOR_INTERVAL, class_text, config_words, metric_text
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.search_schemas import NUMBER

METRIC = "image_auroc"
_MOST_NAMED = 2
"""Configs that cannot be told from the best one and are named."""


def result_sentences(run: Run, ranked: Sequence[RankedConfig]) -> list[str]:
    """Return one or two sentences: what is decided, with interval and number of seeds, then what is not.

    Args:
        run: with the trials whose test metrics may be shown.
        ranked: its configs, from `ranked_configs`.
    Returns:
        Empty before the first trial finished.
    """
    if not any(trial.is_done for trial in run.trials):
        return []
    return [_decided_sentence(run, ranked), *filter(None, [_undecided_sentence(run, ranked)])]


def detail_sentences(run: Run, ranked: Sequence[RankedConfig]) -> list[str]:
    """Return sentences on best and worst class and defect type of the best config, and on what is missing.

    Empty before the first trial finished; see `result_sentences` for the arguments.
    """
    if not any(trial.is_done for trial in run.trials):
        return []
    best = shown_config(run, ranked)
    return [*filter(None, [_extremes_sentence(run, best), _defects_sentence(run, best), absent_sentence(run)])]


def chosen_sentence(run: Run, ranked: Sequence[RankedConfig]) -> str:
    """Return the metric of a search's choice; empty where there is none, or the metric is undefined."""
    found = [each for each in ranked if each.config == run.chosen]
    if not found or math.isnan(found[0].row.metrics[METRIC].mean):
        return ""
    name = config_words(found[0].config, run.parameters(found[0].config))
    what, value = _metric_of(run, found[0])
    return f"{name[:1].upper()}{name[1:]}: {what} {value}."


def _metric_of(run: Run, each: RankedConfig) -> tuple[str, str]:
    """Return what a config's metric is of, `mean image AUROC over 3 classes`, and its value."""
    metric, names = SUMMARY_METRICS[METRIC], run.classes(each.config)
    over = f"mean {metric} over {count_noun(each.row.classes[METRIC], 'class')}"
    what = f"{metric} of {class_text(names[0])}" if len(names) == 1 else over
    return what, mean_with_interval(each.row.metrics[METRIC])


def _decided_sentence(run: Run, ranked: Sequence[RankedConfig]) -> str:
    best = ranked[0]
    if math.isnan(best.row.metrics[METRIC].mean):
        return f"The {SUMMARY_METRICS[METRIC]} is undefined: no finished trial has nominal and anomalous test images."
    what, value = _metric_of(run, best)
    if len(ranked) == 1:
        return f"{what[0].upper()}{what[1:]}: {value}."
    name = config_words(best.config, run.parameters(best.config))
    name = name if name == best.config else f"{name[:1].upper()}{name[1:]}"
    beaten, others = sum(each.is_told_apart for each in ranked[1:]), len(ranked) - 1
    if beaten == others:
        whom = "the other config" if others == 1 else f"each of the {others} other configs"
        return f"{name} is better than {whom}: {what} {value}."
    so_far = f"; it is better than {beaten} of the {others} others" if beaten else ""
    confirmed = "confirmed " if NUMBER in run.parameters(best.config) else ""
    return f"{name} has the largest {what} among {len(ranked)} {confirmed}configs: {value}{so_far}."


def mean_with_interval(summary: Summary) -> str:
    """Return a mean with its interval and number of seeds: `0.953, 95% interval [0.941, 0.965] over 3 seeds`."""
    if not summary.n:
        return f"{metric_text(summary.mean)} (no seed has all classes)"
    seeds = count_noun(summary.n, "seed")
    if summary.n < LEAST_FOR_INTERVAL:
        return f"{metric_text(summary.mean)} over {seeds}, too few for an interval"
    return f"{metric_text(summary.mean)}, 95% interval [{summary.low:.3f}, {summary.high:.3f}] over {seeds}"


def _undecided_sentence(run: Run, ranked: Sequence[RankedConfig]) -> str:
    if len(ranked) < 2 or math.isnan(ranked[0].row.metrics[METRIC].mean):
        return ""
    untold = [each for each in ranked[1:] if each.behind is not None and not each.is_told_apart]
    close = [each for each in untold if not each.is_open]
    waiting = [each for each in untold if each.is_open]
    parts = []
    if close:
        parts.append(f"against {_named(run, close)}, as the interval of the paired difference includes 0")
    if waiting:
        absent = any(not trial.is_done for each in (ranked[0], *waiting) for trial in run.of(each.config))
        reason = "trials are missing" if absent else f"there are fewer than {LEAST_SEEDS} common seeds"
        parts.append(f"against {_named(run, waiting)}, as {reason}")
    return f"Undecided {'; and '.join(parts)}." if parts else ""


def _named(run: Run, configs: Sequence[RankedConfig]) -> str:
    more = len(configs) - _MOST_NAMED
    names = " or ".join(config_words(each.config, run.parameters(each.config)) for each in configs[:_MOST_NAMED])
    return f"{names}{f' or {more} more' if more > 0 else ''}"


def _extremes_sentence(run: Run, config: str) -> str:
    rows = [row for row in summary_rows(run, config) if row.normal_class and row.metrics[METRIC].n]
    if len(rows) < 2:
        return ""
    best, worst = best_and_worst(rows)
    if best.metrics[METRIC].mean == worst.metrics[METRIC].mean:
        return ""
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
