"""ONNX files against torch: the network of every preset on 100 photographs, scores, heatmaps and decisions.

Each network has its preset's preprocessing, image size and score, and random weights with batch norms fitted to the
images: training would change the weights and not what is computed. The images are crops of the built-in photographs,
half of them with defects. Thresholds are at the 95% quantile of the images' scores and of their largest heatmap values.
Presets of the same network at the same size differ in preprocessing. The exit code is 1 where a file would be refused.

    python benchmarks/onnx_equality.py [--presets digits mvtec] [--images 100]
    python benchmarks/onnx_equality.py --presets folder --image-score max   # by another score than the preset's
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from fcdd_sweep import load_experiment
from fcdd_sweep.config.grid import configs_of
from fcdd_sweep.config.presets import PRESETS
from fcdd_sweep.config.schema import Dataset, Settings
from fcdd_sweep.data.loading import load_corpus
from fcdd_sweep.export import Differences, differences, onnx_bytes, run_onnx
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.detector_graph import output_names
from fcdd_sweep.training.models import make_network
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe


def settings_of(preset: str, image_score: str) -> Settings:
    """Return the settings of a preset, with an image score unless that is empty; its data need not be there."""
    source: dict[str, Any] = {"schema": 2, "name": preset, "preset": preset}
    if image_score:
        source["evaluation"] = {"image_score": image_score}
    if preset not in ("digits", "textures", "solar"):
        source["dataset"] = {"root": tempfile.gettempdir()}
    (config,) = configs_of(load_experiment(source))
    return config.settings


def photographs(settings: Settings, count: int) -> npt.NDArray[np.uint8]:
    """Return (count, C, R, R) crops of the built-in photographs at the preset's size and in its colors."""
    corpus = load_corpus(Dataset(name="textures", classes="all"), settings.images)
    rows = np.linspace(0, len(corpus.images) - 1, count).astype(int)
    return np.array(corpus.images[rows])


def detector_of(settings: Settings, raw: npt.NDArray[np.uint8]) -> Detector:
    """Return a detector with random weights that is fitted to the images, thresholds included."""
    network = make_network(settings, torch.device("cpu"), 0, pretrained=False)
    fitted = Preprocessor.fit(Recipe.of(settings), torch.from_numpy(raw))
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(fitted.test(torch.from_numpy(raw[::4])))
    plain = Detector(settings, "photographs", network.eval(), fitted)
    detection = plain.detect(raw)
    found = plain.scores(detection)
    thresholds = (float(np.quantile(found[name], 0.95)) for name in (plain.score_column, "score_max"))
    return dataclasses.replace(plain, **dict(zip(("threshold", "pixel_threshold"), thresholds, strict=True)))


def compare(preset: str, count: int, image_score: str) -> tuple[str, Differences]:
    """Return a line of the table, and the differences in it."""
    start, settings = time.perf_counter(), settings_of(preset, image_score)
    raw = photographs(settings, count)
    detector = detector_of(settings, raw)
    content = onnx_bytes(detector)
    found = differences(detector, run_onnx(content, output_names(detector)), raw)
    images = settings.images
    shape = f"{images.channels} x {images.size} x {images.size}"
    row: list[object] = [preset, settings.network.title, settings.preprocessing, shape, detector.score_column, len(raw)]
    row += [f"{found.score:.1e}", f"{found.heatmap:.1e}", found.labels, f"{len(content) / 2**20:.1f} MiB"]
    print(f"{preset}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return f"| {' | '.join(map(str, row))} |", found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--image-score", choices=["mean", "max"], default="", help="default: the preset's")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, CPU", file=sys.stderr)
    print("| preset | network | preprocessing | input | score | images | scores | heatmaps | other decisions | file |")
    print("|---|---|---|---|---|---:|---:|---:|---:|---:|")
    results = [compare(preset, options.images, options.image_score) for preset in options.presets]
    print("\n".join(line for line, _ in results))
    return 0 if all(found.is_small for _, found in results) else 1


if __name__ == "__main__":
    sys.exit(main())
