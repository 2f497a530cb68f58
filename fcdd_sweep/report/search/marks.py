"""Shared by the plots of a search: marks of states, colors of values, names of keys and metrics, scales."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.report.figures.style import FAINT_INK, INK, LINE_COLORS, SMALL_PT
from fcdd_sweep.report.search.axes import PlotAxis
from fcdd_sweep.report.search.record import ORACLE_MARK, SearchRecord
from fcdd_sweep.report.text import NOT_DEFINED
from fcdd_sweep.results.documents import ConfigState

BoolArray = npt.NDArray[np.bool_]
DONE_COLOR, BEST_COLOR, DEFAULT_COLOR = LINE_COLORS[0], LINE_COLORS[1], INK
STATE_MARKS: dict[ConfigState, dict[str, Any]] = {
    ConfigState.PRUNED: {"marker": "v", "color": LINE_COLORS[5]},
    ConfigState.FAILED: {"marker": "X", "color": LINE_COLORS[3]},
    ConfigState.RUNNING: {"marker": "o", "color": FAINT_INK, "markerfacecolor": "none"},
    ConfigState.INCOMPLETE: {"marker": "s", "color": FAINT_INK, "markerfacecolor": "none"},
}
"""Marks of configs without a value, by state; shapes differ as well as colors."""
_MOST_TICKS = 12
_CHARACTER_IN, _HANDLE_IN = 0.062, 0.62
"""Most inches that a character and the mark of a legend's entry take."""
_NAMES = {"auroc": "AUROC", "ap": "AP", "s": "(s)"}


def metric_name(metric: str) -> str:
    """Return a metric's name for readers: `validation image AUROC` for `validation_image_auroc`."""
    return " ".join(_NAMES.get(word, word) for word in metric.replace("/", " ").split("_"))


def marked(title: str, metric: str) -> str:
    """Return a title, with `ORACLE_MARK` when the metric uses the test set."""
    return f"{title}\n({ORACLE_MARK})" if metric.startswith("oracle/") else title


def key_name(key: str) -> str:
    """Return a key's name for readers: `learning rate` for `training.learning_rate`."""
    return key.rpartition(".")[2].replace("_", " ")


def metric_value_text(value: float | None) -> str:
    """Return a metric's value: three decimals, three digits for large and small numbers, n/a where undefined."""
    if value is None or np.isnan(value):
        return NOT_DEFINED
    return f"{value:.3f}" if value == 0 or 0.01 <= abs(value) < 10 else f"{value:.3g}"


def colors_of(values: FloatArray, sign: float) -> tuple[Any, Normalize]:
    """Return color map and scale of values: the better, the darker; outliers share the lightest color."""
    listed = matplotlib.colormaps["viridis"](np.linspace(0.92, 0.05, 256))
    table = LinearSegmentedColormap.from_list("value", listed if sign > 0 else listed[::-1])
    low, high = shown_range(values, sign)
    return table, Normalize(low, high, clip=True)


def shown_range(values: FloatArray, sign: float) -> tuple[float, float]:
    """Return the range of all values but those that are far worse than the others."""
    known = values[~np.isnan(values)]
    if not len(known):
        return 0.0, 1.0
    better = sign * known
    lower, middle = np.percentile(better, (25, 50))
    reach = max(3 * (middle - lower), 1.5 * (better.max() - middle))
    ends = sign * np.array([max(better.min(), middle - reach), better.max()])
    low, high = float(ends.min()), float(ends.max())
    if high > low:
        return low, high
    return low - abs(low) * 0.05 - 1e-6, high + abs(high) * 0.05 + 1e-6


def limit_values(ax: Any, values: FloatArray, errors: FloatArray, sign: float) -> FloatArray:
    """Set the y axis to `shown_range` and return the values clipped to it."""
    low, high = shown_range(values, sign)
    error = np.nan_to_num(errors)
    inside = (values >= low) & (values <= high)
    top = max([high, *(values + error)[inside]])
    bottom = min([low, *(values - error)[inside]])
    room = 0.06 * (top - bottom)
    ax.set_ylim(bottom - room, top + room)
    return np.clip(values, low, high)


def out_of_range(values: FloatArray, sign: float) -> BoolArray:
    """Return (N,) bool: which values are outside `shown_range`."""
    low, high = shown_range(values, sign)
    return (values < low) | (values > high)


def dress_axis(ax: Any, axis: PlotAxis, side: str = "x", *, wide: bool = False) -> None:
    """Set scale, ticks and limits of a searched key along one side of a plot; `wide`: with more ticks."""
    own = ax.xaxis if side == "x" else ax.yaxis
    set_limits = ax.set_xlim if side == "x" else ax.set_ylim
    if axis.choices:
        texts = [shorten(text) for text in axis.choices]
        steps = range(0, len(texts), -(-len(texts) // _MOST_TICKS))
        own.set_major_locator(FixedLocator(list(steps)))
        own.set_major_formatter(FixedFormatter([texts[step] for step in steps]))
        set_limits(-0.6, len(texts) - 0.4)
        if side == "x" and sum(len(texts[step]) for step in steps) > 28:
            ax.tick_params(axis="x", labelrotation=30)
            for label in ax.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        return
    if not axis.high > axis.low:
        return
    if axis.log:
        (ax.set_xscale if side == "x" else ax.set_yscale)("log")
        ticks = log_ticks(axis.low, axis.high, wide=wide)
        own.set_major_locator(FixedLocator(ticks))
        own.set_minor_locator(NullLocator())
        own.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
        room = (axis.high / axis.low) ** 0.05
        set_limits(axis.low / room, axis.high * room)
    else:
        own.set_major_locator(MaxNLocator(5))
        room = 0.05 * (axis.high - axis.low)
        set_limits(axis.low - room, axis.high + room)


def log_ticks(low: float, high: float, *, wide: bool) -> list[float]:
    """Return round numbers within a range; over two decades (in a wide plot four) only powers of ten."""
    decades = np.log10(high / low) / (2 if wide else 1)
    steps = (1.0,) if decades > 2 else (1.0, 3.0) if decades > 0.9 else (1.0, 2.0, 5.0)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
    return found if len(found) > 1 else [low, high]


def shorten(text: str, most: int = 16) -> str:
    """Return a text of at most `most` characters, cut with an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def counts_of_states(search: SearchRecord) -> str:
    """Return how many configs have each state: `180 done, 8 failed, 12 pruned`."""
    states = search.states
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))


def legend_below(figure: Figure, handles: list[Any]) -> None:
    """Draw one legend below all plots of a figure, in as many columns as fit its width."""
    if handles:
        widest = max(len(str(handle.get_label())) for handle in handles) * _CHARACTER_IN + _HANDLE_IN
        columns = min(len(handles), max(1, int(figure.get_figwidth() / widest)))
        layout = {"loc": "outside lower center", "ncols": columns}
        figure.legend(handles=handles, fontsize=SMALL_PT, frameon=False, labelcolor=INK, **layout)


def mark_handle(label: str, **style: Any) -> Line2D:
    """Return a legend's entry for points."""
    return Line2D([], [], linestyle="none", label=label, **{"markersize": 6, **style})


def no_grid(ax: Any, side: str) -> None:
    """Remove grid lines and tick marks of one axis, `x` or `y`."""
    ax.grid(visible=False, axis=side)
    ax.tick_params(axis=side, length=0)


def hide_frame(ax: Any) -> None:
    """Remove frame and ticks, for plots that draw their own axes."""
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)


def edge_of(n: int) -> dict[str, Any]:
    """Return the style of n points: many are drawn small and with a thin edge."""
    if n > 60:
        return {"s": 16, "linewidths": 0.3, "edgecolors": "white", "alpha": 0.85}
    return {"s": 34, "linewidths": 0.6, "edgecolors": "white", "alpha": 1.0}
