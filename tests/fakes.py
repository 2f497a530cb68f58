"""Runs that no training made: folders with the real schemas, brick walls as images, and scores that are known."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from skimage import data

from fcdd_sweep.config.names import slug
from fcdd_sweep.config.trial_spec import digest
from fcdd_sweep.metrics import curves, heatmap_values, ranking, shown_images
from fcdd_sweep.metrics.cross_conformal import p_value_column
from fcdd_sweep.metrics.heatmap_values import MapGeometry
from fcdd_sweep.metrics.pixel_columns import DEFECT_COLUMNS, IMAGE_COLUMNS
from fcdd_sweep.metrics.statistics import wilson_interval
from fcdd_sweep.results import files, schemas, tree
from fcdd_sweep.results.tree import RunPaths, TrialPaths

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
N_NOMINAL, N_ANOMALOUS = 30, 20
FIELD = (16, 4, 1.5)
EXPERIMENT = """\
schema: 2
name: fake
dataset: {name: textures, classes: all}
images: {load_size: 64, size: 64}
anomalies: {mode: malformed_normal, source: confetti}
network: {name: FCDD_CNN28}
training: {epochs: 5, learning_rate: 0.001, schedule: {type: exponential, factor: 0.98}}
heatmaps: {color_quantile: 0.97}
seeds: 3
output: results
"""


def key(config, normal_class, seed):
    config_id = digest(config)
    trial_id = digest([config_id, normal_class, seed])
    return dict(trial_id=trial_id, config_id=config_id, config=config, normal_class=normal_class, seed=seed)


def leaf_name(config, normal_class, seed):
    return "/".join(filter(None, [config, f"normal_{slug(normal_class)}", f"it_{seed}"]))


def known_scores(wrong, anomalous=N_ANOMALOUS):
    """Labels and scores with `wrong` of the anomalous images below every nominal one: AUROC 1 - wrong / anomalous."""
    label = np.array([0] * N_NOMINAL + [1] * anomalous)
    score = np.concatenate([np.linspace(0.1, 0.5, N_NOMINAL), np.linspace(0.6, 1.0, anomalous)])
    score[N_NOMINAL : N_NOMINAL + wrong] = np.linspace(0.01, 0.02, wrong)
    return label, score


def bricks(n, size, rng):
    """(n, 3, S, S) uint8 crops of a photograph of a wall."""
    wall = data.brick()
    corners = rng.integers(0, len(wall) - size, (n, 2))
    crops = np.stack([wall[y : y + size, x : x + size] for y, x in corners])
    return np.stack([crops, (crops * 0.85).astype(np.uint8), (crops * 0.7).astype(np.uint8)], axis=1)


def with_blobs(images, rng):
    """Dark round stains and their maps, (n, S, S) of 0 and 1."""
    size = images.shape[-1]
    y, x = np.mgrid[:size, :size]
    gt_maps = np.zeros((len(images), size, size), np.uint8)
    for gt_map in gt_maps:
        cy, cx, radius = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(0.08, 0.18)
        gt_map[:] = (y - cy * size) ** 2 + (x - cx * size) ** 2 < (radius * size) ** 2
    return np.where(gt_maps[:, None] > 0, images // 4 + 10, images).astype(np.uint8), gt_maps


def fake_maps(label, score, size, seed):
    """Arrays of `maps.npz`, and the ground-truth maps of all test images."""
    rng = np.random.default_rng(0)  # the same test images under every seed
    images = bricks(len(label), size, rng)
    gt_maps = np.zeros((len(label), size, size), np.uint8)
    images[label == 1], gt_maps[label == 1] = with_blobs(images[label == 1], rng)
    cells = size // FIELD[1]
    noise = np.random.default_rng(seed).gamma(1.0, 0.05, (len(label), cells, cells))
    at = np.arange(cells) * FIELD[1]
    maps = (noise + gt_maps[:, at][:, :, at] * score[:, None, None]).astype(np.float32)
    kept = shown_images.shown_images(label, score)
    previews = bricks(40, size, rng)
    previews[20:], preview_gt = with_blobs(previews[20:], rng)
    place = MapGeometry(FIELD, (size, size), 2.0, FIELD[0])
    arrays = {
        "image_index": kept + 1000,
        "path": np.array([f"bricks/{i}" for i in kept]),
        "label": label[kept].astype(np.int8),
        "score": score[kept],
        "anomaly_maps": maps[kept],
        "images": images[kept],
        "gt_maps": gt_maps[kept],
        "receptive_field": np.array(FIELD),
        "kernel_std_px": np.array(2.0),
        "reference_quantiles": heatmap_values.reference_quantiles(
            heatmap_values.upsample(maps, FIELD, (size, size), 2.0)
        ),
        "blurred_quantiles": heatmap_values.reference_quantiles(place.heatmaps(maps, blurred=True)),
        "blur_size_px": np.array(FIELD[0]),
        "train_images": previews,
        "train_shared_range": np.array(False),
        "train_label": np.repeat([0, 1], 20).astype(np.int8),
        "train_score": np.linspace(0.1, 0.9, 40),
        "train_anomaly_maps": np.resize(maps, (40, *maps.shape[1:])),
        "train_gt_maps": np.concatenate([np.zeros_like(preview_gt), preview_gt]),
        "train_reference_quantiles": heatmap_values.reference_quantiles(maps[:40]),
        "train_blurred_quantiles": heatmap_values.reference_quantiles(maps[:40]),
    }
    return arrays, gt_maps, maps


def decisions(label, score, threshold):
    """Columns of `metrics.parquet` on decisions by a threshold."""
    called = score > threshold
    counts = {
        "true_positives": int((called & (label == 1)).sum()),
        "false_positives": int((called & (label == 0)).sum()),
        "true_negatives": int((~called & (label == 0)).sum()),
        "false_negatives": int((~called & (label == 1)).sum()),
    }
    wrong = counts["false_positives"] + counts["false_negatives"]
    found, anomalous = counts["true_positives"], max((label == 1).sum(), 1)
    rate = counts["false_positives"] / (label == 0).sum()
    low, high = wilson_interval(counts["false_positives"], int((label == 0).sum()))
    shares = {
        "accuracy": 1 - wrong / len(label),
        "precision": found / called.sum() if called.any() else None,
        "recall": found / anomalous,
        "f1": 2 * found / (2 * found + wrong),
        "fpr_at_95_recall": rate,
        "test_agreement": 0.75,
    }
    alarms = {"test_false_alarm_rate": rate, "test_false_alarm_low": low, "test_false_alarm_high": high}
    return counts | shares | alarms | {"image_score_source": "", "threshold": threshold}


def write_leaf(
    leaf: Path, trial: dict, wrong=0, size=32, anomalous=N_ANOMALOUS, with_maps=True, threshold=None, others=None
):
    """A whole leaf of a finished trial; image AUROC is `1 - wrong / anomalous`, NaN without anomalous images.

    `threshold` adds decisions; `others` are the defect types, which images have in turn.
    """
    label, score = known_scores(wrong, anomalous)
    arrays, gt_maps, maps = fake_maps(label, score, size, trial["seed"])
    mark = {"trial_id": trial["trial_id"]}
    by_image = ranking.rank(score, label)
    heat = heatmap_values.upsample(maps, FIELD, (size, size), 2.0)
    by_pixel = ranking.rank(heat.ravel(), gt_maps.ravel().astype(int))
    kinds = others or ["stain", "hole"]
    defects = np.array(kinds, object)[np.arange(anomalous) % len(kinds)]
    write_tables(leaf, mark, label, score, defects, by_image, by_pixel if with_maps else None)
    if not with_maps:
        arrays = {name: array for name, array in arrays.items() if "gt_maps" not in name}
    files.write_arrays(TrialPaths(leaf).maps, arrays)
    figures = {
        "image_auroc": by_image.auroc(),
        "image_ap": by_image.average_precision(),
        "pixel_auroc": by_pixel.auroc() if with_maps else np.nan,
        "pixel_ap": by_pixel.average_precision() if with_maps else np.nan,
    }
    row = {name: None for name in schemas.METRICS.names} | trial | {"attempt": 1, "finished": NOW, "device": "cpu"}
    row["device_numerics"] = "cpu"
    row |= {"image_score": "score_mean", "false_alarm_rate": 0.05, "calibration": "split"}
    row |= {"n_test_nominal": N_NOMINAL, "n_test_anomalous": anomalous}
    if threshold is not None:
        row |= decisions(label, score, threshold) | {"n_train": 100, "epochs": 30}
        row |= {"train_time_s": 50.0, "test_time_s": 5.0, "wall_time_s": 60.0}
    row |= {name: None if np.isnan(value) else value for name, value in figures.items()}
    files.write_rows(TrialPaths(leaf).metrics, [row], schemas.METRICS)


def score_columns(score):
    """All scores of an image: the largest heatmap value is twice the mean, the others are between."""
    names = ("score_mean", "score_top_10", "score_top_3", "score_top_1", "score_top_0_1", "score_max")
    found = {name: score * (1 + i / 5) for i, name in enumerate(names)}
    return found | dict.fromkeys(("fold", *map(p_value_column, names), *IMAGE_COLUMNS))


def write_tables(leaf, mark, label, score, defects, by_image, by_pixel):
    epochs = [
        mark
        | dict(epoch=e, loss=1 / e, loss_nominal=0.5 / e, loss_anomalous=2 / e, learning_rate=0.98**e)
        | dict(images_per_second=1e3, validation_image_auroc=None)
        for e in range(1, 31)
    ]
    files.write_rows(TrialPaths(leaf).history, epochs, schemas.HISTORY)
    scores = [
        mark
        | dict(split="test", image_index=1000 + i, path=f"bricks/{i}", label=int(label[i]), score=float(score[i]))
        | dict(defect=str(defects[i - N_NOMINAL]) if label[i] else "", **score_columns(float(score[i])))
        for i in range(len(label))
    ]
    held_out = mark | dict(
        split="validation", image_index=7, path="bricks/7000", label=0, score=0.3, defect="", **score_columns(0.3)
    )
    files.write_rows(TrialPaths(leaf).scores, [*scores, held_out], schemas.SCORES)
    found = {}
    for name, result in (("image", by_image), ("pixel", by_pixel)):
        if result is not None and result.is_defined:
            found |= {f"{name}_roc": curves.thin_curve(*result.roc), f"{name}_pr": curves.thin_curve(*result.pr)}
    points = [
        mark | {"kind": kind, "x": x, "y": y, "threshold": t}
        for kind, curve in found.items()
        for x, y, t in zip(*(axis.tolist() for axis in curve), strict=True)
    ]
    files.write_rows(TrialPaths(leaf).curves, points, schemas.CURVES)
    rows = []
    for name in sorted(set(defects)):
        own = np.concatenate([np.ones(N_NOMINAL, bool), defects == name])
        auroc = ranking.auroc(score[own], label[own])
        pixel = None if by_pixel is None else by_pixel.auroc()
        known = dict(defect=name, n_images=int((defects == name).sum()), image_auroc=auroc, pixel_auroc=pixel)
        rows.append(mark | dict.fromkeys(DEFECT_COLUMNS) | known)
    files.write_rows(TrialPaths(leaf).defects, rows, schemas.DEFECTS)


class FakeRun:
    """A run in the making: `plan`, then `finish` or `fail` some of its trials, then `write`."""

    def __init__(self, path: Path, experiment: str = EXPERIMENT) -> None:
        self.path, self.planned, self.index = path, [], {}
        path.mkdir(parents=True, exist_ok=True)
        RunPaths(path).experiment.write_text(experiment)
        environment = {"python": "3.12.1", "host": "bench", "notes": ["2 independent regions stand behind the walls."]}
        RunPaths(path).environment.write_text(json.dumps(environment))

    def plan(self, classes, seeds, configs=None):
        """`configs`: parameters by name; one nameless config when left out."""
        for config, parameters in (configs or {"": {}}).items():
            for name in classes:
                for seed in seeds:
                    leaf = leaf_name(config, name, seed)
                    row = key(config, name, seed) | {"leaf": leaf, "parameters": json.dumps(parameters)}
                    self.planned.append(row)
        return self

    def finish(self, config, normal_class, seed, **leaf):
        trial, folder = key(config, normal_class, seed), leaf_name(config, normal_class, seed)
        write_leaf(self.path / folder, trial, **leaf)
        self.index[trial["trial_id"]] = trial | dict(
            status="done",
            leaf=folder,
            attempt=1,
            failures=0,
            error="",
            data_fingerprint="f",
            published_at=NOW,
            wall_time_s=60.0,
            device="x86_64",
            trials_per_gpu=None,
            device_numerics="cpu",
        )
        return self

    def link(self, config, other, normal_class, seed):
        """Finish a trial of `other` with the figures of the same class and seed of `config`, which is much faster."""
        trial, folder = key(other, normal_class, seed), leaf_name(other, normal_class, seed)
        source = self.path / leaf_name(config, normal_class, seed)
        (self.path / folder).mkdir(parents=True)
        for file in source.iterdir():
            if file.name in tree.LEAF_TABLES:
                table = files.read_table(file)
                for name in set(trial) & set(table.column_names):
                    column = table.column_names.index(name)
                    same = pa.repeat(pa.scalar(trial[name], table.schema.field(name).type), len(table))
                    table = table.set_column(column, table.schema.field(name), same)
                files.write_table(self.path / folder / file.name, table)
            else:
                os.link(file, self.path / folder / file.name)
        entry = self.index[key(config, normal_class, seed)["trial_id"]]
        self.index[trial["trial_id"]] = entry | trial | {"leaf": folder}
        return self

    def fail(self, config, normal_class, seed, error="RuntimeError: out of <memory>"):
        trial = key(config, normal_class, seed)
        self.index[trial["trial_id"]] = trial | dict(
            status="failed",
            leaf="",
            attempt=2,
            failures=2,
            error=error,
            data_fingerprint="",
            published_at=NOW,
            wall_time_s=None,
            device=None,
            trials_per_gpu=None,
            device_numerics=None,
        )
        return self

    def write(self) -> Path:
        files.write_rows(RunPaths(self.path).plan, self.planned, schemas.PLAN)
        files.write_rows(RunPaths(self.path).index, list(self.index.values()), schemas.INDEX)
        return self.path


def small_run(path):
    """Two classes, three seeds; image AUROCs 1, .95, .9 and .8, .75, missing."""
    run = FakeRun(path).plan(["brick", "metal nut"], [0, 1, 2])
    for seed in range(3):
        run.finish("", "brick", seed, wrong=seed)
    run.finish("", "metal nut", 0, wrong=4).finish("", "metal nut", 1, wrong=5)
    return run.fail("", "metal nut", 2)


def csv_rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))
