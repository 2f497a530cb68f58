"""Time and cost of the trials, by config."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from fcdd_sweep.config.text import duration_text
from fcdd_sweep.report.page import html
from fcdd_sweep.report.page.html import Markup, TableCell, element, section
from fcdd_sweep.report.run_files import Run, Trial
from fcdd_sweep.report.text import NOT_DEFINED, config_words
from fcdd_sweep.report.trial_costs import on_gpu, share_of

_TIMES = {"train_time_s": "training", "test_time_s": "scoring", "wall_time_s": "whole trial"}
_MOST = 200


def cost_section(run: Run) -> Markup | str:
    """Return median times of a trial and device-hours of each config; empty before a trial has finished."""
    configs = [config for config in run.configs if any(trial.is_done for trial in run.of(config))]
    if not configs:
        return ""
    head = ("config", "trials", *_TIMES.values(), "device-hours", "device", "training images", "epochs")
    body = [_row(run, config) for config in configs[:_MOST]]
    more = f" The first {_MOST} of {len(configs)} configs." if len(configs) > _MOST else ""
    note = (
        "Times are medians over finished trials, as minutes and seconds. Training counts every attempt at a trial, the "
        "whole trial its last one. Device-hours are the sum of whole trials, times the cores or the share of a GPU "
        f"that a trial holds.{more}"
    )
    return section("Time and cost", html.table(head, body), element("p", note, cls="note"), anchor="cost")


def _row(run: Run, config: str) -> tuple[object, ...]:
    done = [trial for trial in run.of(config) if trial.is_done]
    times = [_median_cell([trial.value(name) for trial in done]) for name in _TIMES]
    devices = dict.fromkeys(str(trial.metrics.get("device")) for trial in done if trial.metrics.get("device"))
    hours = sum(_hours(run, trial) for trial in done)
    kind = "GPU" if any(map(on_gpu, devices)) else "CPU"
    name = config_words(config, run.parameters(config)) or "all"
    return (
        name,
        len(done),
        *times,
        TableCell(f"{hours:.3g} {kind}", value=hours),
        ", ".join(devices) or NOT_DEFINED,
        _range_text([trial.value("n_train") for trial in done]),
        _range_text([trial.value("epochs") for trial in done]),
    )


def _hours(run: Run, trial: Trial) -> float:
    seconds = trial.value("wall_time_s")
    resources, threads = run.experiment.resources, run.experiment.threads
    share = share_of(trial.metrics.get("device"), resources, threads, trial.metrics.get("trials_per_gpu"))
    return 0.0 if seconds != seconds else seconds * share / 3600


def _median_cell(values: Sequence[float]) -> TableCell:
    known = [value for value in values if value == value]
    if not known:
        return TableCell(NOT_DEFINED)
    median = statistics.median(known)
    text = f"{median:.2g} s" if median < 10 else duration_text(median)
    return TableCell(text, value=median)


def _range_text(values: Sequence[float]) -> str:
    known = [int(value) for value in values if value == value]
    if not known:
        return NOT_DEFINED
    low, high = min(known), max(known)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
