"""Figures of one trial, drawn from its own folder."""

from __future__ import annotations

from pathlib import Path

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
from fcdd_sweep.report.figures.image_grid import ColorScale, Strip, draw_strips
from fcdd_sweep.report.figures.roc import draw_loss, draw_roc, read_history, trial_roc
from fcdd_sweep.report.figures.style import save
from fcdd_sweep.report.run_files import read_curves

PREVIEW_FILE, LOSS_FILE, ROC_CURVE_FILE = "ds_preview.png", "loss.pdf", "roc_curve.pdf"
OVERVIEW_FILE, TRAINING_OVERVIEW_FILE = "heatmaps_global.png", "train_heatmaps_global.png"
_SCALES: tuple[Scale, ...] = ("local", "global")


def paper_file(scale: Scale, label: int) -> str:
    """Return the file name of the six test images of a label (0 nominal, 1 anomalous), as in the paper's figures."""
    return f"heatmaps_paper_{scale}_lbl{label}.png"


def draw_trial(leaf_dir: Path, quantile: float, *, blurred: bool = False) -> None:
    """Draw a trial's figures into its folder. `metrics.parquet` is not needed: it is written after them.

    Figures: training samples, loss, ROC, six test images per label with local and with global colors, an overview of
    about 80 test images and one of as many training samples. A figure without any image (a test set without anomalies)
    is left out.

    Args:
        leaf_dir: holds `history`, `scores`, `curves` (Parquet) and `maps.npz`.
        quantile: share of the heatmaps' values that the colors span, in 0..1.
        blurred: whether heatmaps are shown blurred.
    Raises:
        OSError, ValueError: a file is missing or damaged.
    """
    save(draw_loss(read_history(leaf_dir)), leaf_dir / LOSS_FILE)
    save(draw_roc(trial_roc(read_curves(leaf_dir))), leaf_dir / ROC_CURVE_FILE)
    trained = read_training_maps(leaf_dir, blurred=blurred)
    note = training_note(trained)
    _save_strips(preview_strips(trained), leaf_dir / PREVIEW_FILE, cell_in=0.8, note=note)
    legend = trained.legend(quantile, "global")
    _save_strips(training_strips(trained, quantile), leaf_dir / TRAINING_OVERVIEW_FILE, legend, cell_in=0.5, note=note)
    maps, scores = read_maps(leaf_dir, blurred=blurred), read_test_scores(leaf_dir)
    for scale in _SCALES:
        for label in (0, 1):
            strips = paper_strips(maps, scores, label, quantile, scale)
            _save_strips(strips, leaf_dir / paper_file(scale, label), maps.legend(quantile, scale))
    legend = maps.legend(quantile, "global")
    _save_strips(overview_strips(maps, scores, quantile), leaf_dir / OVERVIEW_FILE, legend, cell_in=0.5)


def _save_strips(
    strips: list[Strip], path: Path, scale: ColorScale | None = None, cell_in: float = 1.1, note: str = ""
) -> None:
    if strips:
        save(draw_strips(strips, scale, cell_in, note=note), path)
    else:
        path.unlink(missing_ok=True)  # of an earlier drawing
