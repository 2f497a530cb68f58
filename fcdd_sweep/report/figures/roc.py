"""ROC plots of a trial, a class, a config and a run; loss and scores of a trial. Means are taken at equal rates."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.curves import MeanCurve, mean_curve
from fcdd_sweep.metrics.ranking import FloatArray, area
from fcdd_sweep.metrics.statistics import Summary, summarize
from fcdd_sweep.report.class_scores import SeedScores
from fcdd_sweep.report.figures.plot_frame import FrameAxis, LegendEntry, PlotFrame, WrittenLine, legend_size
from fcdd_sweep.report.figures.style import (
    FAINT_INK,
    GRID,
    INK,
    SCREEN,
    Look,
    dress,
    line_style,
    place_axes,
    plain_figure,
)
from fcdd_sweep.report.run_files import XY, Run, Trial
from fcdd_sweep.report.summaries import over_classes
from fcdd_sweep.report.text import abbreviated, class_text, config_words, metric_text, score_text, spread_text
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
    return RocFigure(
        f"{abbreviated(class_text(name))}: {kind} ROC by seed", tuple(lines), tuple(absent_trials(trials, kind))
    )


def config_roc(run: Run, config: str, kind: Kind) -> RocFigure:
    """Return one mean curve per class of a config, and the mean over classes."""
    parts = {name: _class_mean(run.of(config, name), kind) for name in run.classes(config)}
    found = {name: part for name, part in parts.items() if part}
    lines = [
        RocLine(f"{abbreviated(class_text(name))}: {spread_text(summary)}", mean.x, mean.mean)
        for name, (mean, summary) in found.items()
    ]
    if len(found) > 1:
        curves = [mean for mean, _ in found.values()]
        spread = spread_text(_over_classes(run, config, kind))
        band = _seed_band([run.of(config, name) for name in found], kind)
        lines.append(_mean_of(curves, f"mean of {len(found)} classes: {spread}", band, is_mean=True))
    title = f"{kind} ROC by class: mean ± std. dev. over n seeds"
    return RocFigure(title, tuple(lines), tuple(absent_trials(run.of(config), kind)))


def run_roc(run: Run, kind: Kind, configs: Sequence[str]) -> RocFigure:
    """Return one curve per config of `configs`, the mean over its classes."""
    lines = []
    for config in configs:
        found = {
            name: part for name in run.classes(config) if (part := _class_mean(run.of(config, name), kind)) is not None
        }
        parts = list(found.values())
        if parts:
            name = abbreviated(config_words(config, run.parameters(config))) or "no name"
            label = f"{name}, {count_noun(len(parts), 'class')}"
            spread = spread_text(_over_classes(run, config, kind))
            band = _seed_band([run.of(config, name) for name in found], kind)
            lines.append(_mean_of([mean for mean, _ in parts], f"{label}: {spread}", band))
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


def _mean_of(curves: Sequence[MeanCurve], label: str, spread: FloatArray | None, *, is_mean: bool = False) -> RocLine:
    """Return the mean over classes: the black line among classes, or one line per config. All share a grid of rates.

    Args:
        curves: of the classes.
        label: of the line.
        spread: half the height of its band, at the same rates.
        is_mean: whether it is the mean of other lines in the figure.
    """
    mean = np.mean([curve.mean for curve in curves], axis=0)
    if spread is None:
        return RocLine(label, curves[0].x, mean, is_mean=is_mean)
    return RocLine(label, curves[0].x, mean, np.clip(mean - spread, 0, 1), np.clip(mean + spread, 0, 1), is_mean)


def _seed_band(by_class: Sequence[Sequence[Trial]], kind: Kind) -> FloatArray | None:
    """Return the standard deviation over seeds of the mean curve over classes; None with fewer than two whole seeds."""
    curves = [
        {trial.seed: trial.curves[f"{kind}_roc"] for trial in trials if f"{kind}_roc" in trial.curves}
        for trials in by_class
    ]
    seeds = sorted(set.intersection(*(set(each) for each in curves))) if curves else []
    if len(seeds) < 2:
        return None
    means = [mean_curve([each[seed] for each in curves]) for seed in seeds]
    return mean_curve([(mean.x, mean.mean) for mean in means]).std


def draw_side_by_side(plots: Sequence[RocFigure], look: Look = SCREEN) -> Figure:
    """Draw several ROC plots into one figure, each with its legend; in a paper's look one below another."""
    if not look.title:
        sizes = [_size(plot, look) for plot in plots]
        figure = plain_figure(max(width for width, _ in sizes), sum(height for _, height in sizes))
        top = float(figure.get_size_inches()[1])
        for plot, (_, height) in zip(plots, sizes, strict=True):
            top -= height
            _draw_at(figure, plot, (0.0, top, height), look)
        return figure
    sizes = [_size(plot, look) for plot in plots]
    figure = plain_figure(sum(width for width, _ in sizes), max(height for _, height in sizes))
    left = 0.0
    for plot, (width, _) in zip(plots, sizes, strict=True):
        _draw_at(figure, plot, (left, 0.0, float(figure.get_size_inches()[1])), look)
        left += width
    return figure


def draw_roc(plot: RocFigure, look: Look = SCREEN) -> Figure:
    """Draw a ROC plot; with more than six lines the legend is beside it, in a paper's look always below."""
    return draw_side_by_side([plot], look)


_LEFT, _BOTTOM, _TOP, _RIGHT = 0.62, 0.55, 0.35, 0.12
"""Margins of the axes in inches: room for numbers, names and the title."""
_LINE_HEIGHT = 1.45
"""Height of a line of text as a share of its size."""
_RATES = FrameAxis("", -0.01, 1.01, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), ("0.0", "0.2", "0.4", "0.6", "0.8", "1.0"))
_BAND = "± 1 std. dev."
_BESIDE, _BELOW = 0.1, 0.1
"""Room in inches around a legend outside of the axes."""


def _side(look: Look) -> float:
    return look.width_in - _LEFT - _RIGHT


def _top(look: Look) -> float:
    return _TOP if look.title else 0.1


def _labels(plot: RocFigure) -> list[str]:
    bands = [_BAND] if any(line.low is not None for line in plot.lines) else []
    return [*(line.label for line in plot.lines), *bands]


def _notes(plot: RocFigure, look: Look) -> list[str]:
    """Return the lines below a plot on what it does not show."""
    width = int(72 * (look.width_in - 0.1) / (0.58 * look.small_pt))
    return [line for reason in plot.absent for line in textwrap.wrap(f"not shown, {reason}", width)]


def _is_beside(plot: RocFigure, look: Look) -> bool:
    return look.title and len(plot.lines) > _LEGEND_INSIDE


def _is_below(plot: RocFigure, look: Look) -> bool:
    """Return whether the legend is below the axes: where it does not fit into the lower right corner."""
    is_wide = legend_size(_labels(plot), look)[0] > _side(look)
    return bool(plot.lines) and not _is_beside(plot, look) and (not look.title or is_wide)


def _size(plot: RocFigure, look: Look) -> tuple[float, float]:
    """Return width and height of a plot with its legend and its notes, in inches."""
    legend = legend_size(_labels(plot), look)
    notes = len(_notes(plot, look)) * _LINE_HEIGHT * look.small_pt / 72
    below = legend[1] + _BELOW if _is_below(plot, look) else 0.0
    height = max(look.height_in, _top(look) + _side(look) + _BOTTOM) + notes + below
    if not _is_beside(plot, look):
        return max(look.width_in, legend[0] + 0.2 if below else 0.0), height
    return look.width_in + legend[0] + 2 * _BESIDE, max(height, legend[1] + 0.4)


def _draw_at(figure: Figure, plot: RocFigure, place: tuple[float, float, float], look: Look) -> None:
    """Draw a plot at `place`: its left edge, its lower edge and its height in inches."""
    left, bottom, height = place
    side = _side(look)
    lower = bottom + height - _top(look) - side
    axes = (replace(_RATES, name="false-positive rate"), replace(_RATES, name="true-positive rate"))
    frame = PlotFrame(figure, left + _LEFT, lower, side, side, *axes, look)
    frame.draw(plot.title)
    frame.line([0, 1], [0, 1], color=GRID, linewidth=1, zorder=1)
    styles = [_style(line, index, look) for index, line in enumerate(plot.lines)]
    for line, style in zip(plot.lines, styles, strict=True):
        frame.line(line.x, line.y, **style)
        if line.low is not None and line.high is not None:
            frame.band(line.x, line.low, line.high, **_band_style(style))
    below = lower - _BOTTOM
    if plot.lines:
        _draw_legend(frame, plot, styles, (left + 0.1, below))
    if _is_below(plot, look):
        below -= legend_size(_labels(plot), look)[1] + _BELOW
    em = look.small_pt / 72
    lines = [(text, below - (number * _LINE_HEIGHT - 0.3) * em) for number, text in enumerate(_notes(plot, look), 1)]
    frame.write(WrittenLine(text, left + 0.1, y, look.small_pt, FAINT_INK) for text, y in lines)


def _draw_legend(
    frame: PlotFrame, plot: RocFigure, styles: Sequence[dict[str, Any]], below: tuple[float, float]
) -> None:
    """Draw the legend beside the axes, below them at `below`, or into their empty corner."""
    entries = [LegendEntry(line.label, style) for line, style in zip(plot.lines, styles, strict=True)]
    bands = [style for line, style in zip(plot.lines, styles, strict=True) if line.low is not None]
    entries += [LegendEntry(_BAND, _band_style(style), is_area=True) for style in bands[:1]]
    labels = [entry.label for entry in entries]
    if _is_beside(plot, frame.look):
        frame.legend(entries, (frame.left + frame.width + _BESIDE, frame.bottom + frame.height + 0.05))
    elif _is_below(plot, frame.look):
        frame.legend(entries, below, is_framed=False)
    else:
        frame.legend(entries, frame.corner(labels))


def _style(line: RocLine, index: int, look: Look) -> dict[str, Any]:
    mean: dict[str, Any] = {"color": INK, "linewidth": 2.2, "zorder": 4}
    own = mean if line.is_mean else {"linewidth": 1.2, **line_style(index)}
    return own | {"linewidth": own["linewidth"] * look.line}


def _band_style(style: Mapping[str, Any]) -> dict[str, Any]:
    return {"facecolor": style["color"], "alpha": 0.12, "linewidth": 0}


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


def draw_loss(history: History, look: Look = SCREEN) -> Figure:
    """Draw the losses with the learning rate below them."""
    width, height = (5.6, 4.4) if look.title else (look.width_in, 2.6)
    figure = plain_figure(width, height)
    left, right = 0.75, 0.12
    lower = 0.2 * height
    below = place_axes(figure, left, 0.5, width - left - right, lower)
    top = 0.35 if look.title else 0.1
    above = place_axes(figure, left, 0.5 + lower + 0.18, width - left - right, height - lower - 0.68 - top)
    dress(above, title="training loss", x="", y="mean loss", look=look)
    for name, label, color in _LINES:
        _draw_series(above, history.epoch, getattr(history, name), color=color, label=label)
    above.legend(fontsize=look.small_pt, frameon=False, labelcolor=INK)
    above.tick_params(labelbottom=False)
    dress(below, title="", x="epoch", y="rate", look=look)
    _draw_series(below, history.epoch, history.learning_rate, color=INK)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    above.set_xlim(below.get_xlim())
    above.set_xticks([tick for tick in below.get_xticks() if below.get_xlim()[0] <= tick <= below.get_xlim()[1]])
    if history.learning_rate.max() > 20 * history.learning_rate.min() > 0:
        below.set_yscale("log")
    # plain numbers: powers of ten would embed another font
    below.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    below.yaxis.set_minor_formatter(NullFormatter())
    return figure


def draw_scores(scores: SeedScores, look: Look = SCREEN) -> Figure:
    """Draw the shares of nominal and of anomalous test images by score, with the threshold."""
    width, height = (5.6, 3.4) if look.title else (look.width_in, 2.4)
    figure = plain_figure(width, height)
    left, right, top = 0.75, 0.12, 0.35 if look.title else 0.1
    ax = place_axes(figure, left, 0.5, width - left - right, height - 0.5 - top)
    dress(ax, title="scores of test images", x="anomaly score", y="share of its images", look=look)
    cut = scores.threshold
    edges = np.histogram_bin_edges([*scores.score, *([] if cut is None else [cut])], 30)
    for label, (_, name, color) in enumerate(_LINES[1:]):
        own = scores.score[scores.label == label]
        if len(own):
            share = np.histogram(own, edges)[0] / len(own)
            ax.stairs(share, edges, fill=True, color=color, alpha=0.25, linewidth=0)
            ax.stairs(share, edges, color=color, linewidth=1.2 * look.line, label=f"{name} (n={len(own)})")
    if cut is not None:
        style: dict[str, Any] = {"color": INK, "linestyle": (0, (4, 1.5)), "linewidth": 1.2 * look.line}
        ax.axvline(cut, label=f"threshold {score_text(cut)}", **style)
    ax.set_ylim(bottom=0)
    if ax.get_legend_handles_labels()[0]:  # a class without test images and threshold has nothing to name
        ax.legend(fontsize=look.small_pt, frameon=False, labelcolor=INK)
    return figure


def _draw_series(ax: Any, epoch: FloatArray, values: FloatArray, **style: Any) -> None:
    # markers for few epochs: a line through one point is invisible
    ax.plot(epoch, values, linewidth=1.4, marker="o" if len(epoch) < 12 else None, markersize=3, **style)
