"""Names of the files and folders of a run; docs/results.md describes their content."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, cast

from fcdd_sweep.config.decision_record import DECISION
from fcdd_sweep.config.locations import RemotePath

EXPERIMENT = "experiment.yaml"
PLAN = "plan.parquet"
IMAGE_LIST = "images.parquet"
"""How own folders of images were read and divided."""
INDEX = "index.parquet"
FAILURES = "failures.parquet"
ENVIRONMENT = "environment.json"
TRIALS = "trials.parquet"
IMAGE_SCORES = "image_scores.parquet"
"""What `evaluation.image_score: auto` chose by."""
COMPARISONS = "comparisons.parquet"
"""Statistics of configs, or of methods and runs, against each other."""
PUBLISHED = "published.parquet"
"""Published figures beside those of the run."""
REPORT = "report.html"
REPORT_STATE = ".report.json"
"""Of which files the report was built; see `report.report_state`."""
FIGURE_STATE = ".figures.json"
"""From what the figures of classes and configs were drawn; see `report.figures.figure_cache`."""
PROGRESS = "progress.json"
"""State of the running or last start; see `results.documents.SweepProgress`."""
ATTEMPTS = ".attempts"
TRACKERS = ".trackers"
"""Folder of TensorBoard and W&B."""
SOURCE = "source"
BASELINES_DIR = "baselines"
"""Folder in a run: the run of its baselines, and the comparison of all methods."""
COUNTERPARTS = "counterparts.json"
"""In the run of baselines: by config of the run and by method, the name of the config of the baseline."""
BASELINES = ("hsc", "ae")
"""The methods that FCDD is compared with, in the order of figures and tables."""
SEARCH_DIR = "search"
"""Folder in a run: the study of its search, its tables and figures. The files below are in this folder."""
JOURNAL = "journal.log"
"""The study in Optuna's format; `optuna-dashboard` opens it."""
SEARCH_CONFIGS = "configs.parquet"
IMPORTANCE = "importance.parquet"
CONFIRMATION = "confirmation.parquet"
RUNGS = "rungs.parquet"
OPTIMIZATION, LEVELS, CELLS, DIFFERENCES = (
    f"{name}.parquet" for name in ("optimization", "levels", "cells", "differences")
)
"""The data of the report's figures of a search, which the report makes from the tables above."""
SEARCH_SUMMARY = "search.json"
"""The summary of a search; see `results.documents.SearchSummary`."""
CONFIG = "config.yaml"
HISTORY = "history.parquet"
SCORES = "scores.parquet"
CURVES = "curves.parquet"
DEFECTS = "defects.parquet"
METRICS = "metrics.parquet"
"""Written last: a leaf is complete that has it and the other `LEAF_TABLES`, which only a person takes away."""
LEAF_TABLES = (HISTORY, SCORES, CURVES, DEFECTS, METRICS)
RECOMPUTED = "recomputed.json"
"""Figures that `aggregate` computed from kept files, since the leaf lacks them."""
MAPS = "maps.npz"
"""Arrays of M test images (those that figures show, or all; see `keep.maps`). Row i of each is the same image:

- `image_index` (M,) int64 and `path` (M,) text, as in `scores.parquet`; indices differ between trials, paths do not
- `label` (M,) int8, `score` (M,) float64
- `anomaly_maps` (M, U, V) float32, the output of the network
- `images` (M, C, S, S) uint8, the input of the network before normalization
- `gt_maps` (M, S, S) uint8, 1 where anomalous, 2 throughout for an anomaly without a map; absent when the data has none

Further arrays:

- `receptive_field` (3,) float64: size, jump, shift of a cell of the maps in input pixels; 1, 1, 0 where cells are
  pixels (`hsc`, `ae`); `kernel_std_px` () float64; `blur_size_px` () int64, side of the Gaussian of
  `heatmaps.blur`
- `reference_quantiles` (1001,) float32: k-th smallest value, k = int(q * n), q = 0, 0.001, ..., 1, of the upsampled
  heatmaps of a label-balanced set of test images; row 0 is the minimum; `blurred_quantiles`, the same of blurred ones
- `train_images`, `train_label`, `train_score`, `train_anomaly_maps`, `train_gt_maps`, `train_reference_quantiles`,
  `train_blurred_quantiles`: the same of training samples after augmentation; maps only when trained on maps, and 2
  throughout for a sample that was trained as anomalous throughout
- `train_shared_range` () bool, how `train_images` were mapped to 0..255. False: normalization is undone, and 0..255 are
  the values of the images. True (`lcn`): level and contrast of each image are lost, and all samples share the range of
  the nominal ones
"""
PICTURES = "pictures.json"
"""By which style, image score and threshold a leaf's pictures were drawn; see `report.leaf_drawing`."""
LAST_PICTURE = "loss.pdf"
"""Of every leaf, whatever it was tested on; written last, so a leaf that has it has its other pictures, too."""
SNAPSHOT = "snapshot.pt"
"""The detector, with the decisions that were known when its trial ended; `decision.json` beside it has those of the
report, see `config.decision_record`."""
LOG = "log.txt"
ERROR = "error.txt"
AnyPath = TypeVar("AnyPath", bound=Path | RemotePath)


@dataclass(frozen=True)
class _Paths(Generic[AnyPath]):
    root: AnyPath

    def _below(self, *names: str) -> AnyPath:
        path: Path | RemotePath = self.root
        for name in names:
            path = path / name
        return cast(AnyPath, path)


@dataclass(frozen=True)
class SearchPaths(_Paths[AnyPath]):
    """Paths of the files of a search, below `root`, the folder `search` of a run."""

    @property
    def journal(self) -> AnyPath:
        return self._below(JOURNAL)

    @property
    def configs(self) -> AnyPath:
        return self._below(SEARCH_CONFIGS)

    @property
    def importance(self) -> AnyPath:
        return self._below(IMPORTANCE)

    @property
    def confirmation(self) -> AnyPath:
        return self._below(CONFIRMATION)

    @property
    def rungs(self) -> AnyPath:
        return self._below(RUNGS)

    @property
    def optimization(self) -> AnyPath:
        return self._below(OPTIMIZATION)

    @property
    def levels(self) -> AnyPath:
        return self._below(LEVELS)

    @property
    def cells(self) -> AnyPath:
        return self._below(CELLS)

    @property
    def differences(self) -> AnyPath:
        return self._below(DIFFERENCES)

    @property
    def summary(self) -> AnyPath:
        return self._below(SEARCH_SUMMARY)


@dataclass(frozen=True)
class TrialPaths(_Paths[AnyPath]):
    """Paths of the files of a trial, below `root`: its leaf, or for `error` its attempt."""

    @property
    def config(self) -> AnyPath:
        return self._below(CONFIG)

    @property
    def history(self) -> AnyPath:
        return self._below(HISTORY)

    @property
    def scores(self) -> AnyPath:
        return self._below(SCORES)

    @property
    def curves(self) -> AnyPath:
        return self._below(CURVES)

    @property
    def defects(self) -> AnyPath:
        return self._below(DEFECTS)

    @property
    def metrics(self) -> AnyPath:
        return self._below(METRICS)

    @property
    def maps(self) -> AnyPath:
        return self._below(MAPS)

    @property
    def snapshot(self) -> AnyPath:
        return self._below(SNAPSHOT)

    @property
    def decision(self) -> AnyPath:
        return self._below(DECISION)

    @property
    def recomputed(self) -> AnyPath:
        return self._below(RECOMPUTED)

    @property
    def pictures(self) -> AnyPath:
        return self._below(PICTURES)

    @property
    def log(self) -> AnyPath:
        return self._below(LOG)

    @property
    def error(self) -> AnyPath:
        return self._below(ERROR)


@dataclass(frozen=True)
class RunPaths(_Paths[AnyPath]):
    """Paths of the files and folders of a run, below `root`, its directory."""

    @property
    def experiment(self) -> AnyPath:
        return self._below(EXPERIMENT)

    @property
    def plan(self) -> AnyPath:
        return self._below(PLAN)

    @property
    def images(self) -> AnyPath:
        return self._below(IMAGE_LIST)

    @property
    def index(self) -> AnyPath:
        return self._below(INDEX)

    @property
    def failures(self) -> AnyPath:
        return self._below(FAILURES)

    @property
    def environment(self) -> AnyPath:
        return self._below(ENVIRONMENT)

    @property
    def trials(self) -> AnyPath:
        return self._below(TRIALS)

    @property
    def comparisons(self) -> AnyPath:
        return self._below(COMPARISONS)

    @property
    def published(self) -> AnyPath:
        return self._below(PUBLISHED)

    @property
    def image_scores(self) -> AnyPath:
        return self._below(IMAGE_SCORES)

    @property
    def report(self) -> AnyPath:
        return self._below(REPORT)

    @property
    def figure_state(self) -> AnyPath:
        return self._below(FIGURE_STATE)

    @property
    def report_state(self) -> AnyPath:
        return self._below(REPORT_STATE)

    @property
    def progress(self) -> AnyPath:
        return self._below(PROGRESS)

    @property
    def attempts(self) -> AnyPath:
        return self._below(ATTEMPTS)

    @property
    def trackers(self) -> AnyPath:
        return self._below(TRACKERS)

    @property
    def source(self) -> AnyPath:
        return self._below(SOURCE)

    @property
    def baselines(self) -> AnyPath:
        return self._below(BASELINES_DIR)

    @property
    def counterparts(self) -> AnyPath:
        return self._below(COUNTERPARTS)

    @property
    def search(self) -> SearchPaths[AnyPath]:
        return SearchPaths(self._below(SEARCH_DIR))

    def leaf(self, leaf: str) -> TrialPaths[AnyPath]:
        """Return the paths of a trial by its leaf, as `plan.parquet` and `index.parquet` name it."""
        return TrialPaths(self._below(leaf))

    def attempts_dir(self, trial_id: str) -> AnyPath:
        """Return the folder of the attempts at a trial."""
        return self._below(ATTEMPTS, trial_id)


def baseline_config(config: str, method: str) -> str:
    """Return the name of a baseline's config: `hsc`, or `hsc_learning_rate-0_001-5f3a09` in a run with several."""
    if not config:
        return method
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", config)[:80]
    return f"{method}_{plain}-{hashlib.sha256(config.encode()).hexdigest()[:6]}"


def alternative_leaf(leaf: str, config_id: str) -> str:
    """Return the folder of a trial when a trial of another config has the planned one, after an edit of the file."""
    *_, normal, seed = leaf.split("/")
    return f"config-{config_id}/{normal}/{seed}"
