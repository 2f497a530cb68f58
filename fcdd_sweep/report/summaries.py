"""The run's numbers: by class, over classes, by defect type. Means come with n, spread and interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fcdd_sweep.metrics.statistics import Summary, summarize
from fcdd_sweep.report.run_files import Run, Trial, counted

SUMMARY_METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
}
"""The figures of the tables, and their names."""


@dataclass(frozen=True)
class SummaryRow:
    """A class of a config, or the mean over its classes.

    Attributes:
        config: empty when the experiment has one config.
        normal_class: None for the mean over classes.
        ledger: planned, done, failed and missing trials.
        figures: by column. Of a class: over its seeds. Over classes: the mean of the classes' means; n, std and
            interval are those of the means of whole seeds, in which every class that has a figure at all has one.
        classes: by column, how many classes stand behind the figure.
    """

    config: str
    normal_class: str | None
    ledger: dict[str, int]
    figures: dict[str, Summary]
    classes: dict[str, int]


@dataclass(frozen=True)
class DefectRow:
    """A class and one of its defect types (in one-vs-rest: the other class), over seeds.

    Attributes:
        images: how many test images show it, in the trial with the most.
    """

    config: str
    normal_class: str
    defect: str
    images: int
    image_auroc: Summary
    pixel_auroc: Summary


def summary_rows(run: Run, config: str) -> list[SummaryRow]:
    """One row a class, then the mean over classes when there are several."""
    rows = [_class_row(config, name, run.of(config, name)) for name in run.classes(config)]
    return [*rows, mean_row(run, config)] if len(rows) > 1 else rows


def mean_row(run: Run, config: str) -> SummaryRow:
    """The mean over a config's classes; with one class, that class's own figures."""
    by_class = [run.of(config, name) for name in run.classes(config)]
    figures, classes = {}, {}
    for metric in SUMMARY_METRICS:
        figures[metric], classes[metric] = over_classes(by_class, metric)
    return SummaryRow(config, None, counted(run.of(config)), figures, classes)


def _class_row(config: str, name: str, trials: Sequence[Trial]) -> SummaryRow:
    figures = {metric: summarize(trial.value(metric) for trial in trials) for metric in SUMMARY_METRICS}
    return SummaryRow(
        config, name, counted(trials), figures, {metric: int(figures[metric].n > 0) for metric in SUMMARY_METRICS}
    )


def over_classes(by_class: Sequence[Sequence[Trial]], metric: str) -> tuple[Summary, int]:
    """Mean over classes, with the spread over seeds, and how many classes have the figure.

    A seed counts for the spread only when all those classes have it: the mean over other classes is another figure.
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
    whole = summarize(float(np.mean([values[seed] for values in defined])) for seed in seeds)
    return whole._replace(mean=mean), len(defined)


def defect_rows(run: Run, config: str) -> list[DefectRow]:
    """One row a class and defect type, in the order of the trials' own tables."""
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
                    summarize(row["image_auroc"] for row in own),
                    summarize(row["pixel_auroc"] for row in own),
                )
            )
    return rows


def shortfalls(run: Run) -> list[str]:
    """What is not there, by config and class: `class 'bird' has 3 of 5 seeds (1 failed, 1 missing)`."""
    sentences = []
    for config in run.configs:
        for name in run.classes(config):
            ledger = counted(run.of(config, name))
            if ledger["done"] < ledger["planned"]:
                lost = ", ".join(f"{ledger[status]} {status}" for status in ("failed", "missing") if ledger[status])
                where = f"config {config}, " if config else ""
                sentences.append(f"{where}class '{name}' has {ledger['done']} of {ledger['planned']} seeds ({lost})")
    return sentences
