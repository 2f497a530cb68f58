"""Every Parquet column that a sweep writes: name, type, unit, meaning. Declared here and nowhere else."""

from __future__ import annotations

import pyarrow as pa

RESULTS_VERSION = 1
"""Written into every file's metadata as `fcdd_sweep.results`; raised when a column changes its meaning."""


def _schema(*columns: tuple[str, pa.DataType, str]) -> pa.Schema:
    fields = [pa.field(name, kind, metadata={"meaning": meaning}) for name, kind, meaning in columns]
    return pa.schema(fields, metadata={"fcdd_sweep.results": str(RESULTS_VERSION)})


TEXT, INT, REAL, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
TIME = pa.timestamp("ms", tz="UTC")
_KEY = (
    ("trial_id", TEXT, "12 hex digits of config, class, seed and numerics version"),
    ("config_id", TEXT, "12 hex digits of the config and numerics version"),
    ("config", TEXT, "the config's name; empty when the experiment has one config"),
    ("normal_class", TEXT, "the class that was trained on"),
    ("seed", INT, "the integer given to the generators"),
)
HISTORY = _schema(
    ("trial_id", TEXT, "the trial"),
    ("epoch", INT, "1 for the first"),
    ("loss", REAL, "mean training loss of the epoch, all samples"),
    ("loss_nominal", REAL, "the same over nominal samples; null when there was none"),
    ("loss_anomalous", REAL, "the same over anomalous samples; null when there was none"),
    ("learning_rate", REAL, "in this epoch"),
    ("images_per_second", REAL, "training samples per second of this epoch"),
    (
        "validation_image_auroc",
        REAL,
        "AUROC over validation images after this epoch; null where `evaluation.validation.epochs` does not ask for it",
    ),
)
SCORES = _schema(
    ("trial_id", TEXT, "the trial"),
    (
        "split",
        TEXT,
        "`test`; `validation`, held-out nominal training images and validation anomalies; real anomalies that left the "
        "test set: `used_in_training`, or `reserved` for other configs",
    ),
    (
        "image_index",
        INT,
        "row of the image in the decoded data set, of a rendered anomaly that of the nominal image below it; null for "
        "images from elsewhere",
    ),
    ("path", TEXT, "path below the data set's root, or a label such as `digits/17`"),
    ("label", pa.int8(), "0 nominal, 1 anomalous"),
    (
        "defect",
        TEXT,
        "defect type, the other class in one-vs-rest, or where a validation anomaly comes from; empty for nominal "
        "images",
    ),
    ("score", REAL, "anomaly score; higher is more anomalous; null for images that were set aside"),
)
CURVES = _schema(
    ("trial_id", TEXT, "the trial"),
    ("kind", TEXT, "`image_roc`, `pixel_roc`, `image_pr` or `pixel_pr`"),
    ("x", REAL, "false-positive rate, or recall"),
    ("y", REAL, "true-positive rate, or precision"),
    ("threshold", REAL, "score at or above which a sample counts as anomalous; infinite at the curve's start"),
)
_RESULTS = (
    ("image_auroc", REAL, "area under the ROC curve over test images; null when undefined"),
    ("image_ap", REAL, "average precision over test images; null when undefined"),
    ("pixel_auroc", REAL, "area under the ROC curve over test pixels at the maps' original size; null without maps"),
    ("pixel_ap", REAL, "average precision over test pixels; null without maps"),
    ("threshold", REAL, "score above which an image is called anomalous; null when nothing was held out"),
    ("threshold_source", TEXT, "where the threshold comes from, `none` when nothing was held out"),
    ("f1_max_oracle", REAL, "largest F1 over thresholds chosen on the test set: an oracle figure"),
    (
        "selection_source",
        TEXT,
        "the images behind the validation figures, on which settings are selected; `none: fixed epochs` without any",
    ),
    ("validation_image_auroc", REAL, "area under the ROC curve over validation images; null without anomalies there"),
    ("validation_image_ap", REAL, "average precision over validation images; null without anomalies there"),
    ("validation_pixel_auroc", REAL, "the same as AUROC over pixels of rendered validation anomalies; null without"),
    (
        "validation_image_auroc_std_error",
        REAL,
        "standard error of `validation_image_auroc`, the noise of its images (DeLong); null below two of a label",
    ),
    ("final_loss", REAL, "mean training loss of the last epoch"),
    ("epochs", INT, "epochs trained"),
    ("n_train", INT, "nominal training images"),
    ("n_train_anomalous", INT, "distinct real or outlier-exposure anomalies used; null for synthetic sources"),
    ("n_validation", INT, "held-out nominal images"),
    ("n_validation_anomalous", INT, "validation anomalies"),
    ("n_test_nominal", INT, "nominal test images"),
    ("n_test_anomalous", INT, "anomalous test images"),
    ("n_test_maps", INT, "test images that took part in the pixel metrics"),
    (
        "data_fingerprint",
        TEXT,
        "digest of what the trial was given: images, maps, labels, exposure, pretrained weights",
    ),
    ("train_time_s", REAL, "seconds of training"),
    ("test_time_s", REAL, "seconds of scoring and metrics"),
    ("wall_time_s", REAL, "seconds from the trial's start to its files"),
    ("started", TIME, "when the attempt began"),
    ("finished", TIME, "when its files were complete"),
    ("device", TEXT, "device name"),
    ("host", TEXT, "machine name"),
    ("versions", TEXT, "JSON: fcdd_sweep, source (which file of `source/`), python, torch, numpy"),
)
ADDED = frozenset(
    {
        *(
            "validation_image_auroc",
            "validation_image_ap",
            "validation_pixel_auroc",
            "validation_image_auroc_std_error",
        ),
        "n_validation_anomalous",
    }
)
"""Columns that files of an earlier program lack; they are read as null."""
METRICS = _schema(*_KEY, ("attempt", INT, "which try this was, 1 for the first"), *_RESULTS)
"""One row: the last file that an attempt writes."""
DEFECTS = _schema(
    ("trial_id", TEXT, "the trial"),
    ("defect", TEXT, "defect type, or the other class in one-vs-rest"),
    ("n_images", INT, "anomalous test images of it"),
    ("image_auroc", REAL, "against all nominal test images"),
    ("pixel_auroc", REAL, "pixels of these images and of all nominal ones; null without maps"),
)
PLAN = _schema(
    *_KEY, ("leaf", TEXT, "the trial's folder below the run"), ("parameters", TEXT, "JSON: the config's values")
)
INDEX = _schema(
    *_KEY,
    ("status", TEXT, "`done` or `failed`"),
    ("leaf", TEXT, "the trial's folder below the run; empty for failed trials"),
    ("attempt", INT, "the attempt that made it, or the last that failed"),
    ("failures", INT, "attempts that failed so far"),
    ("error", TEXT, "last line of the last failure; empty when done"),
    ("data_fingerprint", TEXT, "digest of the class's data; empty for failed trials"),
    ("published_at", TIME, "when the row was written"),
    ("wall_time_s", REAL, "seconds of the attempt that finished it; null for failed trials"),
    ("device", TEXT, "device name; null for failed trials"),
)
FAILURES = _schema(
    *_KEY,
    ("attempt", INT, "which try it was; 0 when the worker was lost and nobody knows"),
    (
        "kind",
        TEXT,
        "`error`, `diverged`, `out_of_memory`, `worker_lost`, `node_lost`, `node_unfit`, `hung`, `storage`"
        " or `preempted`",
    ),
    ("error", TEXT, "what happened, in a line"),
    ("traceback", TEXT, "where; for a lost worker what Ray knew"),
    ("decision", TEXT, "what followed: another attempt, or none in this start"),
    ("host", TEXT, "machine name; empty when nobody knows"),
    ("ended_at", TIME, "when the driver heard of it"),
)
"""One row for every attempt that ended without a result, over all starts; newest last."""
PREDICTIONS = _schema(
    ("path", TEXT, "the image as it was given or found"),
    ("score", REAL, "anomaly score; higher is more anomalous"),
    ("threshold", REAL, "score above which an image is called anomalous; null when the trial held nothing out"),
    ("anomalous", FLAG, "whether the score is above the threshold; null without one"),
    ("normal_class", TEXT, "the class that the detector was trained on"),
    ("heatmap", TEXT, "the picture, below the output folder"),
)
SEARCH_CONFIGS_FIXED = (
    ("number", INT, "in the order of suggestions; 0 is the file's own config, the default"),
    ("config_id", TEXT, "12 hex digits of the config and numerics version"),
    ("config", TEXT, "the config's folder"),
    (
        "state",
        TEXT,
        "`done`; `failed`, no value by `search.failed_trials`; `pruned`; `running`; `incomplete`: interrupted, or left "
        "when the budget was spent",
    ),
    ("value", REAL, "mean of the metric over the judging classes and seeds; null unless done"),
    (
        "value_std_error",
        REAL,
        "standard error of the value by the noise of the images it was measured on; null when unknown",
    ),
    ("values", TEXT, "JSON: the values of several metrics in their order; null for one metric or unless done"),
    ("n_trials", INT, "trials that judge the config"),
    ("n_done", INT, "those that are done"),
    ("n_failed", INT, "those that failed for good in this start"),
    ("epochs_trained", INT, "epochs of its finished trials, and of stopped ones as far as they were heard"),
    ("pruned_at", INT, "epoch at which the config was given up; null unless pruned"),
    ("failure_policy", TEXT, "what was done about failed trials; empty when none failed"),
    ("started", TIME, "when the config was suggested"),
    ("finished", TIME, "when the study was told of it; null before"),
)
"""Columns of `search/configs.parquet`; each searched key follows as a column of its own, `param.KEY`, null where
another key's value excludes it."""
IMPORTANCE = _schema(
    ("key", TEXT, "a searched key"),
    ("importance", REAL, "share of the metric's variance over the space that it explains (Optuna's estimate)"),
)
CONFIRMATION = _schema(
    ("role", TEXT, "`best`; `default`, the file's own config; `pareto`, of several metrics"),
    ("number", INT, "of the config, as in `configs.parquet`"),
    ("normal_class", TEXT, "the class that was trained on"),
    ("seed", INT, "a fresh one, which judged no config of the search"),
    ("trial_id", TEXT, "the trial"),
    ("image_auroc", REAL, "of the test images; null when undefined or not done"),
    ("image_ap", REAL, "of the test images; null when undefined or not done"),
    ("pixel_auroc", REAL, "of the test pixels; null without maps or not done"),
)
RUNGS = _schema(
    ("number", INT, "of the config, as in `configs.parquet`"),
    ("epoch", INT, "at which configs were compared"),
    ("value", REAL, "mean of the metric over the judging classes and seeds at that epoch"),
)
"""What pruning compared: a row a config and epoch at which it was measured."""
_PART = ("metric", TEXT, "the metric of this row; there is one part of the table for each")
OPTIMIZATION = _schema(
    _PART,
    ("number", INT, "of the config, as in `configs.parquet`"),
    ("state", TEXT, "of the config, as in `configs.parquet`"),
    ("value", REAL, "of the config; null unless done"),
    ("value_std_error", REAL, "standard error of the value; null when unknown"),
    ("best", REAL, "best value so far, in the order of numbers; null before there is one"),
    ("best_number", INT, "the config that has it"),
)
LEVELS = _schema(
    _PART,
    ("key", TEXT, "a searched key"),
    ("level", TEXT, "a value of it, or a part of its range"),
    ("n", INT, "configs there that have a value"),
    ("n_other", INT, "configs there without one: failed, pruned, under way"),
    ("best", REAL, "best value of these configs; null without any"),
    ("best_std_error", REAL, "its standard error; null when unknown"),
    ("best_number", INT, "the config that has it"),
    ("median", REAL, "over these configs; null without any"),
    ("low", REAL, "lower quartile over these configs; null for fewer than three"),
    ("high", REAL, "upper quartile over these configs; null for fewer than three"),
)
CELLS = _schema(
    _PART,
    ("kind", TEXT, "`surface`: the value is interpolated; `median`: the median over the cell's configs"),
    ("x_key", TEXT, "the searched key along the cell's width"),
    ("y_key", TEXT, "the searched key along its height"),
    ("x_low", REAL, "the cell's bounds; null for a choice"),
    ("x_high", REAL, "the cell's bounds; null for a choice"),
    ("y_low", REAL, "the cell's bounds; null for a choice"),
    ("y_high", REAL, "the cell's bounds; null for a choice"),
    ("x_choice", TEXT, "the choice; null for a range"),
    ("y_choice", TEXT, "the choice; null for a range"),
    ("value", REAL, "null where there is no config, or none near enough to interpolate"),
    ("n", INT, "configs in the cell that have a value"),
    ("n_other", INT, "configs in the cell without one"),
)
DIFFERENCES = _schema(
    ("number", INT, "of the confirmed config, as in `configs.parquet`"),
    ("normal_class", TEXT, "the class that was trained on"),
    ("seed", INT, "a fresh one, the same for both"),
    ("metric", TEXT, "the figure of the test set"),
    ("value", REAL, "of the confirmed config; null when undefined or not done"),
    ("default", REAL, "of the file's own config; null when undefined or not done"),
    ("difference", REAL, "value minus default; null unless both are there"),
)
TRIALS_FIXED = (
    *_KEY,
    ("status", TEXT, "`done`, `failed` or `missing`"),
    ("leaf", TEXT, "the trial's folder below the run; empty unless done"),
    ("error", TEXT, "last line of the last failure"),
    *_RESULTS,
)
"""Columns of `trials.parquet`; each parameter of the configs follows as a column of its own, `param.KEY`."""


def trials_schema(parameters: dict[str, pa.DataType]) -> pa.Schema:
    """The schema of `trials.parquet` for an experiment whose configs differ in `parameters`."""
    extra = [(f"param.{key}", kind, f"the config's value of `{key}`") for key, kind in sorted(parameters.items())]
    return _schema(*TRIALS_FIXED, *extra)


def search_configs_schema(parameters: dict[str, pa.DataType]) -> pa.Schema:
    """The schema of `search/configs.parquet` for a search over `parameters`."""
    extra = [(f"param.{key}", kind, f"the suggested value of `{key}`") for key, kind in parameters.items()]
    return _schema(*SEARCH_CONFIGS_FIXED, *extra)
