"""Pixel metrics against scikit-learn, an interpolating AUPRO and the program before this core; and their memory.

    OMP_NUM_THREADS=1 python benchmarks/pixel_metrics.py [--rounds 5] [--json out.json] [--only auroc aupro trial ...]

One process and one thread; the two sides of a ratio run in turns, and ratio and spread are over rounds, so that other
programs on the machine disturb both alike. Times are CPU seconds.

- `auroc`: AUROC of 1e7 pixels, 3% of them anomalous, against `sklearn.metrics.roc_auc_score`: the counting alone, of
  pixels that the mask has separated, and from heatmaps on.
- `aupro`: AUPRO at .3 of 1e6 and 1e7 pixels with known regions, against a curve over all distinct scores that is
  interpolated at the limit.
- `trial`: all pixel metrics that a trial had before (AUROC, AP, AUROC of each defect type) at the size of a class of
  MVTec-AD (110 test images at 224 px, masks of 900 px, 6 defect types), against the way that they were computed:
  masks unpacked and cells counted in each trial, one `argsort` for all images and one for each defect type. And how
  long all figures of today at the network's resolution take (`all_figures_s`).
- `full`: all figures at the resolution of the masks of that class.
- `memory`: peak memory of all figures of 1e8 pixels, with the process and its input.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from fcdd_sweep.metrics import pixel_figures as figures
from fcdd_sweep.metrics.pixel_columns import PixelResult, full_metrics
from fcdd_sweep.metrics.pixel_order import SortedCells, counts_above, pair_share, rank_pixels
from fcdd_sweep.metrics.pixel_truth import FullTruth, MaskedImage, PixelTruth
from fcdd_sweep.metrics.ranking import Ranking, cell_counts

PARTS = ("auroc", "aupro", "trial", "full", "memory")
SIDE, MASK, TYPES, NOMINAL, ANOMALOUS = 224, 900, 6, 40, 70


def compare(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Run both in turns; return medians of CPU seconds and of their ratio, and its spread. A first round warms up."""
    spent: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        pair = []
        for work in (ours, theirs):
            start = time.process_time()
            work()
            pair.append(time.process_time() - start)
        if number:
            spent.append((pair[0], pair[1]))
    ratios = [other / own for own, other in spent]
    own, other = (statistics.median(each) for each in zip(*spent, strict=True))
    ratio = statistics.median(ratios)
    return {
        "ours_s": own,
        "theirs_s": other,
        "ratio": ratio,
        "low": min(ratios),
        "high": max(ratios),
        "rounds": rounds,
    }


def pixels(images: int, side: int, seed: int = 0) -> tuple[list[np.ndarray], list[MaskedImage]]:
    """Heatmaps and masks, half of the images with two boxes of which a part is hot; 3% of all pixels are anomalous."""
    rng = np.random.default_rng(seed)
    heats, given = [], []
    edge = int(side * 0.03**0.5)
    for i in range(images):
        heat = rng.random((side, side), dtype=np.float32)
        mask = None
        if i % 2:
            mask = np.zeros((side, side), bool)
            for corner in (rng.integers(0, side // 2 - edge, 2), rng.integers(side // 2, side - edge, 2)):
                mask[corner[0] : corner[0] + edge, corner[1] : corner[1] + edge] = True
            heat[mask] += np.float32(0.3)
        heats.append(heat)
        given.append(MaskedImage(i % 2, (side, side), mask))
    return heats, given


def measure_auroc(rounds: int, *, is_separated: bool) -> dict[str, float]:
    heats, given = pixels(10, 1000)
    truth = FullTruth.of(given)
    label = np.concatenate([np.zeros(10**6, bool) if each.mask is None else each.mask.ravel() for each in given])
    score = np.concatenate([heat.ravel() for heat in heats])
    free, anomalous = score[~label], score[label]

    def separated() -> float:
        values, sought = np.sort(free), np.sort(anomalous)
        at_least, higher = counts_above(values, sought)
        return 1 - float(at_least.sum() + higher.sum()) / (2 * len(values) * len(sought))

    def from_heatmaps() -> float:
        return pair_share(rank_pixels(heats, truth))

    def theirs() -> float:
        return float(roc_auc_score(label, score))

    ours = separated if is_separated else from_heatmaps
    assert abs(ours() - theirs()) < 1e-9
    return compare(ours, theirs, rounds)


def interpolated_aupro(scores: np.ndarray, weight: np.ndarray, free: np.ndarray, limit: float) -> float:
    """AUPRO as the area under a curve over all distinct scores, cut off at the limit by interpolation.

    Args:
        scores: (n,) of all pixels.
        weight: (n,) share of all regions that a pixel is.
        free: (n,) whether a pixel is defect-free.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    found = np.append(0, np.cumsum(weight[order])[last])
    rate = np.append(0, np.cumsum(free[order])[last] / free.sum())
    inside = rate <= limit
    edge = np.interp(limit, rate, found)
    return float(np.trapezoid(np.append(found[inside], edge), np.append(rate[inside], limit)) / limit)


def measure_aupro(images: int, side: int, rounds: int) -> dict[str, float]:
    heats, given = pixels(images, side)
    truth = FullTruth.of(given)
    regions = truth.regions
    anomalous = np.concatenate([np.zeros(side**2, bool) if each.mask is None else each.mask.ravel() for each in given])
    weight = np.zeros(len(anomalous))
    weight[np.flatnonzero(anomalous)[regions.element]] = 1 / regions.area[regions.region] / len(regions.area)
    scores, free = np.concatenate([heat.ravel() for heat in heats]), ~anomalous

    def ours() -> float:
        return figures.region_overlap(rank_pixels(heats, truth), 0.3)

    def theirs() -> float:
        return interpolated_aupro(scores, weight, free, 0.3)

    assert abs(ours() - theirs()) < 1e-9
    return compare(ours, theirs, rounds)


def rank_by_argsort(scores: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> Ranking:
    """Rank cells as the program did before."""
    order = np.argsort(scores)[::-1]
    ordered = scores[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    true, false = (
        np.append(0.0, np.cumsum(counts[order], dtype=np.float64)[last]) for counts in (positives, negatives)
    )
    return Ranking(true, false, np.append(np.inf, ordered[last].astype(np.float64)))


class MvtecClass:
    """A test set of the size of a class of MVTec-AD, with smooth heatmaps and masks packed as a corpus holds them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.group = np.array([0] * NOMINAL + [1 + i % TYPES for i in range(ANOMALOUS)])
        masks = [np.zeros((MASK, MASK), bool) for _ in self.group]
        for mask in masks[NOMINAL:]:
            top, left = rng.integers(0, MASK - 160, 2)
            mask[top : top + 150, left : left + 150] = True
        self.bits = [np.packbits(mask) for mask in masks]
        self.full_truth = FullTruth.of(self.images())
        self.truth = PixelTruth.of(self.images(), SIDE)
        _ = self.truth.codes
        noise = (ndimage.gaussian_filter(rng.random((SIDE, SIDE), dtype=np.float32), 4) for _ in self.group)
        self.heat = np.stack([each.ravel() for each in noise])
        self.heat += 0.02 * (self.truth.positive > 0) * rng.random((len(self.group), 1), dtype=np.float32)

    def mask(self, i: int) -> np.ndarray:
        return np.unpackbits(self.bits[i], count=MASK * MASK).astype(bool).reshape(MASK, MASK)

    def images(self) -> Any:
        for i, group in enumerate(self.group):
            yield MaskedImage(int(group), (MASK, MASK), self.mask(i) if group else None)

    def before(self) -> list[float]:
        counts = [
            cell_counts(self.mask(i) if group else np.zeros((MASK, MASK), dtype=bool), SIDE)
            for i, group in enumerate(self.group)
        ]
        positive = np.stack([each.ravel().astype(np.int32) for each, _ in counts])
        negative = np.stack([each.ravel().astype(np.int32) for _, each in counts]) - positive
        ranking = rank_by_argsort(self.heat.ravel(), positive.ravel(), negative.ravel())
        found = [ranking.auroc(), ranking.average_precision()]
        for group in range(1, TYPES + 1):
            part = (self.group == 0) | (self.group == group)
            found.append(
                rank_by_argsort(self.heat[part].ravel(), positive[part].ravel(), negative[part].ravel()).auroc()
            )
        return found

    def now(self) -> list[float]:
        cells = SortedCells(self.heat, self.truth)
        found = [cells.ranking.auroc(), cells.ranking.average_precision()]
        return [*found, *(cells.defect_auroc(group) for group in range(1, TYPES + 1))]

    def all_figures(self) -> PixelResult:
        result = PixelResult.of(self.heat, self.truth)
        result.metrics()
        result.image_columns()
        for group in range(1, TYPES + 1):
            result.defect(group)
        return result

    def full(self) -> dict[str, float]:
        step = np.minimum(np.arange(MASK) * SIDE // MASK, SIDE - 1)
        return full_metrics((heat.reshape(SIDE, SIDE)[step][:, step] for heat in self.heat), self.full_truth)


def measure_trial(rounds: int) -> dict[str, float]:
    made = MvtecClass()
    before, now = made.before(), made.now()
    assert before[:2] == now[:2], "AUROC and AP of all pixels have the same bits"
    assert np.allclose(before, now, rtol=0, atol=1e-12)
    found = compare(made.now, made.before, rounds)
    return found | {"all_figures_s": _median(made.all_figures, rounds)}


def measure_full(rounds: int) -> dict[str, float]:
    made = MvtecClass()
    return {"seconds": _median(made.full, max(rounds // 2, 1)), "pixels": MASK * MASK * len(made.group)}


def _median(work: Callable[[], Any], rounds: int) -> float:
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def measure_memory() -> dict[str, float]:
    """Measure all figures of 100 images of 1,000 x 1,000 px in a process of its own, whose peak is what is reported."""
    command = [sys.executable, __file__, "--child"]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def child() -> None:
    rng = np.random.default_rng(0)
    images = []
    for i in range(100):
        mask = None
        if i % 2:
            mask = np.zeros((1000, 1000), bool)
            for top, left in rng.integers(0, 800, (2, 2)):
                mask[top : top + 170, left : left + 170] = True
        images.append(MaskedImage(i % 2, (1000, 1000), mask))
    truth = FullTruth.of(images)
    del images
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    full_metrics((rng.random((1000, 1000), dtype=np.float32) for _ in range(100)), truth)
    spent, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"peak_gib": peak / 2**20, "before_gib": before / 2**20, "seconds": spent, "pixels": 10**8}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child()
        return
    rounds = options.rounds
    found: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPU cores, one thread",
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    works: dict[str, dict[str, Callable[[], dict[str, float]]]] = {
        "auroc": {
            "AUROC, 1e7 pixels, separated by the mask, against scikit-learn": lambda: measure_auroc(
                rounds, is_separated=True
            ),
            "AUROC, 1e7 pixels, from heatmaps, against scikit-learn": lambda: measure_auroc(rounds, is_separated=False),
        },
        "aupro": {
            "AUPRO .3, 1e6 pixels, against interpolating": lambda: measure_aupro(4, 500, rounds),
            "AUPRO .3, 1e7 pixels, against interpolating": lambda: measure_aupro(10, 1000, rounds),
        },
        "trial": {"a class of MVTec-AD, against the way before": lambda: measure_trial(rounds)},
        "full": {"a class of MVTec-AD at full resolution": lambda: measure_full(rounds)},
        "memory": {"all figures of 1e8 pixels": measure_memory},
    }
    print(found["machine"])
    for part in options.only:
        for name, work in works[part].items():
            found[name] = work()
            print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in found[name].items()), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
