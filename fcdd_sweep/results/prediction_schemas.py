"""Every column of the tables that `predict` writes. Declared only here."""

from __future__ import annotations

import pyarrow as pa

from fcdd_sweep.results.schemas import FLAG, INT, REAL, TEXT, table_schema

PREDICTIONS = table_schema(
    ("path", TEXT, "path of the image as it was given or found"),
    ("score", REAL, "anomaly score; higher is more anomalous"),
    (
        "threshold",
        REAL,
        "an image with a higher score is called anomalous; null with too few held-out images, and where seeds vote",
    ),
    (
        "label",
        pa.int8(),
        "1 anomalous: the score is above the threshold, or at least half of the seeds say so; 0 nominal; null without "
        "a threshold",
    ),
    ("agreement", REAL, "share of the seeds whose own decision is `label`; null for a single seed"),
    ("p_value", REAL, "cross-conformal p-value that gives the label (`evaluation.calibration` cross); else null"),
    ("given_label", pa.int8(), "what `--labels` says of the image: 1 anomalous, 0 nominal; null where it says nothing"),
    ("heatmap_max", REAL, "largest value of the image's heatmap"),
    (
        "pixel_threshold",
        REAL,
        "a pixel whose heatmap is higher is called anomalous; null with too few held-out images, and where seeds vote",
    ),
    ("has_region", FLAG, "whether a pixel is above the pixel threshold; null without one"),
    ("n_regions", INT, "number of connected regions of such pixels, gaps closed; null without a pixel threshold"),
    ("region_area", REAL, "share of the image's pixels in them; null without a pixel threshold"),
    ("agrees", FLAG, "whether the image is anomalous and has a region, or neither; null without thresholds"),
    ("normal_class", TEXT, "the class that the detector was trained on"),
    ("heatmap", TEXT, "path of the picture, relative to the output folder; null where none was drawn"),
)
EVALUATION = table_schema(
    ("n_images", INT, "number of labelled images that were scored"),
    ("n_nominal", INT, "nominal ones among them"),
    ("n_anomalous", INT, "anomalous ones among them"),
    ("image_auroc", REAL, "area under the ROC curve over these images; null unless both labels occur"),
    ("image_ap", REAL, "average precision over these images; null unless both labels occur"),
    ("n_masks", INT, "anomalous images with a ground-truth map"),
    (
        "pixel_auroc",
        REAL,
        "area under the ROC curve over pixels of nominal images and of those with a map; null without",
    ),
    (
        "threshold",
        REAL,
        "an image with a higher score is called anomalous; null without a threshold, or where seeds vote",
    ),
    ("basis", TEXT, "what the decisions rest on, or why there are none"),
    ("true_positives", INT, "anomalous images that are called anomalous; null without decisions"),
    ("false_positives", INT, "nominal images that are called anomalous; null without decisions"),
    ("true_negatives", INT, "nominal images that are called nominal; null without decisions"),
    ("false_negatives", INT, "anomalous images that are called nominal; null without decisions"),
    ("accuracy", REAL, "share of the images with the right decision"),
    ("precision", REAL, "share of the images called anomalous that are"),
    ("recall", REAL, "share of the anomalous images that are called so"),
    ("f1", REAL, "harmonic mean of precision and recall"),
    ("false_alarm_rate", REAL, "share of the nominal images that are called anomalous"),
    ("false_alarm_low", REAL, "lower end of its 95% Wilson interval"),
    ("false_alarm_high", REAL, "upper end of its 95% Wilson interval"),
    ("agreement", REAL, "share of the images whose label and heatmap agree"),
)
ROC_POINTS = table_schema(
    ("false_positive_rate", REAL, "share of the nominal images with at least this score"),
    ("true_positive_rate", REAL, "share of the anomalous images with at least this score: recall"),
    ("precision", REAL, "share of the images with at least this score that are anomalous; 1 for the first point"),
    ("score", REAL, "the score; infinite for the first point"),
)
