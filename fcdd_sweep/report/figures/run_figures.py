"""Figures of classes, configs and the whole run: drawn into their folders, and embedded in the page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcdd_sweep.config.errors import short_error
from fcdd_sweep.report.figures.heatmaps import TrialMaps, class_strips, read_maps
from fcdd_sweep.report.figures.image_grid import draw_strips
from fcdd_sweep.report.figures.roc import Kind, RocFigure, class_roc, config_roc, draw_roc, draw_side_by_side, run_roc
from fcdd_sweep.report.figures.style import as_jpeg_uri, as_svg_uri, lay_out, save
from fcdd_sweep.report.figures.trial_figures import draw_trial
from fcdd_sweep.report.run_files import UNREADABLE, Run, Trial

ROC_FILE, PIXEL_ROC_FILE, HEATMAPS_FILE = "roc.pdf", "pixel_roc.pdf", "heatmaps.png"
KINDS: tuple[Kind, ...] = ("image", "pixel")
MOST_CLASSES = 100
"""Largest number of classes, over all configs, that are drawn. Each takes about a second and a share of the page: all
classes of a search over hundreds of configs would take hours, and the page could not be opened."""


@dataclass(frozen=True)
class ClassFigures:
    """`data:` addresses of a class's figures; empty when there is nothing to show."""

    normal_class: str
    roc: str
    heatmaps: str


@dataclass(frozen=True)
class ConfigFigures:
    """`data:` addresses of a config's ROC plots by kind, and the figures of its classes."""

    config: str
    roc: dict[Kind, str]
    classes: tuple[ClassFigures, ...]


@dataclass(frozen=True)
class RunFigures:
    """Everything drawn for a run.

    Attributes:
        roc: by kind, one curve per drawn config; empty when there is one config.
        configs: the first of the plan, up to `MOST_CLASSES` classes in all, but at least one config.
        problems: sentences on trials whose figures could not be drawn.
    """

    roc: dict[Kind, str]
    configs: tuple[ConfigFigures, ...]
    problems: tuple[str, ...]


def draw_run(run: Run, *, redraw: bool) -> RunFigures:
    """Draw the figures of run, configs and classes, and with `redraw` those of every finished trial."""
    problems = _redraw_trials(run) if redraw else []
    drawn = drawn_configs(run)
    configs = tuple(_draw_config(run, config, problems) for config in drawn)
    _remove_figures(run, run.configs[len(drawn) :])
    has_configs = run.configs != [""]
    roc = _draw_kinds([run_roc(run, kind, drawn) for kind in KINDS], run.path) if has_configs else {}
    return RunFigures(roc, configs, tuple(problems))


def drawn_configs(run: Run) -> list[str]:
    """Return the names of the configs that are drawn, see `RunFigures.configs`."""
    counts = itertools.accumulate(len(run.classes(config)) for config in run.configs)
    return [
        config
        for position, (config, count) in enumerate(zip(run.configs, counts, strict=True))
        if position == 0 or count <= MOST_CLASSES
    ]


def _remove_figures(run: Run, configs: Sequence[str]) -> None:
    """Remove figures drawn when the run had fewer configs."""
    for config in configs:
        classes = [run.path / run.of(config, name)[0].class_folder for name in run.classes(config)]
        folders = [classes[0].parent, *classes]
        for path in (folder / name for folder in folders for name in (ROC_FILE, PIXEL_ROC_FILE, HEATMAPS_FILE)):
            path.unlink(missing_ok=True)


def _redraw_trials(run: Run) -> list[str]:
    display, problems = run.experiment.heatmaps, []
    for trial in run.trials:
        if trial.is_done:
            try:
                draw_trial(run.path / trial.leaf, display.color_quantile, blurred=display.blur)
            except UNREADABLE as error:
                problems.append(f"{trial.leaf}: its figures cannot be drawn ({short_error(error)})")
    return problems


def _draw_config(run: Run, config: str, problems: list[str]) -> ConfigFigures:
    # the config's folder holds its classes' folders; with one config it is the run's directory
    folder = run.path / run.of(config)[0].class_folder.rpartition("/")[0]
    roc = _draw_kinds([config_roc(run, config, kind) for kind in KINDS], folder)
    classes = tuple(_draw_class(run, config, name, problems) for name in run.classes(config))
    return ConfigFigures(config, roc, classes)


def _draw_kinds(plots: Sequence[RocFigure], folder: Path) -> dict[Kind, str]:
    drawn: dict[Kind, str] = {}
    for kind, plot, name in zip(KINDS, plots, (ROC_FILE, PIXEL_ROC_FILE), strict=True):
        if plot.lines:
            figure = lay_out(draw_roc(plot))
            save(figure, folder / name)
            drawn[kind] = as_svg_uri(figure)
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier state of the run
    return drawn


def _draw_class(run: Run, config: str, name: str, problems: list[str]) -> ClassFigures:
    trials = run.of(config, name)
    folder = run.path / trials[0].class_folder
    plots = [plot for kind in KINDS if (plot := class_roc(name, trials, kind)).lines]
    roc = ""
    if plots:
        figure = lay_out(draw_side_by_side(plots))
        save(figure, folder / ROC_FILE)
        roc = as_svg_uri(figure)
    else:
        (folder / ROC_FILE).unlink(missing_ok=True)
    return ClassFigures(name, roc, _draw_heatmaps(run, trials, folder / HEATMAPS_FILE, problems))


def _draw_heatmaps(run: Run, trials: Sequence[Trial], path: Path, problems: list[str]) -> str:
    done = [trial for trial in trials if trial.is_done]
    seeds = [(f"seed {trial.seed}", maps) for trial in done if (maps := maps_of(run, trial, problems))]
    strips = class_strips(seeds, run.experiment.heatmaps.color_quantile) if seeds else []
    if not strips:
        path.unlink(missing_ok=True)
        return ""
    save(draw_strips(strips), path)
    return as_jpeg_uri(path)


def maps_of(run: Run, trial: Trial, problems: list[str]) -> TrialMaps | None:
    """Return the maps of a finished trial's test images; None, with a sentence in `problems`, if they are damaged."""
    try:
        return read_maps(run.path / trial.leaf, blurred=run.experiment.heatmaps.blur)
    except UNREADABLE as error:
        problems.append(f"{trial.leaf} is not in the heatmap grid: {short_error(error)}")
        return None
