"""The pictures of classes, configs and the run: drawn into their folders, and kept for the page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fcdd_sweep.config.schema import Heatmaps
from fcdd_sweep.report.figures.heatmaps import LeafMaps, class_strips, read_maps
from fcdd_sweep.report.figures.image_grid import draw_strips
from fcdd_sweep.report.figures.roc import Kind, RocFigure, class_roc, config_roc, draw_beside, draw_roc, run_roc
from fcdd_sweep.report.figures.style import as_jpeg_uri, as_svg_uri, save, settle
from fcdd_sweep.report.figures.trial_figures import draw_trial
from fcdd_sweep.report.run_files import UNREADABLE, Run, Trial, brief

ROC_FILE, PIXEL_ROC_FILE, HEATMAPS_FILE = "roc.pdf", "pixel_roc.pdf", "heatmaps.png"
KINDS: tuple[Kind, ...] = ("image", "pixel")
MOST_CLASSES = 100
"""Classes, over all configs, whose pictures are drawn. Each takes about a second and a share of the page, so that those
of a search over hundreds of configs would take hours, and the page could not be opened."""


@dataclass(frozen=True)
class ClassPictures:
    """`data:` addresses of a class's pictures; empty when there is nothing to show."""

    normal_class: str
    roc: str
    heatmaps: str


@dataclass(frozen=True)
class ConfigPictures:
    """`data:` addresses of a config's ROC plots by kind, and its classes' pictures."""

    config: str
    roc: dict[Kind, str]
    classes: tuple[ClassPictures, ...]


@dataclass(frozen=True)
class Pictures:
    """Everything drawn for a run.

    Attributes:
        roc: by kind, one curve a config that is drawn; empty when there is one config.
        configs: the first of the plan, as many as have no more than `MOST_CLASSES` together, but at least one.
        problems: sentences on trials whose pictures could not be drawn.
    """

    roc: dict[Kind, str]
    configs: tuple[ConfigPictures, ...]
    problems: tuple[str, ...]


def draw_run(run: Run, *, redraw: bool) -> Pictures:
    """Draw the root's, configs' and classes' pictures, and with `redraw` those of every finished trial."""
    problems = _redraw_leaves(run) if redraw else []
    drawn = drawn_configs(run)
    configs = tuple(_draw_config(run, config, problems) for config in drawn)
    _remove_pictures(run, run.configs[len(drawn) :])
    several = run.configs != [""]
    roc = _draw_kinds([run_roc(run, kind, drawn) for kind in KINDS], run.path) if several else {}
    return Pictures(roc, configs, tuple(problems))


def drawn_configs(run: Run) -> list[str]:
    """See `Pictures.configs`."""
    counts = itertools.accumulate(len(run.classes(config)) for config in run.configs)
    return [
        config
        for place, (config, count) in enumerate(zip(run.configs, counts, strict=True))
        if place == 0 or count <= MOST_CLASSES
    ]


def _remove_pictures(run: Run, configs: Sequence[str]) -> None:
    """Pictures of an earlier state of the run, when it had fewer configs."""
    for config in configs:
        classes = [run.path / run.of(config, name)[0].class_folder for name in run.classes(config)]
        folders = [classes[0].parent, *classes]
        for path in (folder / name for folder in folders for name in (ROC_FILE, PIXEL_ROC_FILE, HEATMAPS_FILE)):
            path.unlink(missing_ok=True)


def heatmap_display(run: Run) -> Heatmaps:
    """How heatmaps are shown, from `experiment.yaml`: `color_quantile` and `blur` only change pictures."""
    return _heatmaps_of(run.experiment)


@lru_cache(maxsize=4)
def _heatmaps_of(experiment: str) -> Heatmaps:
    """Asked for every trial; reading a large grid takes long."""
    try:
        return Heatmaps.model_validate(YAML(typ="safe", pure=True).load(experiment)["heatmaps"])
    except (YAMLError, KeyError, TypeError, ValueError):
        return Heatmaps()


def _redraw_leaves(run: Run) -> list[str]:
    problems = []
    for trial in run.trials:
        if trial.status == "done":
            try:
                draw_trial(
                    run.path / trial.leaf, heatmap_display(run).color_quantile, blurred=heatmap_display(run).blur
                )
            except UNREADABLE as error:
                problems.append(f"{trial.leaf}: its pictures could not be drawn ({brief(error)})")
    return problems


def _draw_config(run: Run, config: str, problems: list[str]) -> ConfigPictures:
    # the config's folder holds its classes' folders; with one config it is the run's directory
    folder = run.path / run.of(config)[0].class_folder.rpartition("/")[0]
    roc = _draw_kinds([config_roc(run, config, kind) for kind in KINDS], folder)
    classes = tuple(_draw_class(run, config, name, problems) for name in run.classes(config))
    return ConfigPictures(config, roc, classes)


def _draw_kinds(figures: Sequence[RocFigure], folder: Path) -> dict[Kind, str]:
    drawn: dict[Kind, str] = {}
    for kind, figure, name in zip(KINDS, figures, (ROC_FILE, PIXEL_ROC_FILE), strict=True):
        if figure.lines:
            drawing = settle(draw_roc(figure))
            save(drawing, folder / name)
            drawn[kind] = as_svg_uri(drawing)
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier state of the run
    return drawn


def _draw_class(run: Run, config: str, name: str, problems: list[str]) -> ClassPictures:
    trials = run.of(config, name)
    folder = run.path / trials[0].class_folder
    figures = [figure for kind in KINDS if (figure := class_roc(name, trials, kind)).lines]
    roc = ""
    if figures:
        drawing = settle(draw_beside(figures))
        save(drawing, folder / ROC_FILE)
        roc = as_svg_uri(drawing)
    else:
        (folder / ROC_FILE).unlink(missing_ok=True)
    return ClassPictures(name, roc, _draw_heatmaps(run, trials, folder / HEATMAPS_FILE, problems))


def _draw_heatmaps(run: Run, trials: Sequence[Trial], path: Path, problems: list[str]) -> str:
    done = [trial for trial in trials if trial.status == "done"]
    seeds = [(f"seed {trial.seed}", maps) for trial in done if (maps := maps_of(run, trial, problems))]
    strips = class_strips(seeds, heatmap_display(run).color_quantile) if seeds else []
    if not strips:
        path.unlink(missing_ok=True)
        return ""
    save(draw_strips(strips), path)
    return as_jpeg_uri(path)


def maps_of(run: Run, trial: Trial, problems: list[str]) -> LeafMaps | None:
    try:
        return read_maps(run.path / trial.leaf, blurred=heatmap_display(run).blur)
    except UNREADABLE as error:
        problems.append(f"{trial.leaf} is not in the heatmap grid: {brief(error)}")
        return None
