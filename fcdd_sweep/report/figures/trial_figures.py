"""Figures of one trial, drawn from its own folder."""

from __future__ import annotations

from pathlib import Path

from fcdd_sweep.config.schema import Heatmaps
from fcdd_sweep.report.figures.color_maps import DEFAULT_COLOR_MAP
from fcdd_sweep.report.figures.heatmaps import (
    Scale,
    overview_strips,
    paper_strips,
    preview_strips,
    read_maps,
    read_test_scores,
    read_training_maps,
    training_note,
    training_strips,
)
from fcdd_sweep.report.figures.image_grid import CELL_IN, ColorScale, Strip, draw_strips
from fcdd_sweep.report.figures.roc import draw_loss, draw_roc, read_history, trial_roc
from fcdd_sweep.report.figures.style import SCREEN, Look, save, save_picture
from fcdd_sweep.report.run_files import read_curves
from fcdd_sweep.results.files import read_table
from fcdd_sweep.results.tree import TrialPaths

PREVIEW_FILE, LOSS_FILE, ROC_CURVE_FILE = "ds_preview.png", "loss.pdf", "roc_curve.pdf"
OVERVIEW_FILE, TRAINING_OVERVIEW_FILE = "heatmaps_global.png", "train_heatmaps_global.png"
_SCALES: tuple[Scale, ...] = ("local", "global")


def paper_file(scale: Scale, label: int) -> str:
    """Return the file name of the six test images of a label (0 nominal, 1 anomalous), as in the paper's figures."""
    return f"heatmaps_paper_{scale}_lbl{label}.png"


def draw_trial(leaf_dir: Path, display: Heatmaps, look: Look = SCREEN) -> None:
    """Draw a trial's figures into its folder; `metrics.parquet`, which is written after them, adds the threshold.

    Figures: training samples, loss, ROC, six test images per label with local and with global colors, an overview of
    about 80 test images and one of as many training samples. A figure without any image (a test set without anomalies)
    is left out.

    Args:
        leaf_dir: holds `history`, `scores`, `curves` (Parquet) and `maps.npz`.
        display: how heatmaps are shown.
        look: of plots.
    Raises:
        OSError, ValueError: a file is missing or damaged.
    """
    draw_plots(leaf_dir, look)
    draw_training_images(leaf_dir, display)
    draw_test_images(leaf_dir, display)


def draw_plots(leaf_dir: Path, look: Look = SCREEN) -> None:
    """Draw the loss and the ROC of a trial."""
    save(draw_loss(read_history(leaf_dir), look), leaf_dir / LOSS_FILE)
    save(draw_roc(trial_roc(read_curves(leaf_dir)), look), leaf_dir / ROC_CURVE_FILE)


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


def draw_test_images(leaf_dir: Path, display: Heatmaps) -> None:
    """Draw the figures of a trial's test images."""
    maps = read_maps(leaf_dir, blurred=display.blur, color_map=display.color_map)
    scores, quantile = read_test_scores(leaf_dir, _threshold(leaf_dir)), display.color_quantile
    for scale in _SCALES:
        for label in (0, 1):
            strips = paper_strips(maps, scores, label, quantile, scale)
            path = leaf_dir / paper_file(scale, label)
            _save_strips(strips, path, maps.legend(quantile, scale), color_map=display.color_map)
    strips, legend = overview_strips(maps, scores, quantile), maps.legend(quantile, "global")
    _save_strips(strips, leaf_dir / OVERVIEW_FILE, legend, cell_in=0.5, color_map=display.color_map)


def _threshold(leaf_dir: Path) -> float | None:
    """Return the threshold of a leaf's scores; None where there is none, or not yet."""
    path = TrialPaths(leaf_dir).metrics
    if not path.is_file():
        return None
    (row,) = read_table(path).select(["image_score", "threshold"]).to_pylist() or [{}]
    threshold: float | None = row.get("threshold") if row.get("image_score") == "score_mean" else None
    return threshold


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
