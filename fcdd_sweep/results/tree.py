"""Names of files and folders in a run's directory. See docs/results.md for what each holds."""

from __future__ import annotations

from pathlib import Path

EXPERIMENT = "experiment.yaml"
PLAN = "plan.parquet"
INDEX = "index.parquet"
ENVIRONMENT = "environment.json"
TRIALS = "trials.parquet"
REPORT = "report.html"
ATTEMPTS = ".attempts"

CONFIG = "config.yaml"
HISTORY = "history.parquet"
SCORES = "scores.parquet"
CURVES = "curves.parquet"
DEFECTS = "defects.parquet"
METRICS = "metrics.parquet"
"""Written last: a leaf that has it is whole."""
MAPS = "maps.npz"
"""Arrays of M test images (those in the pictures, or all; `keep.maps`), row i of each being the same image:

- `image_index` (M,) int64, row in the decoded data set; joins with `scores.parquet`
- `label` (M,) int8, `score` (M,) float64
- `anomaly_maps` (M, U, V) float32, as the network gives them
- `images` (M, C, S, S) uint8, what the network saw, before normalisation
- `gt_maps` (M, S, S) uint8 of 0 and 1, absent when the data has no maps

and beside them

- `receptive_field` (3,) float64: size, jump, shift in input pixels; `kernel_std_px` () float64
- `reference_quantiles` (1001,) float32: k-th smallest value, k = int(q * n), q = 0, 0.001, ..., 1, of the upsampled
  heatmaps of a label-balanced set of test images; row 0 is the minimum
- `preview_images` (P, C, S, S) uint8, training samples after augmentation, each scaled to its own range;
  `preview_label` (P,) int8; `preview_gt_maps` (P, S, S) uint8, only when trained on maps
"""
SNAPSHOT = "snapshot.pt"
LOG = "log.txt"
ERROR = "error.txt"


def attempts_of(run_dir: Path, trial_id: str) -> Path:
    return run_dir / ATTEMPTS / trial_id
