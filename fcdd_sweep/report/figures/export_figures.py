"""Figures of a run for a paper or a screen, written into a folder of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fcdd_sweep.config.errors import short_error
from fcdd_sweep.config.names import slug
from fcdd_sweep.report.config_ranks import RankedConfig, ranked_configs, shown_config
from fcdd_sweep.report.figures.heatmaps import class_strips
from fcdd_sweep.report.figures.image_grid import draw_strips
from fcdd_sweep.report.figures.paper_grid import draw_paper_grid
from fcdd_sweep.report.figures.roc import config_roc, draw_loss, draw_roc, read_history, run_roc
from fcdd_sweep.report.figures.run_figures import KINDS, MOST_LINES, maps_of
from fcdd_sweep.report.figures.style import Look, save, save_picture, use_look
from fcdd_sweep.report.run_files import UNREADABLE, Run, Trial


def export_figures(run: Run, folder: Path, style: str, kinds: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Draw figures of `shown_config` and its classes, and one over configs.

    Args:
        run: with the trials whose test metrics may be shown.
        folder: gets `roc.pdf`, `pixel_roc.pdf`, `heatmaps_CLASS.pdf` (`.png` for the screen), `loss_CLASS.pdf`, and
            `configs_roc.pdf` where there are several configs.
        style: `screen` or `paper`.
        kinds: of `roc`, `loss`, `heatmaps`.
    Returns:
        The files, and sentences on what could not be read.
    """
    if not any(trial.is_done for trial in run.trials):
        return [], []
    look, problems = use_look(style), list[str]()
    ranked = ranked_configs(run)
    config = shown_config(run, ranked)
    written = _draw_rocs(run, ranked, folder, look) if "roc" in kinds else []
    for name in run.classes(config):
        done = [trial for trial in run.of(config, name) if trial.is_done]
        if done and "heatmaps" in kinds:
            written += _draw_heatmaps(run, done, folder, style, problems)
        if done and "loss" in kinds:
            written += _draw_loss(done[0], folder / f"loss_{slug(name)}.pdf", look, problems)
    return written, problems


def _draw_rocs(run: Run, ranked: Sequence[RankedConfig], folder: Path, look: Look) -> list[Path]:
    config = shown_config(run, ranked)
    plots = {f"{'' if kind == 'image' else 'pixel_'}roc.pdf": config_roc(run, config, kind) for kind in KINDS}
    if len(run.configs) > 1:
        names = [each.config for each in ranked[:MOST_LINES]]
        plots |= {f"configs_{'' if kind == 'image' else 'pixel_'}roc.pdf": run_roc(run, kind, names) for kind in KINDS}
    return [save(draw_roc(plot, look), folder / name) for name, plot in plots.items() if plot.lines]


def _draw_heatmaps(run: Run, trials: Sequence[Trial], folder: Path, style: str, problems: list[str]) -> list[Path]:
    seeds = [(f"seed {trial.seed}", maps) for trial in trials if (maps := maps_of(run, trial, problems))]
    display = run.experiment.heatmaps
    strips = class_strips(seeds, display.color_quantile) if seeds else []
    if not strips:
        return []
    name = f"heatmaps_{slug(trials[0].normal_class)}"
    if style == "paper":
        return [save(draw_paper_grid(strips[0]), folder / f"{name}.pdf")]
    return [save_picture(draw_strips(strips, color_map=display.color_map), folder / f"{name}.png")]


def _draw_loss(trial: Trial, path: Path, look: Look, problems: list[str]) -> list[Path]:
    assert trial.folder is not None
    try:
        return [save(draw_loss(read_history(trial.folder), look), path)]
    except UNREADABLE as error:
        problems.append(f"{trial.leaf}: its loss cannot be drawn ({short_error(error)})")
        return []
