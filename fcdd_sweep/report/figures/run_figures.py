"""Figures of classes, configs and the whole run: drawn into their folders, and embedded in the page."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fcdd_sweep.config.errors import short_error
from fcdd_sweep.report.class_scores import read_seed_scores
from fcdd_sweep.report.config_ranks import RankedConfig
from fcdd_sweep.report.figures.color_maps import low_high
from fcdd_sweep.report.figures.contact_sheet import (
    CELL,
    MOST_LARGE,
    SMALL_CELL,
    ContactSheet,
    contact_sheet,
    with_decisions,
)
from fcdd_sweep.report.figures.figure_cache import FigureCache
from fcdd_sweep.report.figures.heatmaps import TrialMaps, class_strips, read_maps, scored_anew
from fcdd_sweep.report.figures.image_grid import draw_strips
from fcdd_sweep.report.figures.roc import Kind, RocFigure, class_roc, config_roc, draw_roc, draw_side_by_side, run_roc
from fcdd_sweep.report.figures.style import Look, save, save_picture, use_look
from fcdd_sweep.report.run_files import UNREADABLE, Run, Trial

ROC_FILE, PIXEL_ROC_FILE, HEATMAPS_FILE = "roc.pdf", "pixel_roc.pdf", "heatmaps.png"
KINDS: tuple[Kind, ...] = ("image", "pixel")
MOST_CLASSES = 100
"""Largest number of classes, over all configs, that are drawn: each takes time and a share of the page, which could
not be opened with all classes of hundreds of configs."""
MOST_LINES = 30
"""Configs in one plot, the best ones: more lines cannot be told apart."""


@dataclass(frozen=True)
class RunFigures:
    """What was drawn for a run.

    Attributes:
        configs: those that were drawn, the best first: as many as have at most `MOST_CLASSES` classes in all, but at
            least one.
        sheets: small pictures for the page, by config and class; classes without images have none.
        problems: sentences on trials whose figures could not be drawn.
        embed: whether the page holds full-size images, too.
    """

    configs: tuple[str, ...] = ()
    sheets: Mapping[tuple[str, str], ContactSheet] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    embed: bool = False


def draw_run(run: Run, ranked: Sequence[RankedConfig], *, anew: bool = False) -> RunFigures:
    """Draw the figures of run, configs and classes whose inputs have changed since they were drawn.

    Args:
        run: with the trials whose test metrics may be shown.
        ranked: its configs, from `ranked_configs`.
        anew: whether all are drawn again.
    """
    look, cache = use_look(run.experiment.report.style), FigureCache(run, anew=anew)
    problems: list[str] = []
    drawn = drawn_configs(run, ranked)
    sheets = {}
    cell = CELL if sum(len(run.classes(config)) for config in drawn) <= MOST_LARGE else SMALL_CELL
    for config in drawn:
        folder, key = config_folder(run, config), cache.key(run.of(config))
        if not cache.is_drawn(f"config {config}", key):
            draw_kinds([config_roc(run, config, kind) for kind in KINDS], folder, look)
            cache.drawn(f"config {config}", key, [folder / name for name in (ROC_FILE, PIXEL_ROC_FILE)])
        for name in run.classes(config):
            if sheet := _class_sheet(run, (config, name), cache, problems, (look, cell)):
                sheets[config, name] = sheet
    _remove_figures(run, [config for config in run.configs if config not in drawn])
    if run.configs != [""]:
        shown = drawn[:MOST_LINES]
        key = cache.key([trial for config in shown for trial in run.of(config)], len(run.configs))
        if not cache.is_drawn("run", key):
            draw_kinds([run_roc(run, kind, shown) for kind in KINDS], run.path, look)
            cache.drawn("run", key, [run.path / name for name in (ROC_FILE, PIXEL_ROC_FILE)])
    cache.write()
    return RunFigures(tuple(drawn), sheets, tuple(problems))


def _class_sheet(
    run: Run, of: tuple[str, str], cache: FigureCache, problems: list[str], sizes: tuple[Look, int]
) -> ContactSheet | None:
    """Return the contact sheet of a class, and draw its figures where their inputs have changed; see `draw_class`."""
    trials, before = run.of(*of), len(problems)
    name, key = f"class {of[1]} of {of[0]}", cache.key(trials, sizes[1])
    if cache.is_drawn(name, key):
        return cache.sheet(name)
    sheet = draw_class(run, *of, problems, sizes)
    if len(problems) == before:  # what could not be read is tried again
        folder = run.path / trials[0].class_folder
        cache.drawn(name, key, [folder / file for file in (ROC_FILE, HEATMAPS_FILE)], sheet)
    return sheet


def drawn_configs(run: Run, ranked: Sequence[RankedConfig]) -> list[str]:
    """Return the names of the configs that are drawn, see `RunFigures.configs`."""
    counts = itertools.accumulate(len(run.classes(each.config)) for each in ranked)
    return [
        each.config
        for position, (each, count) in enumerate(zip(ranked, counts, strict=True))
        if position == 0 or count <= MOST_CLASSES
    ]


def _remove_figures(run: Run, configs: Sequence[str]) -> None:
    """Remove figures drawn when the run had fewer configs."""
    for config in configs:
        classes = [run.path / run.of(config, name)[0].class_folder for name in run.classes(config)]
        folders = [classes[0].parent, *classes]
        for path in (folder / name for folder in folders for name in (ROC_FILE, PIXEL_ROC_FILE, HEATMAPS_FILE)):
            path.unlink(missing_ok=True)


def config_folder(run: Run, config: str) -> Path:
    """Return the folder of a config's figures, which holds those of its classes; with one config the run's own."""
    return run.path / run.of(config)[0].class_folder.rpartition("/")[0]


def draw_kinds(plots: Sequence[RocFigure], folder: Path, look: Look) -> None:
    """Draw the ROC plots of images and of pixels into a folder; remove one of an earlier state that has no line."""
    for plot, name in zip(plots, (ROC_FILE, PIXEL_ROC_FILE), strict=True):
        if plot.lines:
            save(draw_roc(plot, look), folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def draw_class(run: Run, config: str, name: str, problems: list[str], sizes: tuple[Look, int]) -> ContactSheet | None:
    """Draw the ROC plots and the heatmaps of a class, all of its seeds; return its contact sheet, if it has images.

    Args:
        run, config, name: of the class.
        problems: gets a sentence for each trial whose images cannot be read.
        sizes: look of plots, and side of a cell of the contact sheet in pixels.
    """
    trials = run.of(config, name)
    folder = run.path / trials[0].class_folder
    plots = [plot for kind in KINDS if (plot := class_roc(name, trials, kind)).lines]
    if plots:
        save(draw_side_by_side(plots, sizes[0]), folder / ROC_FILE)
    else:
        (folder / ROC_FILE).unlink(missing_ok=True)
    seeds = [(trial, maps) for trial in trials if trial.is_done and (maps := maps_of(run, trial, problems))]
    return _draw_images(run, seeds, folder / HEATMAPS_FILE, sizes[1])


def _draw_images(run: Run, seeds: Sequence[tuple[Trial, TrialMaps]], path: Path, cell: int) -> ContactSheet | None:
    """Draw the grid of a class into a file, and return its contact sheet."""
    display = run.experiment.heatmaps
    named = [(f"seed {trial.seed}", maps) for trial, maps in seeds]
    strips = class_strips(named, display.color_quantile) if named else []
    if not strips:
        path.unlink(missing_ok=True)
        return None
    note = f"Colors: each seed spans the range of its own reference images, {low_high(display.color_map)}."
    save_picture(draw_strips(strips, note=note, color_map=display.color_map), path)
    sheet = contact_sheet(named, display.color_quantile, cell)
    try:
        return None if sheet is None else with_decisions(sheet, read_seed_scores(seeds[0][0]))
    except UNREADABLE:
        return sheet  # the page names the file


def maps_of(run: Run, trial: Trial, problems: list[str]) -> TrialMaps | None:
    """Return the maps and present scores of a finished trial's test images.

    None, with a sentence in `problems`, if they are damaged.
    """
    display = run.experiment.heatmaps
    try:
        maps = read_maps(run.path / trial.leaf, blurred=display.blur, color_map=display.color_map)
        return scored_anew(maps, trial)
    except UNREADABLE as error:
        problems.append(f"{trial.leaf} is not in the heatmap grid: {short_error(error)}")
        return None
