"""ROC plots of a trial, a class, a config and a run, and the loss of a trial. Means are taken at equal rates."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.curves import MeanCurve, mean_curve
from fcdd_sweep.metrics.ranking import FloatArray, area
from fcdd_sweep.metrics.statistics import Summary, summarize
from fcdd_sweep.report.figures.style import FAINT_INK, GRID, INK, SMALL_PT, dress, line_style, new_figure
from fcdd_sweep.report.run_files import XY, Run, Trial
from fcdd_sweep.report.summaries import over_classes
from fcdd_sweep.report.text import abbreviated, metric_text, spread_text
from fcdd_sweep.results.files import read_table
from fcdd_sweep.results.tree import TrialPaths

Kind = Literal["image", "pixel"]
_LEGEND_INSIDE = 6
"""Up to this many lines, the legend fits into the empty corner of a ROC plot."""
_MOST_NAMED = 6
"""Configs and classes whose absent seeds are named."""


@dataclass(frozen=True)
class RocLine:
    """One curve of a plot; `low` and `high` bound its band of one standard deviation, if it has one."""

    label: str
    x: FloatArray
    y: FloatArray
    low: FloatArray | None = None
    high: FloatArray | None = None
    is_mean: bool = False


@dataclass(frozen=True)
class RocFigure:
    """Contents of a ROC plot: its lines, and the trials without a line (`absent`)."""

    title: str
    lines: tuple[RocLine, ...]
    absent: tuple[str, ...] = ()


def trial_roc(curves: Mapping[str, XY]) -> RocFigure:
    """Return the curve over images and, if there is one, over pixels, of one trial."""
    kinds = [kind for kind in ("image", "pixel") if f"{kind}_roc" in curves]
    lines = tuple(
        RocLine(f"{kind}s: AUROC {metric_text(area(*curves[f'{kind}_roc']))}", *curves[f"{kind}_roc"]) for kind in kinds
    )
    absent = () if "image" in kinds else ("undefined: the test set has one label only",)
    return RocFigure("test set", lines, absent)


def class_roc(name: str, trials: Sequence[Trial], kind: Kind) -> RocFigure:
    """Return one curve per seed of a class, and their mean with a band."""
    drawn = [trial for trial in trials if f"{kind}_roc" in trial.curves]
    auroc = f"{kind}_auroc"
    lines = [
        RocLine(f"seed {trial.seed}: {metric_text(trial.value(auroc))}", *trial.curves[f"{kind}_roc"])
        for trial in drawn
    ]
    if drawn:
        mean = mean_curve([trial.curves[f"{kind}_roc"] for trial in drawn])
        lines.append(_mean_line("mean", mean, summarize(trial.value(auroc) for trial in drawn)))
    return RocFigure(f"{abbreviated(name)}: {kind} ROC by seed", tuple(lines), tuple(absent_trials(trials, kind)))


def config_roc(run: Run, config: str, kind: Kind) -> RocFigure:
    """Return one mean curve per class of a config, and the mean over classes."""
    parts = {name: _class_mean(run.of(config, name), kind) for name in run.classes(config)}
    found = {name: part for name, part in parts.items() if part}
    lines = [
        RocLine(f"{abbreviated(name)}: {spread_text(summary)}", mean.x, mean.mean)
        for name, (mean, summary) in found.items()
    ]
    if len(found) > 1:
        curves = [mean for mean, _ in found.values()]
        spread = spread_text(_over_classes(run, config, kind))
        lines.append(_mean_of(curves, f"mean of {len(found)} classes: {spread}", is_mean=True))
    title = f"{kind} ROC by class: mean ± std. dev. over n seeds"
    return RocFigure(title, tuple(lines), tuple(absent_trials(run.of(config), kind)))


def run_roc(run: Run, kind: Kind, configs: Sequence[str]) -> RocFigure:
    """Return one curve per config of `configs`, the mean over its classes."""
    lines = []
    for config in configs:
        parts = [part for name in run.classes(config) if (part := _class_mean(run.of(config, name), kind))]
        if parts:
            label = f"{abbreviated(config) or 'no name'}, {count_noun(len(parts), 'class')}"
            spread = spread_text(_over_classes(run, config, kind))
            lines.append(_mean_of([mean for mean, _ in parts], f"{label}: {spread}"))
    title = f"{kind} ROC by config: mean ± std. dev. over n seeds"
    trials = [trial for config in configs for trial in run.of(config)]
    absent, more = absent_trials(trials, kind), len(run.configs) - len(configs)
    return RocFigure(title, tuple(lines), (*absent, *([f"{more} more configs: see the table"] if more else [])))


def absent_trials(trials: Iterable[Trial], kind: Kind) -> list[str]:
    """Return which trials have no curve, and why: `missing: 2 trials (bottle seeds 0, 3)`."""
    groups: dict[str, dict[str, list[int]]] = {}
    for trial in trials:
        reason = "undefined (no curve)" if trial.is_done else trial.status.value
        if f"{kind}_roc" not in trial.curves:
            groups.setdefault(reason, {}).setdefault(trial.label, []).append(trial.seed)
    return [f"{reason}: {_names_text(seeds_of)}" for reason, seeds_of in groups.items()]


def _names_text(seeds_of: Mapping[str, Sequence[int]]) -> str:
    names = [
        f"{abbreviated(name)} seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
        for name, seeds in seeds_of.items()
    ]
    more = f"; and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{count_noun(sum(map(len, seeds_of.values())), 'trial')} ({'; '.join(names[:_MOST_NAMED])}{more})"


def _class_mean(trials: Sequence[Trial], kind: Kind) -> tuple[MeanCurve, Summary] | None:
    drawn = [trial for trial in trials if f"{kind}_roc" in trial.curves]
    if not drawn:
        return None
    mean = mean_curve([trial.curves[f"{kind}_roc"] for trial in drawn])
    return mean, summarize(trial.value(f"{kind}_auroc") for trial in drawn)


def _mean_line(name: str, mean: MeanCurve, summary: Summary) -> RocLine:
    label = f"{name}: {spread_text(summary)}"
    if mean.n < 2:
        return RocLine(label, mean.x, mean.mean, is_mean=True)
    low, high = np.clip(mean.mean - mean.std, 0, 1), np.clip(mean.mean + mean.std, 0, 1)
    return RocLine(label, mean.x, mean.mean, low, high, is_mean=True)


def _over_classes(run: Run, config: str, kind: Kind) -> Summary:
    """Return the mean over classes as in the tables, see `summaries.over_classes`."""
    return over_classes([run.of(config, name) for name in run.classes(config)], f"{kind}_auroc")[0]


def _mean_of(curves: Sequence[MeanCurve], label: str, *, is_mean: bool = False) -> RocLine:
    """Return the mean over classes: the black line among classes, or one line per config. All share a grid of rates."""
    return RocLine(label, curves[0].x, np.mean([curve.mean for curve in curves], axis=0), is_mean=is_mean)


def draw_side_by_side(plots: Sequence[RocFigure]) -> Figure:
    """Draw several ROC plots with few lines each into one figure."""
    figure = new_figure(4.6 * len(plots), 5.0)
    for ax, plot in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
        draw_roc(plot, ax)
    return figure


def draw_roc(figure: RocFigure, ax: Any = None) -> Figure:
    """Draw a ROC plot on `ax` or in a new figure; with more than six lines the legend is beside it."""
    outside = len(figure.lines) > _LEGEND_INSIDE
    ax = ax or new_figure(7.4 if outside else 4.6, 5.0).add_subplot()
    dress(ax, title=figure.title, x="false-positive rate", y="true-positive rate")
    ax.plot([0, 1], [0, 1], color=GRID, linewidth=1, zorder=1)
    for index, line in enumerate(figure.lines):
        _draw_line(ax, line, index)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), box_aspect=1)
    if figure.lines:
        place = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)} if outside else {"loc": "lower right"}
        ax.legend(fontsize=SMALL_PT, framealpha=0.9, edgecolor=GRID, labelcolor=INK, **place)
    if figure.absent:
        _draw_absent(ax, figure.absent)
    drawn: Figure = ax.figure
    return drawn


def _draw_line(ax: Any, line: RocLine, index: int) -> None:
    style = {"color": INK, "linewidth": 2.2, "zorder": 4} if line.is_mean else {"linewidth": 1.2, **line_style(index)}
    ax.plot(line.x, line.y, label=line.label, **style)
    if line.low is not None:
        ax.fill_between(line.x, line.low, line.high, color=INK, alpha=0.12, linewidth=0, label="± 1 std. dev.")


def _draw_absent(ax: Any, absent: Sequence[str]) -> None:
    text = "\n".join(f"not shown, {reason}" for reason in absent)
    ax.figure.supxlabel(_wrapped(text), fontsize=SMALL_PT, color=FAINT_INK, x=0.02, ha="left")


def _wrapped(text: str, width: int = 78) -> str:
    return "\n".join("\n".join(textwrap.wrap(line, width)) for line in text.splitlines())


_LINES = (
    ("loss", "all samples", INK),
    ("loss_nominal", "nominal", "#0072B2"),
    ("loss_anomalous", "anomalous", "#D55E00"),
)


@dataclass(frozen=True)
class History:
    """Columns of `history.parquet`: epoch, mean losses (NaN where there was no such sample), learning rate."""

    epoch: FloatArray
    loss: FloatArray
    loss_nominal: FloatArray
    loss_anomalous: FloatArray
    learning_rate: FloatArray


def read_history(leaf: Path) -> History:
    """Return a leaf's `history.parquet`."""
    table = read_table(TrialPaths(leaf).history)
    return History(**{name: table[name].to_numpy().astype(float) for name in History.__dataclass_fields__})


def draw_loss(history: History, ax: Any = None) -> Figure:
    """Draw the losses on `ax`, or in a new figure with the learning rate below them."""
    below = None
    if ax is None:
        figure = new_figure(5.6, 4.4)
        ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    dress(ax, title="training loss", x="" if below else "epoch", y="mean loss of the epoch")
    for name, label, color in _LINES:
        _draw_series(ax, history.epoch, getattr(history, name), color=color, label=label)
    ax.legend(fontsize=SMALL_PT, frameon=False, labelcolor=INK)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if below:
        dress(below, title="", x="epoch", y="learning rate")
        _draw_series(below, history.epoch, history.learning_rate, color=INK)
        if history.learning_rate.max() > 20 * history.learning_rate.min() > 0:
            below.set_yscale("log")
        # plain numbers: powers of ten would embed another font
        below.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        below.yaxis.set_minor_formatter(NullFormatter())
    drawn: Figure = ax.figure
    return drawn


def _draw_series(ax: Any, epoch: FloatArray, values: FloatArray, **style: Any) -> None:
    # markers for few epochs: a line through one point is invisible
    ax.plot(epoch, values, linewidth=1.4, marker="o" if len(epoch) < 12 else None, markersize=3, **style)
