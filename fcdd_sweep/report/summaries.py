"""A run's metrics summed up: by class, over classes, by defect type. Means come with n, spread and interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.pixel_figures import SIZES
from fcdd_sweep.metrics.statistics import Summary, summarize
from fcdd_sweep.report.run_files import PLANNED, Run, Trial, status_counts
from fcdd_sweep.report.trial_costs import numerics_of
from fcdd_sweep.results.documents import TrialStatus

SUMMARY_METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "f1": "F1",
    "test_false_alarm_rate": "false alarms",
}
"""The metrics of the tables, and their titles. The last two are of decisions at the trials' thresholds."""

DECISION_METRICS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "fpr_at_95_recall": "FPR at 95% recall",
    "test_agreement": "label and heatmap agree",
}
"""Further metrics of decisions, and their titles."""
HEATMAP_METRICS = {
    "pixel_aupro_30": "AUPRO .3",
    "pixel_aupro_05": "AUPRO .05",
    "pixel_spro_05": "sPRO .05",
    "pixel_aupimo": "AUPIMO",
    "pixel_f1_max_oracle": "pixel F1 max (oracle)",
    "pixel_f1": "pixel F1",
    "pointing_game": "pointing game",
    "heat_in_mask": "heat in mask",
}
"""The metrics of the tables on heatmaps as explanations, and their titles; docs/metrics.md defines them."""
SIZE_METRICS = {
    f"{metric}_{size}": f"{HEATMAP_METRICS[metric]}, {size}"
    for metric in ("pointing_game", "heat_in_mask")
    for size in SIZES
}
"""The same by the size of the defect."""
DEFECT_METRICS = ("image_auroc", "pixel_auroc", "pixel_aupro_30", "pixel_aupimo", "pointing_game", "heat_in_mask")
"""The metrics of the tables of defect types."""
ALL_METRICS = SUMMARY_METRICS | DECISION_METRICS | HEATMAP_METRICS | SIZE_METRICS


@dataclass(frozen=True)
class SummaryRow:
    """A class of a config, or the mean over its classes.

    Attributes:
        config: empty when the experiment has one config.
        normal_class: None for the mean over classes.
        counts: number of planned, done, failed and missing trials.
        metrics: by column. Of a class: over its seeds. Over classes: the mean of the classes' means; n, std and
            interval are over seeds, of the mean over classes for each seed with which all of these classes are defined.
        classes: by column, the number of classes for which the metric is defined.
    """

    config: str
    normal_class: str | None
    counts: dict[str, int]
    metrics: dict[str, Summary]
    classes: dict[str, int]


@dataclass(frozen=True)
class DefectRow:
    """A class and one of its defect types (in one-vs-rest: another class), over seeds.

    Attributes:
        images: number of test images with this defect, in the trial with the most.
        metrics: by column, those of `DEFECT_METRICS`.
    """

    config: str
    normal_class: str
    defect: str
    images: int
    metrics: dict[str, Summary]


def summary_rows(run: Run, config: str) -> list[SummaryRow]:
    """Return one row per class, then the mean over classes when there are several."""
    rows = [_class_row(config, name, run.of(config, name)) for name in run.classes(config)]
    return [*rows, mean_row(run, config)] if len(rows) > 1 else rows


def mean_row(run: Run, config: str) -> SummaryRow:
    """Return the mean over a config's classes; with one class, the metrics of that class."""
    return mean_over(run, config, run.classes(config))


def mean_over(run: Run, config: str, names: Sequence[str]) -> SummaryRow:
    """Return the mean over some of a config's classes."""
    by_class = [run.of(config, name) for name in names]
    metrics, classes = {}, {}
    for metric in ALL_METRICS:
        metrics[metric], classes[metric] = over_classes(by_class, metric)
    counts = status_counts(trial for trials in by_class for trial in trials)
    return SummaryRow(config, None, counts, metrics, classes)


def _class_row(config: str, name: str, trials: Sequence[Trial]) -> SummaryRow:
    metrics = {metric: summarize(trial.value(metric) for trial in trials) for metric in ALL_METRICS}
    classes = {metric: int(summary.n > 0) for metric, summary in metrics.items()}
    return SummaryRow(config, name, status_counts(trials), metrics, classes)


def over_classes(by_class: Sequence[Sequence[Trial]], metric: str) -> tuple[Summary, int]:
    """Return the mean over classes with its spread over seeds, and the number of classes with a defined value.

    A seed counts for the spread only when all of these classes are defined with it: a mean over fewer classes is
    another quantity.
    """
    defined = [
        values
        for trials in by_class
        if (values := {trial.seed: v for trial in trials if not np.isnan(v := trial.value(metric))})
    ]
    if not defined:
        return summarize([]), 0
    mean = float(np.mean([np.mean(list(values.values())) for values in defined]))
    seeds = sorted(set.intersection(*(set(values) for values in defined)))
    by_seed = summarize(float(np.mean([values[seed] for values in defined])) for seed in seeds)
    return by_seed._replace(mean=mean), len(defined)


def defect_rows(run: Run, config: str) -> list[DefectRow]:
    """Return one row per class and defect type, in the order of the trials' own tables."""
    rows = []
    for name in run.classes(config):
        found = [(trial, row) for trial in run.of(config, name) for row in trial.defects]
        for defect in dict.fromkeys(row["defect"] for _, row in found):
            own = [row for _, row in found if row["defect"] == defect]
            rows.append(
                DefectRow(
                    config,
                    name,
                    defect,
                    max(row["n_images"] for row in own),
                    {metric: summarize(row[metric] for row in own) for metric in DEFECT_METRICS},
                )
            )
    return rows


def decision_texts(run: Run, config: str) -> list[str]:
    """Return what can be said of the thresholds of a config's trials, or why there are none, by class.

    Classes and seeds may hold out different numbers of images.
    """
    classes: dict[str, list[str]] = {}
    for trial in run.of(config):
        if text := trial.metrics.get("threshold_source"):
            classes.setdefault(text, []).append(trial.normal_class)
    if len(classes) == 1:
        return [f"Decisions: {text}" for text in classes]
    return [f"Decisions of {', '.join(dict.fromkeys(names))}: {text}" for text, names in classes.items()]


def device_note(trials: Sequence[Trial]) -> str:
    """Return that finished trials ran on more than one type of device, or with draws of more than one version."""
    kinds = Counter(numerics_of(trial.metrics) for trial in trials if trial.is_done)
    if len(kinds) < 2:
        return ""
    counts = ", ".join(f"{count_noun(count, 'trial')} on {kind}" for kind, count in sorted(kinds.items()))
    return f"the trials ran on devices that give other numbers: {counts}; their differences are not of seeds alone"


def shortfalls(run: Run) -> list[str]:
    """Return what is missing, by config and class: `class 'bird' has 3 of 5 seeds (1 failed, 1 missing)`."""
    sentences = []
    for config in run.configs:
        for name in run.classes(config):
            counts = status_counts(run.of(config, name))
            if counts[TrialStatus.DONE] < counts[PLANNED]:
                absent = (TrialStatus.FAILED, TrialStatus.MISSING)
                reasons = ", ".join(f"{counts[status]} {status}" for status in absent if counts[status])
                where = f"config {config}, " if config else ""
                seeds = f"{counts[TrialStatus.DONE]} of {counts[PLANNED]} seeds"
                sentences.append(f"{where}class '{name}' has {seeds} ({reasons})")
    return sentences
