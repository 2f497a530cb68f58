"""The loss of a trial over its epochs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.report.style import INK, SMALL_PT, dress, new_figure
from fcdd_sweep.results import tree
from fcdd_sweep.results.files import read_table

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
    table = read_table(leaf / tree.HISTORY)
    return History(**{name: table[name].to_numpy().astype(float) for name in History.__dataclass_fields__})


def draw_loss(history: History, ax: Any = None) -> Figure:
    """Losses above; when a figure is made for them, the learning rate below."""
    below = None
    if ax is None:
        figure = new_figure(5.6, 4.4)
        ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    dress(ax, title="training loss", x="" if below else "epoch", y="mean loss of the epoch")
    for name, label, colour in _LINES:
        _draw_series(ax, history.epoch, getattr(history, name), color=colour, label=label)
    ax.legend(fontsize=SMALL_PT, frameon=False, labelcolor=INK)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if below:
        dress(below, title="", x="epoch", y="learning rate")
        _draw_series(below, history.epoch, history.learning_rate, color=INK)
        if history.learning_rate.max() > 20 * history.learning_rate.min() > 0:
            below.set_yscale("log")
        # plain numbers: powers of ten would bring another font into the file
        below.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        below.yaxis.set_minor_formatter(NullFormatter())
    drawn: Figure = ax.figure
    return drawn


def _draw_series(ax: Any, epoch: FloatArray, values: FloatArray, **style: Any) -> None:
    # a line needs two points: few epochs are marked
    ax.plot(epoch, values, linewidth=1.4, marker="o" if len(epoch) < 12 else None, markersize=3, **style)
