"""Scores, curves and metrics of a detector on its test set, and the arrays that pictures need."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.data.corpus import Corpus, Split
from fcdd_sweep.metrics.cross_conformal import OUT_OF_FOLD, p_value_column
from fcdd_sweep.metrics.curves import thin_curve
from fcdd_sweep.metrics.decision import calibrating_paths, decision_metrics
from fcdd_sweep.metrics.heatmap_values import STEPS, blur, reference_quantiles
from fcdd_sweep.metrics.ranking import FloatArray, Ranking, rank
from fcdd_sweep.metrics.rescoring import IMAGE_METRICS, image_metrics
from fcdd_sweep.metrics.score_choice import CANDIDATES, NOT_CHOSEN_YET, SELECTION, SelectionScores, choose_score
from fcdd_sweep.metrics.shown_images import NO_MAP, shown_images
from fcdd_sweep.training.augment import nearest_index
from fcdd_sweep.training.batches import BatchMaker
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.fold_ensemble import HEATMAP_COLUMNS
from fcdd_sweep.training.partition import RowIndices
from fcdd_sweep.training.pixel_images import pixel_images
from fcdd_sweep.training.pixel_scoring import Explained
from fcdd_sweep.training.prepare import Prepared
from fcdd_sweep.training.preprocessing import Preprocessor
from fcdd_sweep.training.validation import ValidationResult, validate

_REFERENCES_PER_LABEL = 100
"""Images of each label that the color range of the globally scaled heatmaps is taken from."""
PREVIEW_PER_LABEL = 60
"""Training samples of each label that pictures choose from; the first 20 are the preview of the training data."""
_PREVIEW_BATCH = 20
"""Training samples that are scored together."""


@dataclass(frozen=True)
class TestResult:
    """What `evaluate` measures; the attributes are those of a `TrainingResult`."""

    scores: dict[str, list[Any]]
    curves: dict[str, tuple[FloatArray, FloatArray, FloatArray]]
    metrics: dict[str, Any]
    defects: list[dict[str, Any]]
    maps: dict[str, npt.NDArray[Any]]


class _Tested(NamedTuple):
    """Labels of the t test images, (t,), and their scores by column, (t,) each."""

    label: npt.NDArray[np.int8]
    scores: dict[str, FloatArray]


def evaluate(detector: Detector, corpus: Corpus, prepared: Prepared) -> TestResult:
    """Score the validation images and, unless the config leaves it out, the test set, and compute their metrics.

    Args:
        detector: trained, in evaluation mode.
        corpus: the decoded data set.
        prepared: how the corpus is divided, held-out images and reserved anomalies included.
    """
    validation = validate(detector, corpus, prepared.validation)
    split = prepared.split if detector.settings.evaluation.test else _untested(prepared.split)
    nominal_label = detector.settings.images.nominal_label
    label = (split.test_label ^ nominal_label).astype(np.int8)
    detection, by_column = detector.scored(corpus.images, split.test)
    maps, score = detection.maps, by_column[detector.score_column]
    with_pixels = corpus.has_maps and not nominal_label  # maps mark defects, which nominal_label 1 calls nominal
    pixels = pixel_images(corpus, split, detector.settings.images.size) if with_pixels else None
    explained = Explained.of(pixels, detector, maps)
    metrics, curves = _metrics(label, score, explained)
    scores = _score_columns(corpus, replace(prepared, split=split), _Tested(label, by_column), validation, detector)
    decisions = _decisions(scores, detector)
    return TestResult(
        scores=scores | explained.image_columns(len(label), len(scores["split"])),
        curves=curves,
        metrics=metrics
        | _test_counts(prepared.split, nominal_label)
        | decisions
        | explained.decided(decisions["pixel_threshold"])
        | validation.metrics,
        defects=_by_defect(split, label, score, explained),
        maps=_kept_maps(detector, corpus, split, label, by_column, maps),
    )


def _decisions(scores: dict[str, list[Any]], detector: Detector) -> dict[str, Any]:
    """Return the columns of `metrics.parquet` on the image score and on decisions by it.

    With `auto` the report chooses the score, when all trials of the class are done; until then it is the mean, and
    the images that the score will be chosen on calibrate nothing.
    """
    evaluation, column = detector.settings.evaluation, detector.score_column
    rate, source, selecting = evaluation.false_alarm_rate, "", False
    if evaluation.image_score == "auto":
        selecting = choose_score([SelectionScores.of(scores, calibrating_paths(scores, rate))]).is_made
        source = NOT_CHOSEN_YET
    decided = decision_metrics(scores, column, rate, evaluation.calibration, selecting=selecting)
    return {"image_score": column, "image_score_source": source} | decided


def _untested(split: Split) -> Split:
    """Return the split with an empty test set."""
    return replace(split, test=split.test[:0], test_label=split.test_label[:0], test_defect=())


def _test_counts(split: Split, nominal_label: int) -> dict[str, int]:
    """Count the test images of each label, scored or not."""
    anomalous = int((split.test_label ^ nominal_label).sum())
    return {"n_test_nominal": len(split.test) - anomalous, "n_test_anomalous": anomalous}


def _score_columns(
    corpus: Corpus,
    prepared: Prepared,
    tested: _Tested,
    validation: ValidationResult,
    detector: Detector,
) -> dict[str, list[Any]]:
    """Return the columns of `scores.parquet`: test, validation, selection, then reserved images without scores, with
    several models their left-out images."""
    split, nominal, anomalies = prepared.split, prepared.validation.nominal, prepared.validation.anomalies
    selection, parts = prepared.validation.selection, (validation.nominal, validation.anomalous, validation.selection)
    used = set(prepared.reserved_anomalies.used.tolist())
    reserved = prepared.reserved_anomalies.reserved.tolist()
    scored = [*split.test.tolist(), *nominal.tolist()]
    nominal_label = detector.settings.images.nominal_label
    scores = {
        name: [*np.concatenate([each[name] for each in (tested.scores, *parts)]).tolist(), *[None] * len(reserved)]
        for name in tested.scores
    }
    validation_split = ["validation"] * (len(nominal) + len(anomalies)) + [SELECTION] * len(selection)
    anomalous_label = [1 - nominal_label] * (len(anomalies) + len(selection) + len(reserved))
    reserved_split = ["used_in_training" if row in used else "reserved" for row in reserved]
    reserved_defect = [corpus.defect[row] for row in reserved]
    columns = {
        "split": ["test"] * len(split.test) + validation_split + reserved_split,
        "image_index": [*scored, *anomalies.index, *selection.index, *reserved],
        "path": [
            *(corpus.path[i] for i in scored),
            *anomalies.path,
            *selection.path,
            *(corpus.path[i] for i in reserved),
        ],
        "label": [*tested.label.tolist(), *[nominal_label] * len(nominal), *anomalous_label],
        "defect": [*split.test_defect, *[""] * len(nominal), *anomalies.defect, *selection.defect, *reserved_defect],
        "score": scores[detector.score_column],
        **scores,
    }
    return _with_left_out(columns, corpus, prepared.folds, detector)


def _with_left_out(
    columns: dict[str, list[Any]], corpus: Corpus, folds: Sequence[RowIndices], detector: Detector
) -> dict[str, list[Any]]:
    """Return columns of `scores.parquet` with a row for each left-out image, whose p-values are null as all others'
    folds are."""
    count, rows = len(columns["split"]), [row for fold in folds for row in fold.tolist()]
    left_out: dict[str, Iterable[Any]] = {
        "split": [OUT_OF_FOLD] * len(rows),
        "image_index": rows,
        "path": [corpus.path[row] for row in rows],
        "label": [detector.settings.images.nominal_label] * len(rows),
        "defect": [""] * len(rows),
        "fold": [number for number, fold in enumerate(folds) for _ in fold],
    }
    if detector.ensemble is not None:
        left_out |= {name: values.tolist() for name, values in detector.ensemble.left_out.columns.items()}
        left_out["score"] = left_out[detector.score_column]
    p_values = [p_value_column(name) for name in ("score_mean", *HEATMAP_COLUMNS)]
    return {
        name: [*columns.get(name, [None] * count), *left_out.get(name, [None] * len(rows))]
        for name in dict.fromkeys([*columns, "fold", *p_values])
    }


def _metrics(
    label: npt.NDArray[np.int8], score: FloatArray, explained: Explained
) -> tuple[dict[str, Any], dict[str, tuple[FloatArray, FloatArray, FloatArray]]]:
    """Return metrics and curves of the test set; metrics are NaN and curves left out where undefined."""
    metrics: dict[str, Any] = dict.fromkeys(IMAGE_METRICS, math.nan)
    curves = {}
    if len(label):
        by_image = rank(score, label)
        metrics |= image_metrics(by_image)
        curves = _curves("image", by_image)
    if explained.result is not None:
        curves |= _curves("pixel", explained.result.cells.ranking)
    return metrics | explained.metrics, curves


def _curves(name: str, ranking: Ranking) -> dict[str, tuple[FloatArray, FloatArray, FloatArray]]:
    """Return ROC and precision-recall curves, thinned; none where a label is missing and they are undefined."""
    if not ranking.is_defined:
        return {}
    return {f"{name}_roc": thin_curve(*ranking.roc), f"{name}_pr": thin_curve(*ranking.pr)}


def _by_defect(
    split: Split, label: npt.NDArray[np.int8], score: FloatArray, explained: Explained
) -> list[dict[str, Any]]:
    """Return the metrics of each defect type against all nominal test images, one row per type."""
    defect = np.array(split.test_defect, dtype=object)
    rows = []
    for name in sorted(set(split.test_defect) - {""}):
        part = (split.test_label == 0) | (defect == name)
        row = {
            "defect": name,
            "n_images": int((defect == name).sum()),
            "image_auroc": rank(score[part], label[part]).auroc(),
        }
        rows.append(row | explained.defect(name))
    return rows


def _kept_maps(
    detector: Detector,
    corpus: Corpus,
    split: Split,
    label: npt.NDArray[np.int8],
    by_column: Mapping[str, FloatArray],
    maps: Tensor,
) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of `maps.npz` that come from the test set; figures may be by any score that `auto` can take."""
    score = by_column[detector.score_column]
    by = [by_column[name] for name in CANDIDATES] if detector.settings.evaluation.image_score == "auto" else [score]
    kept = np.unique(np.concatenate([shown_images(label, each) for each in by]))
    kept = np.arange(len(label)) if detector.settings.keep.maps == "all" else kept
    size = detector.settings.images.size
    geometry = detector.map_geometry
    arrays: dict[str, npt.NDArray[Any]] = {
        "image_index": split.test[kept],
        "path": np.array([corpus.path[i] for i in split.test[kept]], dtype=str),
        "label": label[kept],
        "score": score[kept],
        "anomaly_maps": maps[kept, 0].numpy(),
        "images": detector.visible(corpus.images[split.test[kept]]),
        "receptive_field": np.array(geometry.receptive_field, dtype=np.float64),
        "kernel_std_px": np.array(geometry.std),
        "blur_size_px": np.array(geometry.blur_size),
        **references(detector, label, maps),
    }
    if corpus.has_maps:
        resized = [_resized_mask(corpus.mask(split.test[i]), size, split.test_label[i]) for i in kept]
        arrays["gt_maps"] = np.array(resized, dtype=np.uint8).reshape(-1, size, size)
    return arrays


def _resized_mask(mask: npt.NDArray[np.bool_] | None, size: int, anomalous: int) -> npt.NDArray[np.uint8]:
    """Return a mask at the network's size, (S, S) of 0 and 1; `NO_MAP` throughout for an anomaly without one."""
    if mask is None:
        return np.full((size, size), NO_MAP if anomalous else 0, dtype=np.uint8)
    rows, columns = (nearest_index(size, side) for side in mask.shape)
    return mask[rows][:, columns].astype(np.uint8)


def _evenly_spaced(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return `count` evenly spaced rows: test sets are in the order of defect types or classes."""
    count = min(count, len(rows))
    return rows[np.arange(count) * len(rows) // max(count, 1)]


def references(detector: Detector, label: npt.NDArray[np.int8], maps: Tensor) -> dict[str, npt.NDArray[np.float32]]:
    """Return quantiles of the heatmaps of equally many images of each label, plain and blurred: (1001,) float32 each.

    Where one label is missing, the other is used alone; NaN without images.
    """
    names = ("reference_quantiles", "blurred_quantiles")
    if not len(label):
        return dict.fromkeys(names, np.full(STEPS + 1, np.nan, dtype=np.float32))
    counts = [int((label == value).sum()) for value in (0, 1)]
    count = min(_REFERENCES_PER_LABEL, min(counts) or max(counts))
    chosen = np.concatenate([_evenly_spaced(np.flatnonzero(label == value), count) for value in (0, 1)])
    geometry = detector.map_geometry
    heatmaps = detector.heatmaps(maps[chosen]).numpy()
    variants = (heatmaps, blur(heatmaps, geometry.blur_size, geometry.std))
    return {name: reference_quantiles(each) for name, each in zip(names, variants, strict=True)}


def shown_samples(detector: Detector, batches: BatchMaker) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of `maps.npz` that begin with `train_`: augmented training samples; see `results.tree.MAPS`."""
    batch = batches.preview(PREVIEW_PER_LABEL)
    detection = detector.detect_inputs(batch.inputs.split(_PREVIEW_BATCH))
    label, score = batch.labels.to(torch.int8).cpu().numpy(), detector.scores(detection)[detector.score_column]
    kept = shown_images(label, score)
    arrays = {
        "label": label[kept],
        "score": score[kept],
        "anomaly_maps": detection.maps[kept, 0].numpy(),
        **_displayed(batch.inputs[torch.from_numpy(kept).to(batch.inputs.device)], label[kept], detector.preprocessor),
        **references(detector, label, detection.maps),
    }
    if batch.gt_maps is not None:
        arrays["gt_maps"] = _marked_maps(batch.gt_maps[:, 0].cpu().numpy()[kept])
    return {f"train_{name}": array for name, array in arrays.items()}


def _displayed(inputs: Tensor, label: npt.NDArray[np.int8], preprocessor: Preprocessor) -> dict[str, npt.NDArray[Any]]:
    """Return (N, C, S, S) network input as uint8 images, and whether their brightness is relative to a shared range.

    The affine normalization is undone, which restores the images. Local contrast normalization cannot be undone:
    such samples share one range, that of the nominal ones, since anomalies may be far outside of it.
    """
    values = preprocessor.denormalized(inputs)
    low, high = torch.zeros(1, device=values.device), torch.ones(1, device=values.device)
    shared = preprocessor.recipe.local_contrast
    if shared and len(values):
        nominal = values[torch.from_numpy(np.flatnonzero(label == label.min())).to(values.device)]
        low, high = nominal.amin(), nominal.amax()
    scaled = ((values - low) / (high - low).clamp_min(1e-6)).clamp(0, 1) * 255
    return {"images": scaled.round().to(torch.uint8).cpu().numpy(), "shared_range": np.array(shared)}


def _marked_maps(gt_maps: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return (N, S, S) maps of 0 and 1, with `NO_MAP` throughout for samples trained as anomalous in every pixel."""
    return np.where(gt_maps.all((1, 2), keepdims=True), np.uint8(NO_MAP), gt_maps)
