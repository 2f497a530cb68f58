"""Every column of the Parquet tables of runs: name, type, unit, meaning. Declared only here.

The tables of a search are in `search_schemas.py`, those of comparisons in `comparison_schemas.py`, columns on heatmaps
in `pixel_schemas.py`, those of `predict` in `prediction_schemas.py`.
"""

from __future__ import annotations

import pyarrow as pa

from fcdd_sweep.results.pixel_schemas import LATER, PIXEL_DEFECTS, PIXEL_METRICS, PIXEL_SCORES

TABLES_VERSION = 3
"""Version of the tables; raised when a column is renamed, removed or changes its meaning.

A column that is added is marked as `LATER`, and null in tables that lack it.
"""
VERSION_KEY = b"fcdd_sweep.tables"
"""Key of the version in the metadata of every table. Tables of version 1 lack it."""


Column = tuple[str, pa.DataType, str] | tuple[str, pa.DataType, str, str]


def table_schema(*columns: Column) -> pa.Schema:
    """Return a schema whose columns carry their meanings, and whose metadata the version of the tables.

    Args:
        columns: name, type, meaning, and `LATER` for one that tables of this version may lack.
    """
    fields = [
        pa.field(name, kind, metadata={"meaning": meaning} | dict.fromkeys(marks, "yes"))
        for name, kind, meaning, *marks in columns
    ]
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
HISTORY = table_schema(
    ("trial_id", TEXT, "the trial"),
    ("epoch", INT, "number of the epoch, from 1; for `evaluation.calibration` cross the models follow one another"),
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
SCORES = table_schema(
    ("trial_id", TEXT, "the trial"),
    (
        "split",
        TEXT,
        "`test`; `validation`: held-out nominal training images and validation anomalies; `selection`: "
        "anomalies rendered to choose an image score on; `out_of_fold`: nominal "
        "training images, each scored by the one model that has not seen it (`evaluation.calibration` cross); "
        "`used_in_training`: real anomalies that left the test set for training; `reserved`: real anomalies that left "
        "it for other configs",
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
    ("fold", INT, "number of the model, from 0, that scored an out-of-fold image; null for all others"),
    (
        "p_value_mean",
        REAL,
        "cross-conformal p-value of `score_mean`: the image is called anomalous up to `p_value_level`; null unless "
        "`evaluation.calibration` is cross, and for out-of-fold images; so are the next",
    ),
    ("p_value_max", REAL, "least p-value of a pixel of the heatmap, against the largest values of left-out heatmaps"),
    ("p_value_top_0_1", REAL, "p-value of `score_top_0_1`"),
    ("p_value_top_1", REAL, "p-value of `score_top_1`"),
    ("p_value_top_3", REAL, "p-value of `score_top_3`"),
    ("p_value_top_10", REAL, "p-value of `score_top_10`"),
    *PIXEL_SCORES,
)
CURVES = table_schema(
    ("trial_id", TEXT, "the trial"),
    ("kind", TEXT, "`image_roc`, `pixel_roc`, `image_pr` or `pixel_pr`"),
    ("x", REAL, "false-positive rate (ROC) or recall (PR)"),
    ("y", REAL, "true-positive rate (ROC) or precision (PR)"),
    ("threshold", REAL, "a sample with this score or a higher one counts as anomalous; infinite at the first point"),
)
_RESULTS: tuple[Column, ...] = (
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
        "area under the ROC curve over test pixels of the ground-truth maps, each with the value of the heatmap's cell "
        "that it falls into (`pixel_resolution`); null without maps",
    ),
    ("pixel_ap", REAL, "average precision over the same pixels; null without maps"),
    *PIXEL_METRICS,
    (
        "calibration",
        TEXT,
        "what decisions are calibrated by: `split`, `cross`, or `none`; see `evaluation.calibration`",
    ),
    (
        "threshold",
        REAL,
        "an image with a higher score is called anomalous; null with too few held-out nominal images, and for `cross`",
    ),
    (
        "pixel_threshold",
        REAL,
        "a pixel whose heatmap is higher is called anomalous; null with too few held-out nominal images, and for "
        "`cross`",
    ),
    (
        "p_value_level",
        REAL,
        "for `cross`: an image, or a pixel, is called anomalous when its p-value is at most this; null with too few "
        "images or models, and for other calibrations",
    ),
    ("threshold_source", TEXT, "what can be said of decisions, or why there are none"),
    (
        "n_calibration",
        INT,
        "number of nominal images that decisions are calibrated on: held-out ones, for `cross` out-of-fold ones",
    ),
    ("folds", INT, "number of models that decide together for `cross`; null for other calibrations"),
    ("false_alarm_rate", REAL, "`evaluation.false_alarm_rate` that decisions keep"),
    (
        "true_positives",
        INT,
        "anomalous test images called anomalous; this and the next three: null without a decision",
    ),
    ("false_positives", INT, "nominal test images called anomalous"),
    ("true_negatives", INT, "nominal test images called nominal"),
    ("false_negatives", INT, "anomalous test images called nominal"),
    ("accuracy", REAL, "share of the test images that are called what they are; null without a decision"),
    ("precision", REAL, "share of anomalous images among test images called anomalous; null when none is"),
    ("recall", REAL, "share of the anomalous test images that are called anomalous; null without a decision"),
    ("f1", REAL, "harmonic mean of precision and recall of the decisions; null without a decision"),
    (
        "test_false_alarm_rate",
        REAL,
        "share of the nominal test images that are called anomalous; null without a decision",
    ),
    ("test_false_alarm_low", REAL, "lower end of its 95% interval (Wilson)"),
    ("test_false_alarm_high", REAL, "upper end of its 95% interval (Wilson)"),
    (
        "test_region_rate",
        REAL,
        "share of the nominal test images with a pixel that is called anomalous; null without a decision",
    ),
    ("test_region_low", REAL, "lower end of its 95% interval (Wilson)"),
    ("test_region_high", REAL, "upper end of its 95% interval (Wilson)"),
    (
        "test_agreement",
        REAL,
        "share of the test images that are called anomalous and have such a pixel, or neither; null without decisions",
    ),
    ("fpr_at_95_recall", REAL, "least false-positive rate at which 95% of the anomalous test images are found"),
    (
        "precision_at_95_recall",
        REAL,
        "largest precision of a score threshold at which 95% of the anomalous test images are found",
        LATER,
    ),
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
    ("validation_image_auroc_max", REAL, "`validation_image_auroc` by the largest heatmap value, not the mean", LATER),
    ("validation_image_auroc_max_std_error", REAL, "standard error of `validation_image_auroc_max`, as above", LATER),
    ("final_loss", REAL, "mean training loss of the last epoch"),
    ("epochs", INT, "number of trained epochs, of all models together"),
    ("n_train", INT, "number of nominal training images; for `cross` each model leaves some of them out"),
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
    ("trials_per_gpu", INT, "number of trials that shared the GPU; null on a CPU", LATER),
    ("training_layout", TEXT, "order of weights and images in memory: contiguous or channels_last", LATER),
    ("training_precision", TEXT, "precision of convolutions and dense layers in training: fp32 or bf16", LATER),
    ("device_numerics", TEXT, "`cpu`, or `cuda` with the version of the numbers that a GPU gives", LATER),
    ("host", TEXT, "name of the machine"),
    ("versions", TEXT, "JSON: versions of fcdd_sweep, source (the file in `source/`), python, torch, numpy"),
)
METRICS = table_schema(*_KEY, ("attempt", INT, "number of the attempt, from 1"), *_RESULTS)
"""One row: the last file that an attempt writes."""
IMAGE_SCORES = table_schema(
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
DEFECTS = table_schema(
    ("trial_id", TEXT, "the trial"),
    ("defect", TEXT, "defect type, or the other class in one-vs-rest"),
    ("n_images", INT, "number of anomalous test images of this defect"),
    ("image_auroc", REAL, "area under the ROC curve over these images and all nominal test images"),
    (
        "pixel_auroc",
        REAL,
        "area under the ROC curve over pixels of these images and of all nominal test images; null without maps",
    ),
    *PIXEL_DEFECTS,
)
IMAGE_LIST = table_schema(
    ("normal_class", TEXT, "the image's class"),
    ("path", TEXT, "path of the image below the root of the data"),
    ("split", TEXT, "train or test; the held-out images of a trial are some of train"),
    ("label", INT, "1 anomalous in its own class, 0 nominal"),
    ("defect", TEXT, "the type of defect; empty for nominal images"),
)
"""How the folders of own images were read and divided, in the data's order."""
PLAN = table_schema(
    *_KEY,
    ("leaf", TEXT, "planned folder of the trial, relative to the run"),
    ("parameters", TEXT, "JSON: the values of the config by key"),
)
INDEX = table_schema(
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
    ("trials_per_gpu", INT, "number of trials that shared the GPU; null on a CPU and for failed trials", LATER),
    ("device_numerics", TEXT, "as in `metrics.parquet`; null for failed trials", LATER),
)
FAILURES = table_schema(
    *_KEY,
    ("attempt", INT, "number of the attempt; 0 when it is unknown, after the loss of a worker"),
    (
        "kind",
        TEXT,
        "`error`, `diverged`, `out_of_memory`, `pack_too_large`, `gpu_failed`, `worker_lost`, `node_lost`, "
        "`node_unfit`, `hung`, `storage` or `preempted`",
    ),
    ("error", TEXT, "the error in one line"),
    ("traceback", TEXT, "the traceback; for a lost worker what Ray reported"),
    ("decision", TEXT, "the consequence: another attempt, or none in this start"),
    ("host", TEXT, "name of the machine; empty when unknown"),
    ("ended_at", TIME, "when the driver recorded the failure"),
)
"""One row per attempt that ended without a result, over all starts; newest last."""


TRIALS_FIXED: tuple[Column, ...] = (
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
    return table_schema(*TRIALS_FIXED, *extra)
