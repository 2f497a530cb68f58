"""A detector on its test set: scores, curves, metrics, and the maps that pictures need."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fcdd_sweep.data.corpus import Corpus, Split
from fcdd_sweep.metrics.curves import thin_curve
from fcdd_sweep.metrics.heatmap_values import STEPS, blur, reference_quantiles
from fcdd_sweep.metrics.ranking import Ranking, cell_counts, rank
from fcdd_sweep.metrics.shown_images import shown_images
from fcdd_sweep.training.augment import nearest_index
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.prepare import Prepared
from fcdd_sweep.training.result import FloatArray
from fcdd_sweep.training.validation import ValidationResult, validate

_REFERENCES_PER_LABEL = 100
"""Images of each label behind the colors of the globally scaled heatmaps."""


@dataclass(frozen=True)
class TestResult:
    """What testing a detector gives; the attributes are parts of an `Outcome`."""

    scores: dict[str, list[Any]]
    curves: dict[str, tuple[FloatArray, FloatArray, FloatArray]]
    metrics: dict[str, Any]
    defects: list[dict[str, Any]]
    maps: dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class PixelCells:
    """Heatmap cells of the images that take part in pixel metrics, and the original pixels that each stands for.

    Attributes:
        image: (P,) which test image.
        heat: (P, S * S) float32.
        positive, negative: (P, S * S) int32, anomalous and defect-free original pixels.
    """

    image: npt.NDArray[np.int64]
    heat: npt.NDArray[np.float32]
    positive: npt.NDArray[np.int32]
    negative: npt.NDArray[np.int32]

    def rank(self, part: npt.NDArray[np.bool_] | slice = slice(None)) -> Ranking:
        """All cells of all images, or of the images in `part`, (P,) bool."""
        return rank(self.heat[part].ravel(), self.positive[part].ravel(), self.negative[part].ravel())


def evaluate(detector: Detector, corpus: Corpus, prepared: Prepared) -> TestResult:
    """Score the validation images and, unless the config leaves it out, the test set, and measure.

    Args:
        detector: trained.
        corpus, prepared: the data, how the normal class divides it, and what was held out and set aside.
    """
    judged = validate(detector, corpus, prepared.validation)
    split = prepared.split if detector.settings.evaluation.test else _untested(prepared.split)
    nominal_label = detector.settings.images.nominal_label
    label = (split.test_label ^ nominal_label).astype(np.int8)
    found = detector.detect(corpus.images, split.test)
    maps, score = found.maps, found.scores.numpy()
    measured = corpus.has_maps and not nominal_label  # maps mark defects, which nominal_label 1 calls nominal
    cells = _pixel_cells(detector, corpus, split, maps) if measured else None
    metrics, curves = _metrics(label, score, cells)
    return TestResult(
        scores=_score_columns(corpus, replace(prepared, split=split), label, score, judged, nominal_label),
        curves=curves,
        metrics=metrics
        | _test_counts(prepared.split, nominal_label)
        | _threshold(detector, judged.nominal if not nominal_label else judged.nominal[:0])
        | judged.metrics,
        defects=_by_defect(split, label, score, cells),
        maps=_kept_maps(detector, corpus, split, label, score, maps),
    )


def _untested(split: Split) -> Split:
    """The split of a trial whose test set stays shut."""
    return replace(split, test=split.test[:0], test_label=split.test_label[:0], test_defect=())


def _test_counts(split: Split, nominal_label: int) -> dict[str, int]:
    """How many images of each label the test set has, scored or not."""
    anomalous = int((split.test_label ^ nominal_label).sum())
    return {"n_test_nominal": len(split.test) - anomalous, "n_test_anomalous": anomalous}


def _score_columns(
    corpus: Corpus,
    prepared: Prepared,
    label: npt.NDArray[np.int8],
    score: FloatArray,
    judged: ValidationResult,
    nominal_label: int,
) -> dict[str, list[Any]]:
    """Test images, validation images, and without a score the real anomalies that left the test set for training."""
    split, nominal, aside = prepared.split, prepared.validation.nominal, prepared.reserved_anomalies
    anomalies = prepared.validation.anomalies
    trained = set(aside.used.tolist())
    left = ["used_in_training" if i in trained else "reserved" for i in aside.reserved.tolist()]
    before, after = [*split.test.tolist(), *nominal.tolist()], aside.reserved.tolist()
    n_validation = len(nominal) + len(anomalies)
    of_validation = [nominal_label] * len(nominal) + [1 - nominal_label] * len(anomalies)
    return {
        "split": ["test"] * len(split.test) + ["validation"] * n_validation + left,
        "image_index": [*before, *anomalies.index, *after],
        "path": [*(corpus.path[i] for i in before), *anomalies.path, *(corpus.path[i] for i in after)],
        "label": [*label.tolist(), *of_validation, *[1 - nominal_label] * len(left)],
        "defect": [
            *(*split.test_defect, *[""] * len(nominal)),
            *(*anomalies.defect, *[corpus.defect[i] for i in after]),
        ],
        "score": [*score.tolist(), *judged.nominal.tolist(), *judged.anomalous.tolist(), *[None] * len(left)],
    }


def _threshold(detector: Detector, held_out: FloatArray) -> dict[str, Any]:
    if not len(held_out):
        return {"threshold": math.nan, "threshold_source": "none"}
    quantile = detector.settings.evaluation.threshold_quantile
    source = f"{quantile:g} quantile of {len(held_out)} held-out nominal training images"
    return {"threshold": float(np.quantile(held_out, quantile)), "threshold_source": source}


def _pixel_cells(detector: Detector, corpus: Corpus, split: Split, maps: Tensor) -> PixelCells | None:
    """Nominal images, whose maps are empty, and anomalous images that have a map; None when there are neither.

    In one-vs-rest an image of the normal class counts as free of defects, whatever map it has.
    """
    size = detector.settings.images.size
    masked = corpus.mask_index[split.test] >= 0
    image = np.flatnonzero(masked | (split.test_label == 0))
    if not len(image):
        return None
    counts = []
    for i in image:
        mask = corpus.mask(split.test[i]) if split.test_label[i] else None
        if mask is None:
            height, width = corpus.original_size[split.test[i]]
            mask = np.zeros((int(height), int(width)), dtype=bool)
        counts.append(cell_counts(mask, size))
    positive = np.stack([positive.ravel().astype(np.int32) for positive, _ in counts])
    total = np.stack([total.ravel().astype(np.int32) for _, total in counts])
    heat = detector.heatmaps(maps[image]).flatten(1).numpy()
    return PixelCells(image, heat, positive, total - positive)


def _metrics(
    label: npt.NDArray[np.int8], score: FloatArray, cells: PixelCells | None
) -> tuple[dict[str, Any], dict[str, tuple[FloatArray, FloatArray, FloatArray]]]:
    metrics: dict[str, Any] = {
        **dict.fromkeys(("image_auroc", "image_ap", "f1_max_oracle", "pixel_auroc", "pixel_ap"), math.nan),
        "n_test_maps": 0,
    }
    curves = {}
    if len(label):
        by_image = rank(score, label)
        metrics["image_auroc"], metrics["image_ap"] = by_image.auroc(), by_image.average_precision()
        metrics["f1_max_oracle"] = by_image.f1_max()
        curves = _curves("image", by_image)
    if cells is not None:
        by_pixel = cells.rank()
        metrics["pixel_auroc"], metrics["pixel_ap"] = by_pixel.auroc(), by_pixel.average_precision()
        metrics["n_test_maps"] = len(cells.image)
        curves |= _curves("pixel", by_pixel)
    return metrics, curves


def _curves(name: str, ranking: Ranking) -> dict[str, tuple[FloatArray, FloatArray, FloatArray]]:
    """No curves where a label is missing: they are undefined."""
    if math.isnan(ranking.auroc()):
        return {}
    return {f"{name}_roc": thin_curve(*ranking.roc), f"{name}_pr": thin_curve(*ranking.pr)}


def _by_defect(
    split: Split, label: npt.NDArray[np.int8], score: FloatArray, cells: PixelCells | None
) -> list[dict[str, Any]]:
    """Each defect type against all nominal test images."""
    defect = np.array(split.test_defect, dtype=object)
    rows = []
    for name in sorted(set(split.test_defect) - {""}):
        part = (split.test_label == 0) | (defect == name)
        seen = None if cells is None else part[cells.image]
        rows.append(
            {
                "defect": name,
                "n_images": int((defect == name).sum()),
                "image_auroc": rank(score[part], label[part]).auroc(),
                "pixel_auroc": cells.rank(seen).auroc() if cells and seen is not None and seen.any() else math.nan,
            }
        )
    return rows


def _kept_maps(
    detector: Detector,
    corpus: Corpus,
    split: Split,
    label: npt.NDArray[np.int8],
    score: FloatArray,
    maps: Tensor,
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of `maps.npz` that come from the test set."""
    kept = np.arange(len(label)) if detector.settings.keep.maps == "all" else shown_images(label, score)
    size = detector.settings.images.size
    place = detector.place
    arrays: dict[str, npt.NDArray[Any]] = {
        "image_index": split.test[kept],
        "path": np.array([corpus.path[i] for i in split.test[kept]], dtype=str),
        "label": label[kept],
        "score": score[kept],
        "anomaly_maps": maps[kept, 0].numpy(),
        "images": detector.visible(corpus.images[split.test[kept]]),
        "receptive_field": np.array(place.receptive_field, dtype=np.float64),
        "kernel_std_px": np.array(place.std),
        "blur_size_px": np.array(place.blur_size),
        **references(detector, label, maps),
    }
    if corpus.has_maps:
        shrunk = [_shrunk(corpus.mask(split.test[i]), size, split.test_label[i]) for i in kept]
        arrays["gt_maps"] = np.array(shrunk, dtype=np.uint8).reshape(-1, size, size)
    return arrays


def _shrunk(mask: npt.NDArray[np.bool_] | None, size: int, anomalous: int) -> npt.NDArray[np.uint8]:
    """A map at the network's size: nothing is marked in a nominal image; 2 for an anomaly that nobody marked."""
    if mask is None:
        return np.full((size, size), 2 if anomalous else 0, dtype=np.uint8)
    rows, columns = (nearest_index(size, side) for side in mask.shape)
    return mask[rows][:, columns].astype(np.uint8)


def _spread(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """`count` of them at equal distances: test sets are in the order of defect types or classes."""
    count = min(count, len(rows))
    return rows[np.arange(count) * len(rows) // max(count, 1)]


def references(detector: Detector, label: npt.NDArray[np.int8], maps: Tensor) -> dict[str, npt.NDArray[np.float32]]:
    """Quantiles of the heatmaps of equally many images of each label, as they are and blurred; NaN without images.

    Where one label is missing, the other stands alone.
    """
    names = ("reference_quantiles", "blurred_quantiles")
    if not len(label):
        return dict.fromkeys(names, np.full(STEPS + 1, np.nan, dtype=np.float32))
    counts = [int((label == value).sum()) for value in (0, 1)]
    take = min(_REFERENCES_PER_LABEL, min(counts) or max(counts))
    chosen = np.concatenate([_spread(np.flatnonzero(label == value), take) for value in (0, 1)])
    place = detector.place
    heatmaps = detector.heatmaps(maps[chosen]).numpy()
    shown = (heatmaps, blur(heatmaps, place.blur_size, place.std))
    return {name: reference_quantiles(each) for name, each in zip(names, shown, strict=True)}
