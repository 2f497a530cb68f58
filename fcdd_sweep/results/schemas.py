"""Every column of every Parquet table that fcdd_sweep writes: name, type, unit, meaning. Declared only here."""

from __future__ import annotations

import pyarrow as pa

TABLES_VERSION = 3
"""Version of the tables; raised when a column is renamed, removed or changes its meaning."""
VERSION_KEY = b"fcdd_sweep.tables"
"""Key of the version in the metadata of every table. Tables of version 1 lack it."""


def _schema(*columns: tuple[str, pa.DataType, str]) -> pa.Schema:
    fields = [pa.field(name, kind, metadata={"meaning": meaning}) for name, kind, meaning in columns]
    return pa.schema(fields, metadata={VERSION_KEY: str(TABLES_VERSION)})


TEXT, INT, REAL, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
TIME = pa.timestamp("ms", tz="UTC")
_KEY = (
    ("trial_id", TEXT, "12 hex digits, a digest of config, class, seed and numerics version"),
    ("config_id", TEXT, "12 hex digits, a digest of the config and the numerics version"),
    ("config", TEXT, "name of the config; empty when the experiment has one config"),
    ("normal_class", TEXT, "the class that the trial is trained on"),
    ("seed", INT, "the integer seed of all random generators"),
)
HISTORY = _schema(
    ("trial_id", TEXT, "the trial"),
    ("epoch", INT, "number of the epoch, from 1"),
    ("loss", REAL, "mean training loss of the epoch over all samples"),
    ("loss_nominal", REAL, "mean training loss over nominal samples; null when the epoch had none"),
    ("loss_anomalous", REAL, "mean training loss over anomalous samples; null when the epoch had none"),
    ("learning_rate", REAL, "learning rate of the epoch"),
    ("images_per_second", REAL, "training samples per second"),
    (
        "validation_image_auroc",
        REAL,
        "AUROC over validation images after the epoch; null for epochs outside `evaluation.validation.epochs`",
    ),
)
SCORES = _schema(
    ("trial_id", TEXT, "the trial"),
    (
        "split",
        TEXT,
        "`test`; `validation`: held-out nominal training images and validation anomalies; `selection`: "
        "anomalies rendered to choose an image score on; `used_in_training`: real "
        "anomalies that left the test set for training; `reserved`: real anomalies that left it for other configs",
    ),
    (
        "image_index",
        INT,
        "row of the image in the decoded data set, for a rendered anomaly the row of its nominal image; null for "
        "images of other data sets",
    ),
    ("path", TEXT, "path relative to the root of the data set, or a label such as `digits/17`"),
    ("label", pa.int8(), "0 nominal, 1 anomalous"),
    (
        "defect",
        TEXT,
        "defect type, the other class in one-vs-rest, or the source of a validation or selection anomaly; empty for "
        "nominal images",
    ),
    ("score", REAL, "anomaly score; higher is more anomalous; null for images that left the test set"),
    ("score_mean", REAL, "mean of the anomaly map, of `hsc` its own distance; `score` is one of this and the next"),
    ("score_max", REAL, "largest value of the heatmap"),
    ("score_top_0_1", REAL, "mean over the 0.1% of the heatmap's pixels with the largest values"),
    ("score_top_1", REAL, "mean over the 1% of the heatmap's pixels with the largest values"),
    ("score_top_3", REAL, "mean over the 3% of the heatmap's pixels with the largest values"),
    ("score_top_10", REAL, "mean over the 10% of the heatmap's pixels with the largest values"),
)
CURVES = _schema(
    ("trial_id", TEXT, "the trial"),
    ("kind", TEXT, "`image_roc`, `pixel_roc`, `image_pr` or `pixel_pr`"),
    ("x", REAL, "false-positive rate (ROC) or recall (PR)"),
    ("y", REAL, "true-positive rate (ROC) or precision (PR)"),
    ("threshold", REAL, "a sample with this score or a higher one counts as anomalous; infinite at the first point"),
)
_RESULTS = (
    ("image_score", TEXT, "column of `scores.parquet` that is the score of images, by `evaluation.image_score`"),
    (
        "image_score_source",
        TEXT,
        "what `auto` chose that score by, in a leaf nothing yet; empty where `evaluation.image_score` names the score",
    ),
    ("image_auroc", REAL, "area under the ROC curve over test images; null when undefined"),
    ("image_ap", REAL, "average precision over test images; null when undefined"),
    (
        "pixel_auroc",
        REAL,
        "area under the ROC curve over test pixels at the original size of the ground-truth maps; null without maps",
    ),
    ("pixel_ap", REAL, "average precision over the same pixels; null without maps"),
    ("threshold", REAL, "an image with a higher score is called anomalous; null with too few held-out nominal images"),
    (
        "pixel_threshold",
        REAL,
        "a pixel whose heatmap is higher is called anomalous; null with too few held-out nominal images",
    ),
    ("threshold_source", TEXT, "what can be said of both thresholds, or why there are none"),
    ("n_calibration", INT, "number of held-out nominal images that the thresholds are calibrated on"),
    ("false_alarm_rate", REAL, "`evaluation.false_alarm_rate` that the thresholds keep"),
    (
        "true_positives",
        INT,
        "anomalous test images called anomalous; this and the next three: null without a threshold",
    ),
    ("false_positives", INT, "nominal test images called anomalous"),
    ("true_negatives", INT, "nominal test images called nominal"),
    ("false_negatives", INT, "anomalous test images called nominal"),
    ("accuracy", REAL, "share of the test images that are called what they are; null without a threshold"),
    ("precision", REAL, "share of anomalous images among test images called anomalous; null when none is"),
    ("recall", REAL, "share of the anomalous test images that are called anomalous; null without a threshold"),
    ("f1", REAL, "harmonic mean of precision and recall at the threshold; null without a threshold"),
    (
        "test_false_alarm_rate",
        REAL,
        "share of the nominal test images that are called anomalous; null without a threshold",
    ),
    ("test_false_alarm_low", REAL, "lower end of its 95% interval (Wilson)"),
    ("test_false_alarm_high", REAL, "upper end of its 95% interval (Wilson)"),
    (
        "test_region_rate",
        REAL,
        "share of the nominal test images with a pixel above `pixel_threshold`; null without one",
    ),
    ("test_region_low", REAL, "lower end of its 95% interval (Wilson)"),
    ("test_region_high", REAL, "upper end of its 95% interval (Wilson)"),
    (
        "test_agreement",
        REAL,
        "share of the test images that are called anomalous and have a pixel above `pixel_threshold`, or neither; null "
        "without thresholds",
    ),
    ("fpr_at_95_recall", REAL, "least false-positive rate at which 95% of the anomalous test images are found"),
    ("f1_max_oracle", REAL, "largest F1 over all thresholds, chosen on the test set: an oracle metric"),
    (
        "selection_source",
        TEXT,
        "the images of the validation metrics, on which configs are selected; `none: fixed epochs` without validation",
    ),
    (
        "validation_image_auroc",
        REAL,
        "area under the ROC curve over validation images; null without validation anomalies",
    ),
    ("validation_image_ap", REAL, "average precision over validation images; null without validation anomalies"),
    (
        "validation_pixel_auroc",
        REAL,
        "area under the ROC curve over pixels of validation images; null without rendered validation anomalies",
    ),
    (
        "validation_image_auroc_std_error",
        REAL,
        "standard error of `validation_image_auroc` over images (DeLong); null with fewer than two images of a label",
    ),
    ("final_loss", REAL, "mean training loss of the last epoch"),
    ("epochs", INT, "number of trained epochs"),
    ("n_train", INT, "number of nominal training images"),
    (
        "n_train_anomalous",
        INT,
        "number of distinct real or outlier-exposure anomalies in training; null for synthetic sources",
    ),
    ("n_validation", INT, "number of held-out nominal images"),
    ("n_validation_anomalous", INT, "number of validation anomalies"),
    ("n_test_nominal", INT, "number of nominal test images"),
    ("n_test_anomalous", INT, "number of anomalous test images"),
    ("n_test_maps", INT, "number of test images in the pixel metrics"),
    (
        "data_fingerprint",
        TEXT,
        "digest of the trial's data: images, ground-truth maps, labels, outlier exposure, pretrained weights",
    ),
    ("train_time_s", REAL, "seconds of training"),
    ("test_time_s", REAL, "seconds of scoring and metrics"),
    ("wall_time_s", REAL, "seconds from the start of the attempt until its files were written"),
    ("started", TIME, "when the attempt started"),
    ("finished", TIME, "when its files were written"),
    ("device", TEXT, "name of the device"),
    ("host", TEXT, "name of the machine"),
    ("versions", TEXT, "JSON: versions of fcdd_sweep, source (the file in `source/`), python, torch, numpy"),
)
METRICS = _schema(*_KEY, ("attempt", INT, "number of the attempt, from 1"), *_RESULTS)
"""One row: the last file that an attempt writes."""
IMAGE_SCORES = _schema(
    ("normal_class", TEXT, "the class"),
    ("score", TEXT, "column of `scores.parquet`: a score that images may have"),
    ("is_used", FLAG, "whether it is the score of the class's images"),
    (
        "selection_auroc",
        REAL,
        "share of the pairs of a nominal and an anomalous selection image of one trial that it puts in the right "
        "order; null where scores were not compared",
    ),
    ("gain", REAL, "`selection_auroc` minus that of `score_mean`; null where scores were not compared"),
    ("gain_std_error", REAL, "standard error of `gain` over images; null where scores were not compared"),
    ("n_trials", INT, "number of trials, of all seeds and configs, with selection images"),
    ("n_nominal", INT, "number of different nominal selection images"),
    ("n_anomalous", INT, "number of selection anomalies, over all trials"),
    ("source", TEXT, "what the anomalies are; empty without any"),
)
"""What `evaluation.image_score: auto` chose by: one row per class and candidate."""
DEFECTS = _schema(
    ("trial_id", TEXT, "the trial"),
    ("defect", TEXT, "defect type, or the other class in one-vs-rest"),
    ("n_images", INT, "number of anomalous test images of this defect"),
    ("image_auroc", REAL, "area under the ROC curve over these images and all nominal test images"),
    (
        "pixel_auroc",
        REAL,
        "area under the ROC curve over pixels of these images and of all nominal test images; null without maps",
    ),
)
PLAN = _schema(
    *_KEY,
    ("leaf", TEXT, "planned folder of the trial, relative to the run"),
    ("parameters", TEXT, "JSON: the values of the config by key"),
)
INDEX = _schema(
    *_KEY,
    ("status", TEXT, "`done` or `failed`"),
    ("leaf", TEXT, "folder of the trial, relative to the run; empty for failed trials"),
    ("attempt", INT, "number of the attempt that finished the trial, or of the last that failed"),
    ("failures", INT, "number of failed attempts so far"),
    ("error", TEXT, "the last failure in one line; empty for finished trials"),
    ("data_fingerprint", TEXT, "digest of the trial's data; empty for failed trials"),
    ("published_at", TIME, "when the row was written"),
    ("wall_time_s", REAL, "seconds of the attempt that finished the trial; null for failed trials"),
    ("device", TEXT, "name of the device; null for failed trials"),
)
FAILURES = _schema(
    *_KEY,
    ("attempt", INT, "number of the attempt; 0 when it is unknown, after the loss of a worker"),
    (
        "kind",
        TEXT,
        "`error`, `diverged`, `out_of_memory`, `gpu_failed`, `worker_lost`, `node_lost`, `node_unfit`, `hung`,"
        " `storage` or `preempted`",
    ),
    ("error", TEXT, "the error in one line"),
    ("traceback", TEXT, "the traceback; for a lost worker what Ray reported"),
    ("decision", TEXT, "the consequence: another attempt, or none in this start"),
    ("host", TEXT, "name of the machine; empty when unknown"),
    ("ended_at", TIME, "when the driver recorded the failure"),
)
"""One row per attempt that ended without a result, over all starts; newest last."""
PREDICTIONS = _schema(
    ("path", TEXT, "path of the image as it was given or found"),
    ("score", REAL, "anomaly score; higher is more anomalous"),
    ("threshold", REAL, "an image with a higher score is called anomalous; null with too few held-out images"),
    ("label", pa.int8(), "1 anomalous: the score is above the threshold, 0 nominal; null without a threshold"),
    ("heatmap_max", REAL, "largest value of the image's heatmap"),
    ("pixel_threshold", REAL, "a pixel whose heatmap is higher is called anomalous; null with too few held-out images"),
    ("has_region", FLAG, "whether a pixel is above the pixel threshold; null without one"),
    ("n_regions", INT, "number of connected regions of such pixels; null without a pixel threshold"),
    ("region_area", REAL, "share of the image's pixels in them; null without a pixel threshold"),
    ("agrees", FLAG, "whether the image is anomalous and has a region, or neither; null without thresholds"),
    ("normal_class", TEXT, "the class that the detector was trained on"),
    ("heatmap", TEXT, "path of the picture, relative to the output folder"),
)
SEARCH_CONFIGS_FIXED = (
    ("number", INT, "number of the config in the order of suggestions; 0 is the config of the experiment file"),
    ("config_id", TEXT, "12 hex digits, a digest of the config and the numerics version"),
    ("config", TEXT, "name of the config and of its folder"),
    (
        "state",
        TEXT,
        "`done`; `failed`: no value, see `failure_policy`; `pruned`; `running`; `incomplete`: interrupted, or not "
        "finished when the budget was spent",
    ),
    ("value", REAL, "mean of the metric over the evaluating trials; null unless done"),
    (
        "value_std_error",
        REAL,
        "standard error of `value` due to the number of validation images; null when unknown",
    ),
    ("values", TEXT, "JSON: the values of several metrics in their order; null for one metric, or unless done"),
    ("n_trials", INT, "number of trials that evaluate the config"),
    ("n_done", INT, "number of evaluating trials that are done"),
    ("n_failed", INT, "number of evaluating trials that failed and are not retried in this start"),
    ("epochs_trained", INT, "epochs of finished trials, and of stopped ones up to the last epoch that was reported"),
    ("pruned_at", INT, "epoch at which the config was pruned; null unless pruned"),
    ("failure_policy", TEXT, "how failed trials were counted; empty when none failed"),
    ("started", TIME, "when the config was suggested"),
    ("finished", TIME, "when its state was entered into the study; null while it runs"),
)
"""Columns of `search/configs.parquet`; one column per searched key follows, `param.KEY`, null where the value of
another key excludes it."""
IMPORTANCE = _schema(
    ("key", TEXT, "a searched key"),
    (
        "importance",
        REAL,
        "share of the metric's variance over the space that the key explains (fANOVA); null if unknown",
    ),
)
CONFIRMATION = _schema(
    ("role", TEXT, "`best`; `default`: the config of the experiment file; `pareto`: one of the Pareto set"),
    ("number", INT, "number of the config, as in `configs.parquet`"),
    ("normal_class", TEXT, "the class that the trial is trained on"),
    ("seed", INT, "a fresh seed, which evaluated no config of the search"),
    ("trial_id", TEXT, "the trial"),
    ("image_auroc", REAL, "area under the ROC curve over test images; null when undefined or not done"),
    ("image_ap", REAL, "average precision over test images; null when undefined or not done"),
    ("pixel_auroc", REAL, "area under the ROC curve over pixels of test images; null when undefined or not done"),
)
RUNGS = _schema(
    ("number", INT, "number of the config, as in `configs.parquet`"),
    ("epoch", INT, "epoch at which configs were compared"),
    ("value", REAL, "mean of `validation_image_auroc` at that epoch over the evaluating trials that reached it"),
)
"""What pruning compared: one row per config and epoch at which the config was measured."""
_METRIC = ("metric", TEXT, "the metric; the table holds the rows of all metrics one after the other")
OPTIMIZATION = _schema(
    _METRIC,
    ("number", INT, "number of the config, as in `configs.parquet`"),
    ("state", TEXT, "state of the config, as in `configs.parquet`"),
    ("value", REAL, "value of the config; null unless done"),
    ("value_std_error", REAL, "standard error of `value`; null when unknown"),
    ("best", REAL, "best value up to this number; null before the first value"),
    ("best_number", INT, "number of the config with the best value"),
)
LEVELS = _schema(
    _METRIC,
    ("key", TEXT, "a searched key"),
    ("level", TEXT, "a value of the key, or an interval of its range"),
    ("n", INT, "number of configs at this level with a value"),
    ("n_other", INT, "number of configs at this level without a value: failed, pruned or running"),
    ("best", REAL, "best value of these configs; null without a value"),
    ("best_std_error", REAL, "standard error of `best`; null when unknown"),
    ("best_number", INT, "number of the config with the best value"),
    ("median", REAL, "median of the values; null without a value"),
    ("low", REAL, "lower quartile of the values; null for fewer than three"),
    ("high", REAL, "upper quartile of the values; null for fewer than three"),
)
CELLS = _schema(
    _METRIC,
    ("kind", TEXT, "`surface`: the value is interpolated; `median`: the median over the configs in the cell"),
    ("x_key", TEXT, "the searched key on the horizontal axis"),
    ("y_key", TEXT, "the searched key on the vertical axis"),
    ("x_low", REAL, "lower bound of the cell on the horizontal axis; null for a choice"),
    ("x_high", REAL, "upper bound of the cell on the horizontal axis; null for a choice"),
    ("y_low", REAL, "lower bound of the cell on the vertical axis; null for a choice"),
    ("y_high", REAL, "upper bound of the cell on the vertical axis; null for a choice"),
    ("x_choice", TEXT, "the choice on the horizontal axis; null for a range"),
    ("y_choice", TEXT, "the choice on the vertical axis; null for a range"),
    ("value", REAL, "value of the cell; null without a config in it, or near enough to interpolate"),
    ("n", INT, "number of configs in the cell with a value"),
    ("n_other", INT, "number of configs in the cell without a value"),
)
DIFFERENCES = _schema(
    ("number", INT, "number of the confirmed config, as in `configs.parquet`"),
    ("normal_class", TEXT, "the class that both trials are trained on"),
    ("seed", INT, "a fresh seed, the same for both trials"),
    ("metric", TEXT, "the metric on the test set"),
    ("value", REAL, "value of the confirmed config; null when undefined or not done"),
    ("default", REAL, "value of the config of the experiment file; null when undefined or not done"),
    ("difference", REAL, "`value` minus `default`; null unless both are known"),
)
TRIALS_FIXED = (
    *_KEY,
    ("status", TEXT, "`done`, `failed` or `missing`"),
    ("leaf", TEXT, "folder of the trial, relative to the run; empty unless done"),
    ("error", TEXT, "the last failure in one line; empty unless failed"),
    *_RESULTS,
)
"""Columns of `trials.parquet`; one column per parameter of the configs follows, `param.KEY`."""


def trials_schema(parameters: dict[str, pa.DataType]) -> pa.Schema:
    """Return the schema of `trials.parquet` for an experiment whose configs differ in `parameters`."""
    extra = [(f"param.{key}", kind, f"value of `{key}` in the config") for key, kind in sorted(parameters.items())]
    return _schema(*TRIALS_FIXED, *extra)


def search_configs_schema(parameters: dict[str, pa.DataType]) -> pa.Schema:
    """Return the schema of `search/configs.parquet` for a search over `parameters`."""
    extra = [(f"param.{key}", kind, f"the suggested value of `{key}`") for key, kind in parameters.items()]
    return _schema(*SEARCH_CONFIGS_FIXED, *extra)
