"""The figures of a search: which apply, drawn into RUN/search as PDF and PNG, and embedded in the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from fcdd_sweep.config.search_schema import ORACLE_METRICS, SEARCH_METRICS
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.report.figures.style import as_svg_uri, lay_out, save
from fcdd_sweep.report.search.confirmation import draw_confirmation
from fcdd_sweep.report.search.marks import metric_name
from fcdd_sweep.report.search.numbers import LIMIT, enough_text, level_rows, write_search_tables
from fcdd_sweep.report.search.parallel import draw_parallel
from fcdd_sweep.report.search.plots import draw_importance, draw_levels, draw_optimization, draw_pruning, draw_slices
from fcdd_sweep.report.search.record import SearchRecord
from fcdd_sweep.report.search.two_way import Pair, draw_pair, draw_pareto, pair_of, surface_note
from fcdd_sweep.results.files import TableRow

_ENDINGS = (".pdf", ".png")
_ONCE = ("confirmation", "course", "importance", "pareto", "pruning")
_LEAST = 2
"""Fewest configs with a value for a plot over keys."""
LEAST_FOR_IMPORTANCE = 10
"""Fewest configs from which the importance of keys says anything."""
_BY_METRIC = ("levels", "pair", "slices", "parallel")


@dataclass(frozen=True)
class SearchPicture:
    """A figure for the page.

    Attributes:
        name: of the file, without suffix.
        title: of the figure.
        address: the figure as a `data:` address.
        caption: what to know when reading it; may be empty.
    """

    name: str
    title: str
    address: str
    caption: str


@dataclass(frozen=True)
class _Plot:
    """A figure before it is drawn."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


def _file(name: str, index: int) -> str:
    """Return the file name of the index-th metric's figure: those of the second end in `-2`."""
    return f"{name}-{index + 1}" if index else name


SEARCH_PICTURES = tuple(
    f"{name}{ending}"
    for name in (
        *_ONCE,
        *(_file(name, i) for name in _BY_METRIC for i in range(len(SEARCH_METRICS) + len(ORACLE_METRICS))),
    )
    for ending in _ENDINGS
)
"""File names of all figures that a search may have."""


def draw_search(search: SearchRecord) -> tuple[SearchPicture, ...]:
    """Write the tables behind the figures, then the figures; remove those of an earlier state that no longer apply."""
    indices = range(len(search.metrics))
    pairs = {index: pair for index in indices if (pair := pair_of(search, index))}
    write_search_tables(search, [cell for pair in pairs.values() for cell in pair.cells])
    plots = [*_plots_of_study(search), *(plot for index in indices for plot in _plots_of_metric(search, index, pairs))]
    drawn = tuple(_drawn(search, plot) for plot in plots)
    written = {f"{picture.name}{ending}" for picture in drawn for ending in _ENDINGS}
    for name in set(SEARCH_PICTURES) - written:
        (search.path / name).unlink(missing_ok=True)
    return drawn


def _drawn(search: SearchRecord, plot: _Plot) -> SearchPicture:
    figure = lay_out(plot.draw())
    for ending in _ENDINGS:
        save(figure, search.path / f"{plot.name}{ending}")
    return SearchPicture(plot.name, plot.title, as_svg_uri(figure), plot.caption)


def _plots_of_study(search: SearchRecord) -> Iterator[_Plot]:
    confirmation = draw_confirmation(search)
    if confirmation is not None:
        caption = (
            "Differences are paired: both configs were trained on the same class and seed. The interval of a class is "
            "Student's t over its seeds. That of all classes is of the mean over them, from the spread within each "
            "class; of several configs it is corrected for the number of pairs. They hold for new seeds on these "
            "classes."
        )
        yield _Plot("confirmation", "Best and default on fresh seeds", caption, lambda: confirmation)
    if search.configs:
        yield _Plot("course", "Course of the search", "", partial(draw_optimization, search))
    if search.importance and len(search.configs) >= LEAST_FOR_IMPORTANCE:
        yield _Plot("importance", "Importance of the searched keys", "", partial(draw_importance, search))
    if len(search.metrics) > 1 and _has_values(search, 0):
        caption = "Numbers beside points are those of configs."
        yield _Plot("pareto", "Pareto set", caption, partial(draw_pareto, search))
    if search.summary.pruning:
        yield _Plot("pruning", "Pruning", pruning_text(search), partial(draw_pruning, search))


def _plots_of_metric(search: SearchRecord, index: int, pairs: Mapping[int, Pair]) -> Iterator[_Plot]:
    if np.sum(~np.isnan(search.values(index))) < _LEAST:
        return
    metric, name = search.metrics[index], metric_name(search.metrics[index])
    levels = [row for row in level_rows(search) if row["key"] == LIMIT and row["metric"] == metric]
    if levels:
        yield _Plot(
            _file("levels", index),
            f"{name} by {LIMIT}",
            _levels_caption(levels, float(search.sign[index])),
            partial(draw_levels, levels, metric),
        )
    if pair := pairs.get(index):
        keys = f"{pair.x.key} and {pair.y.key}"
        draw = partial(draw_pair, search, index, pair)
        yield _Plot(_file("pair", index), f"{name} over {keys}", surface_note(pair), draw)
    if search.axes:
        slices, lines = partial(draw_slices, search, index), partial(draw_parallel, search, index)
        yield _Plot(_file("slices", index), f"{name} by each key", "", slices)
        yield _Plot(_file("parallel", index), f"{name} over all keys", "", lines)


def _has_values(search: SearchRecord, index: int) -> bool:
    return not bool(np.isnan(search.values(index)).all())


def _levels_caption(levels: Sequence[TableRow], sign: float) -> str:
    return (
        f"{enough_text(levels, sign)} n is the number of configs with a value, in brackets those without. A search "
        "tries good settings more often, and the best of many configs is higher by chance than the best of few."
    ).strip()


def pruning_text(search: SearchRecord) -> str:
    """Return how many configs pruning stopped and what it saved; empty when it was off."""
    pruning = search.summary.pruning
    if not pruning:
        return ""
    trained, saved = pruning.epochs_trained, pruning.epochs_saved
    share = f" ({100 * saved / (trained + saved):.0f}% of all)" if trained + saved else ""
    configs = count_noun(pruning.configs, "config")
    return f"Given up early: {configs}. Epochs: {saved:,} saved{share}, {trained:,} trained."
