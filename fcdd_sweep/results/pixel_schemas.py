"""Columns on heatmaps as explanations, of several tables; docs/metrics.md defines the figures."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

_TEXT, _INT, _REAL = pa.string(), pa.int64(), pa.float64()
_NO_MAPS = "null without maps"
LATER = "later"
"""Marks a column that tables of the same version may lack: it was added later, and is null where a table has none."""

_METRICS = (
    ("pixel_resolution", _TEXT, "height and width of the heatmaps in pixels: the network's input; null without maps"),
    (
        "pixel_f1_max_oracle",
        _REAL,
        "largest F1 of test pixels over all thresholds, an oracle metric; null without maps",
    ),
    ("pixel_f1", _REAL, "F1 of the test pixels above `pixel_threshold`; null without a pixel threshold or maps"),
    (
        "pixel_precision_at_95_recall",
        _REAL,
        "largest precision of test pixels at which 95% of the anomalous ones are found; null without maps",
    ),
    (
        "pixel_aupro_30",
        _REAL,
        "area under the mean share of a region that is found, up to a false-positive rate of 0.3 and divided by it; "
        f"{_NO_MAPS}",
    ),
    ("pixel_aupro_05", _REAL, "the same up to a false-positive rate of 0.05; null without maps"),
    (
        "pixel_spro_30",
        _REAL,
        "as `pixel_aupro_30`, but a defect counts as found when its saturation area is, and as mean over defect types; "
        "null where the data set has no saturation areas",
    ),
    (
        "pixel_spro_05",
        _REAL,
        "the same up to a false-positive rate of 0.05; null where the data set has no saturation areas",
    ),
    (
        "pixel_aupimo",
        _REAL,
        "mean over images of `aupimo` in `scores.parquet`; null without maps, or with too few pixels of nominal images",
    ),
    ("pixel_aupimo_median", _REAL, "median over images of `aupimo`"),
    ("pixel_aupimo_low", _REAL, "lower quartile over images of `aupimo`"),
    ("pixel_aupimo_high", _REAL, "upper quartile over images of `aupimo`"),
    (
        "pointing_game",
        _REAL,
        "share of the images with a defect on which the largest value of the heatmap lies; null without maps",
    ),
    ("pointing_game_small", _REAL, "the same for defects of less than 1% of the image; null without any"),
    ("pointing_game_medium", _REAL, "the same for defects of 1% to 5% of the image; null without any"),
    ("pointing_game_large", _REAL, "the same for defects of 5% of the image or more; null without any"),
    (
        "heat_in_mask",
        _REAL,
        "mean over images with a defect of the share of the heatmap's sum that lies on it; null without maps",
    ),
    ("heat_in_mask_small", _REAL, "the same for defects of less than 1% of the image; null without any"),
    ("heat_in_mask_medium", _REAL, "the same for defects of 1% to 5% of the image; null without any"),
    ("heat_in_mask_large", _REAL, "the same for defects of 5% of the image or more; null without any"),
    (
        "full_resolution",
        _TEXT,
        "height and width of the ground-truth maps in pixels, smallest and largest; null without maps",
    ),
    (
        "pixel_auroc_full",
        _REAL,
        "`pixel_auroc` of heatmaps enlarged to the size of each map by bilinear interpolation; null without maps",
    ),
    ("pixel_ap_full", _REAL, "`pixel_ap` of the same enlarged heatmaps; null without maps"),
    ("pixel_f1_max_oracle_full", _REAL, "`pixel_f1_max_oracle` of the same enlarged heatmaps; null without maps"),
    ("pixel_aupro_30_full", _REAL, "`pixel_aupro_30` of the same enlarged heatmaps; null without maps"),
    ("pixel_aupro_05_full", _REAL, "`pixel_aupro_05` of the same enlarged heatmaps; null without maps"),
    ("pixel_aupimo_full", _REAL, "`pixel_aupimo` of the same enlarged heatmaps; null without maps"),
    ("n_test_regions", _INT, "number of regions of the ground-truth maps in the pixel metrics"),
)
_SCORES = (
    (
        "aupimo",
        _REAL,
        "area under the share of the image's defect that is found, over the logarithm of the false-positive rate on "
        "nominal test images from 1e-5 to 1e-4; null but for test images with a defect in their map",
    ),
    ("defect_share", _REAL, "share of the image's pixels that are anomalous; null as `aupimo`"),
    (
        "pointing_hit",
        _REAL,
        "whether the largest value of the heatmap lies on the defect: 1 or 0, of several equal ones the share; null as "
        "`aupimo`",
    ),
    ("heat_in_mask", _REAL, "share of the heatmap's sum that lies on the defect; null as `aupimo`"),
)
_DEFECTS = (
    ("pixel_ap", _REAL, "average precision over the same pixels; null without maps"),
    ("pixel_aupro_30", _REAL, "as in `metrics.parquet`, of these images and all nominal test images"),
    ("pixel_aupro_05", _REAL, "the same up to a false-positive rate of 0.05"),
    ("pixel_spro_30", _REAL, "the same of defects with saturation areas; null where the data set has none"),
    ("pixel_spro_05", _REAL, "the same up to a false-positive rate of 0.05; null where the data set has none"),
    ("pixel_aupimo", _REAL, "mean of `aupimo` over these images"),
    ("pointing_game", _REAL, "mean of `pointing_hit` over these images"),
    ("heat_in_mask", _REAL, "mean of `heat_in_mask` over these images"),
    ("defect_share", _REAL, "mean of `defect_share` over these images"),
)


def _later(columns: Sequence[tuple[str, pa.DataType, str]]) -> tuple[tuple[str, pa.DataType, str, str], ...]:
    return tuple((name, kind, meaning, LATER) for name, kind, meaning in columns)


PIXEL_METRICS, PIXEL_SCORES, PIXEL_DEFECTS = map(_later, (_METRICS, _SCORES, _DEFECTS))
"""Columns of `metrics.parquet` and `trials.parquet`, of `scores.parquet`, and of `defects.parquet`."""
