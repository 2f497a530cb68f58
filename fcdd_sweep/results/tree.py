"""Names of files and folders in a run's directory. See docs/results.md for what each holds."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import overload

from fcdd_sweep.config.locations import RemotePath

EXPERIMENT = "experiment.yaml"
PLAN = "plan.parquet"
INDEX = "index.parquet"
FAILURES = "failures.parquet"
ENVIRONMENT = "environment.json"
TRIALS = "trials.parquet"
REPORT = "report.html"
PROGRESS = "progress.json"
"""What the running or last start does or did, for `status`; see docs/watching.md."""
ATTEMPTS = ".attempts"
TRACKERS = ".trackers"
"""What TensorBoard and W&B keep."""
SOURCE = "source"
BASELINES_DIR = "baselines"
"""Below a run: the run of its baselines, and pictures of all methods beside each other."""
COUNTERPARTS = "counterparts.json"
"""In the run of baselines: by config of the run and method, the name of the baseline's config."""
BASELINES = ("hsc", "ae")
"""The methods that FCDD is compared with, in the order of pictures and tables."""
SEARCH_DIR = "search"
"""Below a run: the study of its search and what came of it. Names below are those of files in it."""
JOURNAL = "journal.log"
"""The study as Optuna keeps it; `optuna-dashboard` opens it."""
SEARCH_CONFIGS = "configs.parquet"
IMPORTANCE = "importance.parquet"
CONFIRMATION = "confirmation.parquet"
RUNGS = "rungs.parquet"
OPTIMIZATION, LEVELS, CELLS, DIFFERENCES = (
    f"{name}.parquet" for name in ("optimization", "levels", "cells", "differences")
)
"""What the report's plots of a search are drawn from, made by it from the tables above."""
SEARCH_SUMMARY = "search.json"
"""What a search came to:

- `metric`, `direction`: lists, one entry a metric, direction `maximize` or `minimize`; `oracle`: whether any of them
  looks at the test set; `algorithm`, `seed`, `selection_source`
- `budget` and `spent`: `configs`, `trials`, `hours` each; null in a budget: unlimited
- `classes`, `seeds`: what judged a config; `confirm_seeds`
- `keys`: the searched keys; `log_keys`: those on a logarithmic scale
- `best`: number of the best config, null before there is one; `pareto`: numbers of the Pareto set of several metrics
- `noise`: median of `value_std_error` of the configs that are done; null when unknown
- `pruning`: null when off, else `configs` (how many were pruned), `epochs_trained`, `epochs_saved`
- `comparison`: null before confirmation, else `metric` and, of the best config minus the default over classes x seeds,
  `n`, `mean`, `std`, `low`, `high` (95%, Student's t), `p_value` (Wilcoxon's signed ranks); null for several metrics
- `tried`: configs that the study was told of, `sentences`: what the report says of all this
"""
CONFIG = "config.yaml"
HISTORY = "history.parquet"
SCORES = "scores.parquet"
CURVES = "curves.parquet"
DEFECTS = "defects.parquet"
METRICS = "metrics.parquet"
"""Written last: a leaf that has it is whole."""
MAPS = "maps.npz"
"""Arrays of M test images (those in the pictures, or all; `keep.maps`), row i of each being the same image:

- `image_index` (M,) int64 and `path` (M,) text, as in `scores.parquet`; only paths are the same in every trial
- `label` (M,) int8, `score` (M,) float64
- `anomaly_maps` (M, U, V) float32, as the network gives them
- `images` (M, C, S, S) uint8, what the network saw, before normalization
- `gt_maps` (M, S, S) uint8, 1 where anomalous, 2 throughout for an anomaly without a map; absent when the data has none

and beside them

- `receptive_field` (3,) float64: size, jump, shift of the maps' cells in input pixels; 1, 1, 0 where cells are pixels
  (`hsc` and `ae`); `kernel_std_px` () float64; `blur_size_px` () int64, side of the Gaussian that `heatmaps.blur` uses
- `reference_quantiles` (1001,) float32: k-th smallest value, k = int(q * n), q = 0, 0.001, ..., 1, of the upsampled
  heatmaps of a label-balanced set of test images; row 0 is the minimum; `blurred_quantiles`, the same of blurred ones
- `train_images`, `train_label`, `train_score`, `train_anomaly_maps`, `train_gt_maps`, `train_reference_quantiles`,
  `train_blurred_quantiles`: the same of training samples after augmentation; maps only when trained on maps, and 2
  throughout for a sample that was trained as anomalous throughout
- `train_shared_range` () bool: how `train_images` became visible. False: normalization is undone, 0..255 are the
  images' own values. True (`lcn`): the image's own level and contrast are gone, and all samples share one range, that
  of the nominal ones
"""
SNAPSHOT = "snapshot.pt"
LOG = "log.txt"
ERROR = "error.txt"


def baseline_config(config: str, method: str) -> str:
    """What the config of a baseline is called: `hsc`, or `hsc_learning_rate-0_001-5f3a09` where the run has several."""
    if not config:
        return method
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", config)[:80]
    return f"{method}_{plain}-{hashlib.sha256(config.encode()).hexdigest()[:6]}"


@overload
def attempts_dir(run_dir: Path, trial_id: str) -> Path: ...


@overload
def attempts_dir(run_dir: RemotePath, trial_id: str) -> RemotePath: ...


def attempts_dir(run_dir: Path | RemotePath, trial_id: str) -> Path | RemotePath:
    return run_dir / ATTEMPTS / trial_id


def alternative_leaf(leaf: str, config_id: str) -> str:
    """Where a trial goes whose place another config's trial holds: the file was edited between two runs."""
    *_, normal, seed = leaf.split("/")
    return f"config-{config_id}/{normal}/{seed}"
