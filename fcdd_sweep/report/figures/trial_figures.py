"""Figures of one trial, drawn from its own folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcdd_sweep.config.schema import Heatmaps
from fcdd_sweep.metrics.shown_images import shown_images
from fcdd_sweep.report.class_scores import SeedScores, read_seed_scores
from fcdd_sweep.report.figures.color_maps import DEFAULT_COLOR_MAP
from fcdd_sweep.report.figures.heatmaps import (
    Scale,
    TrialMaps,
    disagreement_note,
    overview_strips,
    paper_strips,
    preview_strips,
    read_maps,
    read_training_maps,
    scored_anew,
    training_note,
    training_strips,
)
from fcdd_sweep.report.figures.image_grid import CELL_IN, ColorScale, Strip, draw_strips
from fcdd_sweep.report.figures.roc import draw_loss, draw_roc, draw_scores, read_history, trial_roc
from fcdd_sweep.report.figures.style import Look, save, save_picture, use_look
from fcdd_sweep.report.run_files import Trial

PREVIEW_FILE, LOSS_FILE, ROC_CURVE_FILE, SCORES_FILE = "ds_preview.png", "loss.pdf", "roc_curve.pdf", "scores.pdf"
OVERVIEW_FILE, TRAINING_OVERVIEW_FILE = "heatmaps_global.png", "train_heatmaps_global.png"
_SCALES: tuple[Scale, ...] = ("local", "global")


def paper_file(scale: Scale, label: int) -> str:
    """Return the file name of the six test images of a label (0 nominal, 1 anomalous), as in the paper's figures."""
    return f"heatmaps_paper_{scale}_lbl{label}.png"


def draw_trial(trial: Trial, display: Heatmaps, style: str = "screen") -> None:
    """Draw a trial's figures into its folder.

    Figures: training samples, loss, ROC, scores with the threshold, six test images per label with local and with
    global colors, an overview of about 80 test images and one of as many training samples. A figure without any image
    (a test set without anomalies) is left out.

    Args:
        trial: its folder holds `history`, `scores`, `curves` (Parquet) and `maps.npz`; its present image score and
            decisions are shown.
        display: how heatmaps are shown.
        style: of plots, a name in `LOOKS`.
    Raises:
        OSError, ValueError: a file is missing or damaged.
    """
    assert trial.folder is not None
    scores = read_seed_scores(trial)
    draw_plots(trial, scores, use_look(style))
    draw_training_images(trial.folder, display)
    draw_test_images(trial, scores, display)


def draw_plots(trial: Trial, scores: SeedScores, look: Look) -> None:
    """Draw the loss, the ROC and the scores of a trial."""
    assert trial.folder is not None
    save(draw_loss(read_history(trial.folder), look), trial.folder / LOSS_FILE)
    save(draw_roc(trial_roc(trial.curves), look), trial.folder / ROC_CURVE_FILE)
    save(draw_scores(scores, look), trial.folder / SCORES_FILE)


def draw_training_images(leaf_dir: Path, display: Heatmaps) -> None:
    """Draw the preview of a trial's training samples and their heatmaps."""
    trained = read_training_maps(leaf_dir, blurred=display.blur, color_map=display.color_map)
    note = training_note(trained)
    _save_strips(preview_strips(trained), leaf_dir / PREVIEW_FILE, cell_in=0.8, note=note)
    quantile = display.color_quantile
    strips = training_strips(trained, quantile)
    legend = trained.legend(quantile, "global")
    path = leaf_dir / TRAINING_OVERVIEW_FILE
    _save_strips(strips, path, legend, cell_in=0.5, note=note, color_map=display.color_map)


def draw_test_images(trial: Trial, scores: SeedScores, display: Heatmaps) -> None:
    """Draw the figures of a trial's test images."""
    assert trial.folder is not None
    leaf_dir, quantile = trial.folder, display.color_quantile
    maps = scored_anew(read_maps(leaf_dir, blurred=display.blur, color_map=display.color_map), trial)
    scores, kept = _with_maps(scores, maps)
    note = " ".join(filter(None, [disagreement_note(scores), kept]))
    for scale in _SCALES:
        for label in (0, 1):
            strips = paper_strips(maps, scores, label, quantile, scale)
            path = leaf_dir / paper_file(scale, label)
            _save_strips(strips, path, maps.legend(quantile, scale), note=note, color_map=display.color_map)
    strips, legend = overview_strips(maps, scores, quantile), maps.legend(quantile, "global")
    _save_strips(strips, leaf_dir / OVERVIEW_FILE, legend, cell_in=0.5, note=note, color_map=display.color_map)


def _with_maps(scores: SeedScores, maps: TrialMaps) -> tuple[SeedScores, str]:
    """Return the scores of all images or, where the maps of shown ones were not kept, of those with maps, and a note.

    A trial keeps the maps of the images that it showed by the image score that it was trained with.
    """
    shown = scores.path[shown_images(scores.label, scores.score)]
    kept = np.isin(scores.path, maps.path)
    if kept[np.isin(scores.path, shown)].all():
        return scores, ""
    note = f"Only the {kept.sum()} of {len(kept)} test images whose maps the trial kept, by another image score."
    return scores.only(kept), note


def _save_strips(
    strips: list[Strip],
    path: Path,
    scale: ColorScale | None = None,
    cell_in: float = CELL_IN,
    note: str = "",
    color_map: str = DEFAULT_COLOR_MAP,
) -> None:
    if strips:
        save_picture(draw_strips(strips, scale, cell_in, note, color_map), path)
    else:
        path.unlink(missing_ok=True)  # of an earlier drawing
