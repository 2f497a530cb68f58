"""The pictures of one trial, drawn from its own folder."""

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

PREVIEW_FILE, LOSS_FILE, TRIAL_ROC_FILE = "ds_preview.png", "loss.pdf", "roc_curve.pdf"
OVERVIEW, TRAINING = "heatmaps_global.png", "train_heatmaps_global.png"
_SCALES: tuple[Scale, ...] = ("local", "global")


def paper_name(scale: Scale, label: int) -> str:
    return f"heatmaps_paper_{scale}_lbl{label}.png"


def draw_trial(leaf_dir: Path, quantile: float, *, blurred: bool = False) -> None:
    """Draw a trial's pictures into its folder; `metrics.parquet` is not needed, it comes after them.

    Pictures: training samples, loss, ROC, six test images a label with local and with global colors, and an overview
    of about 80 test images and one of as many training samples. A picture for which there is no image (a test set
    without anomalies) is left out.

    Args:
        leaf_dir: holds `history`, `scores`, `curves` (Parquet) and `maps.npz`.
        quantile: share of the heatmaps' values that the colors span, in 0..1.
        blurred: whether heatmaps are shown blurred.
    Raises:
        OSError, ValueError: a file is missing or damaged.
    """
    save(draw_loss(read_history(leaf_dir)), leaf_dir / LOSS_FILE)
    save(draw_roc(trial_roc(read_curves(leaf_dir))), leaf_dir / TRIAL_ROC_FILE)
    trained = read_training_maps(leaf_dir, blurred=blurred)
    note = training_note(trained)
    _save_strips(preview_strips(trained), leaf_dir / PREVIEW_FILE, cell_in=0.8, note=note)
    legend = trained.legend(quantile, "global")
    _save_strips(training_strips(trained, quantile), leaf_dir / TRAINING, legend, cell_in=0.5, note=note)
    maps, scores = read_maps(leaf_dir, blurred=blurred), read_test_scores(leaf_dir)
    for scale in _SCALES:
        for label in (0, 1):
            strips = paper_strips(maps, scores, label, quantile, scale)
            _save_strips(strips, leaf_dir / paper_name(scale, label), maps.legend(quantile, scale))
    legend = maps.legend(quantile, "global")
    _save_strips(overview_strips(maps, scores, quantile), leaf_dir / OVERVIEW, legend, cell_in=0.5)


def _save_strips(
    strips: list[Strip], path: Path, scale: ColorScale | None = None, cell_in: float = 1.1, note: str = ""
) -> None:
    if strips:
        save(draw_strips(strips, scale, cell_in, note=note), path)
    else:
        path.unlink(missing_ok=True)  # of an earlier drawing
