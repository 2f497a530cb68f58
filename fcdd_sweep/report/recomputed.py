"""Figures that a leaf lacks because an earlier version wrote it, or that no longer fit its decisions, from kept files.

What was computed is kept in `recomputed.json` beside the leaf's tables, which stay as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.metrics.heatmap_values import MapGeometry
from fcdd_sweep.metrics.pixel_columns import DEFECT_COLUMNS, IMAGE_COLUMNS, OWN_METRICS, PixelResult, resolution_text
from fcdd_sweep.metrics.pixel_truth import MaskedImage, PixelTruth
from fcdd_sweep.metrics.rescoring import ScoredImages
from fcdd_sweep.metrics.shown_images import NO_MAP
from fcdd_sweep.report.run_files import UNREADABLE, Run, Trial
from fcdd_sweep.results import schemas
from fcdd_sweep.results.files import TableRow, nulled, read_arrays, read_columns, write_text
from fcdd_sweep.results.tree import TrialPaths

_MARK = "pixel_aupro_30"
"""A leaf with pixel metrics that lacks this column was written before there were such figures."""
_TOLERANCE = 1e-5
"""Largest difference to the leaf's own pixel AUROC and AP: heatmaps made without torch differ in their last digits."""
_ARRAYS = ("label", "image_index", "anomaly_maps", "gt_maps", "receptive_field", "kernel_std_px")


class _Lacks(NamedTuple):
    """What a finished trial lacks.

    Attributes:
        pixels: figures on heatmaps.
        pixel_f1: the F1 at the present pixel threshold.
        precision: the precision of images at a recall.
    """

    pixels: bool
    pixel_f1: bool
    precision: bool

    @classmethod
    def of(cls, trial: Trial) -> _Lacks:
        known = trial.metrics
        has_pixels = known.get("pixel_auroc") is not None
        return cls(
            pixels=has_pixels and known.get(_MARK) is None,
            pixel_f1=has_pixels and known.get("pixel_threshold") is not None and known.get("pixel_f1") is None,
            precision=known.get("image_auroc") is not None and known.get("precision_at_95_recall") is None,
        )


def with_recomputed(run: Run) -> Run:
    """Return the run with what `recompute` has left in its leaves."""
    return replace(run, trials=tuple(_completed(trial) for trial in run.trials))


def recompute(run: Run) -> Run:
    """Compute what finished trials lack, where their files allow it, keep it in their leaves and return the run.

    Figures on heatmaps need the anomaly maps of all test images (`keep.maps: all`), and ground-truth maps of which
    nothing was lost when they were brought to the network's size: the leaf's own pixel AUROC and AP must result.
    """
    return replace(run, trials=tuple(_recomputed(trial) for trial in run.trials))


def lacking_note(run: Run) -> str:
    """Return a sentence on finished trials whose heatmaps are not measured, and what measures them; empty if none."""
    done = [trial for trial in run.trials if trial.is_done]
    count = sum(_Lacks.of(trial).pixels for trial in done)
    if not count:
        return _full_note(done)
    return (
        f"{count_noun(count, 'trial')} of an earlier version lack figures on heatmaps (n/a): "
        f"run `aggregate {run.path.name}`, which computes them where all anomaly maps were kept (keep.maps: all) and "
        "the ground-truth maps have the size of the network's input; for others run the experiment under another name"
    )


def _full_note(done: Sequence[Trial]) -> str:
    """Return a sentence on trials that are measured at the size of the network's input alone; empty if none is."""
    metrics = [trial.metrics for trial in done]
    count = sum(row.get(_MARK) is not None and row.get("full_resolution") is None for row in metrics)
    if not count:
        return ""
    return (
        f"{count_noun(count, 'trial')} of an earlier version lack figures at the resolution of the ground-truth maps "
        "(columns ending in _full, n/a): a leaf keeps these maps at the size of the network's input alone. Run the "
        "experiment under another name for them: `run EXPERIMENT --set name=NAME`"
    )


def _recomputed(trial: Trial) -> Trial:
    completed, lacks = _completed(trial), _Lacks.of(trial)
    if trial.folder is None or not any(_Lacks.of(completed)):
        return completed
    found: dict[str, Any] = {"metrics": {}, "defects": {}, "images": {}}
    if lacks.precision:
        scores = read_columns(TrialPaths(trial.folder).scores, schemas.SCORES).to_pydict()
        images = ScoredImages.of(scores, trial.metrics["image_score"])
        found["metrics"]["precision_at_95_recall"] = images.metrics()["precision_at_95_recall"]
    names = sorted({row["defect"] for row in trial.defects})
    if (lacks.pixels or lacks.pixel_f1) and (measured := _measured(trial, names)) is not None:
        threshold = trial.metrics.get("pixel_threshold")
        result = measured.result
        found["metrics"] |= {name: value for name, value in result.metrics().items() if name in OWN_METRICS}
        found["metrics"] |= result.decided(math.nan if threshold is None else threshold)
        found["metrics"]["pixel_resolution"] = resolution_text(result.truth.size)
        found["metrics"]["n_test_regions"] = len(result.truth.regions.area)
        for number in np.unique(result.truth.group[result.truth.group > 0]).tolist():
            row = nulled(result.defect(number))
            found["defects"][names[number - 1]] = {name: row[name] for name in DEFECT_COLUMNS}
        columns = {name: values.tolist() for name, values in result.image_columns().items()}
        by_image = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        found["images"] = {str(index): nulled(row) for index, row in zip(measured.numbers, by_image, strict=True)}
    if not found["metrics"]:
        return completed
    made_for = {name: trial.metrics.get(name) for name in ("trial_id", "image_score", "pixel_threshold")}
    record = {"made_for": made_for, **found, "metrics": nulled(found["metrics"])}
    text, path = json.dumps(record, indent=2) + "\n", TrialPaths(trial.folder).recomputed
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_text(path, text)
    return _completed(trial)


def _completed(trial: Trial) -> Trial:
    """Return a trial with what its leaf's `recomputed.json` has; a file that does not fit or cannot be read is as if
    it were missing."""
    if trial.folder is None or not any(_Lacks.of(trial)) or not TrialPaths(trial.folder).recomputed.is_file():
        return trial
    try:
        record = json.loads(TrialPaths(trial.folder).recomputed.read_text(encoding="utf-8"))
        made_for, metrics, defects = record["made_for"], dict(record["metrics"]), dict(record["defects"])
    except (*UNREADABLE, TypeError):
        return trial
    if made_for.get("trial_id") != trial.metrics.get("trial_id"):
        return trial
    for column, of in (("precision_at_95_recall", "image_score"), ("pixel_f1", "pixel_threshold")):
        if made_for.get(of) != trial.metrics.get(of):
            metrics.pop(column, None)
    absent = {name: value for name, value in metrics.items() if trial.metrics.get(name) is None}
    rows: list[TableRow] = [_filled(row, defects.get(row["defect"], {})) for row in trial.defects]
    return replace(trial, metrics=trial.metrics | absent, defects=rows)


def _filled(row: TableRow, values: TableRow) -> TableRow:
    return row | {name: value for name, value in values.items() if row.get(name) is None}


def with_image_columns(table: pa.Table, trial: Trial) -> pa.Table:
    """Return the rows of a leaf's `scores.parquet` with what its `recomputed.json` has on single images."""
    assert trial.folder is not None
    try:
        record = json.loads(TrialPaths(trial.folder).recomputed.read_bytes())
        images = record["images"] if record["made_for"]["trial_id"] == trial.metrics["trial_id"] else {}
    except (*UNREADABLE, TypeError):
        return table  # there is none, or of another version
    keys = zip(table["split"].to_pylist(), table["image_index"].to_pylist(), strict=True)
    known = [images.get(str(index), {}) if split == "test" else {} for split, index in keys]
    for name in IMAGE_COLUMNS if images else ():
        if table[name].null_count == len(table):
            values = pa.array([row.get(name) for row in known], pa.float64())
            table = table.set_column(table.column_names.index(name), table.schema.field(name), values)
    return table


class _Measured(NamedTuple):
    """What kept heatmaps measure.

    Attributes:
        result: of P images.
        numbers: `image_index` of each, as in `scores.parquet`.
    """

    result: PixelResult
    numbers: list[int]


def _measured(trial: Trial, names: Sequence[str]) -> _Measured | None:
    """Return what the kept heatmaps of a trial measure; None where they are not those of its pixel metrics."""
    assert trial.folder is not None
    try:
        maps = read_arrays(TrialPaths(trial.folder).maps, ("label",))
        if len(maps["label"]) < (trial.metrics.get("n_test_maps") or 1):
            return None
        maps = read_arrays(TrialPaths(trial.folder).maps, _ARRAYS)
        defects = _defects_of(trial)
    except UNREADABLE:
        return None
    if "gt_maps" not in maps:
        return None
    used = np.flatnonzero((maps["gt_maps"] != NO_MAP).all((1, 2)))
    size = maps["gt_maps"].shape[1:]
    rows = zip(maps["label"][used].tolist(), maps["image_index"][used].tolist(), strict=True)
    groups = [1 + names.index(defects[index]) if label else 0 for label, index in rows]
    images = [
        MaskedImage(group, size, maps["gt_maps"][i] if group else None) for group, i in zip(groups, used, strict=True)
    ]
    geometry = MapGeometry(tuple(maps["receptive_field"].tolist()), size, float(maps["kernel_std_px"]), 1)
    if not images or size[0] != size[1]:
        return None
    heat = geometry.heatmaps(maps["anomaly_maps"][used])
    measured = PixelResult.of(heat.reshape(len(heat), -1), PixelTruth.of(images, size[0]))
    return _Measured(measured, maps["image_index"][used].tolist()) if _agrees(measured, trial) else None


def _agrees(measured: PixelResult, trial: Trial) -> bool:
    own: Sequence[Callable[[], float]] = (measured.cells.ranking.auroc, measured.cells.ranking.average_precision)
    stored = (trial.metrics["pixel_auroc"], trial.metrics["pixel_ap"])
    return all(abs(found() - value) <= _TOLERANCE for found, value in zip(own, stored, strict=True))


def _defects_of(trial: Trial) -> dict[int, str]:
    """Return the defect type of each test image by its index."""
    assert trial.folder is not None
    table = read_columns(TrialPaths(trial.folder).scores, schemas.SCORES).select(["split", "image_index", "defect"])
    return {row["image_index"]: row["defect"] for row in table.to_pylist() if row["split"] == "test"}
