"""Prediction in tiles: equality with the whole image, and time and memory of an image of 100 megapixels.

The network is that of the preset for own images, with random weights whose batch norms fit crops of the image:
training would change the weights and not what is computed. The image is a patchwork of scikit-image's photographs at
several scales. First the map of an image that fits as a whole, against that of its tiles; then a large image at its
native scale, in each size of tiles in a process of its own, as peak memory never decreases within one. Time and memory
are those of `TiledPredictor.predict`, from the image in memory to its heatmap; the difference is that of the heatmap
from the one with the first size of tiles. Differences are relative to the largest value. Needs Linux.

    OMP_NUM_THREADS=1 python benchmarks/tiles.py [--tiles 512 1024] [--whole 2000 1500] [--large 10000 10000]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from onnx_equality import detector_of, settings_of
from skimage import data

from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.device import full_precision
from fcdd_sweep.training.tiling import TiledPredictor, detect_in_tiles

PATCH = 500
"""Side in pixels of the patches of the image."""
Pixels = npt.NDArray[np.uint8]


def patchwork(width: int, height: int) -> Pixels:
    """Return a (H, W, 3) uint8 image of patches, each of a photograph at a scale between a half and 4."""
    photos, rng = [data.astronaut(), data.coffee(), data.chelsea()], np.random.default_rng(0)
    image = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, PATCH):
        for left in range(0, width, PATCH):
            part = image[top : top + PATCH, left : left + PATCH]
            photo, scale = photos[rng.integers(len(photos))], rng.uniform(0.5, 4)
            rows, columns = (
                (rng.integers(length) + np.arange(side) / scale).astype(int) % length
                for side, length in zip(part.shape, photo.shape[:2], strict=False)
            )
            part[:] = photo[np.ix_(rows, columns)]
    return image


def detector_for(image: Pixels) -> Detector:
    """Return a detector at the preset's size that is fitted to crops of an image."""
    settings, rng = settings_of("folder"), np.random.default_rng(1)
    side = settings.images.load_size
    places = [rng.integers(length - side, size=16) for length in image.shape[:2]]
    crops = [image[top : top + side, left : left + side] for top, left in zip(*places, strict=True)]
    return detector_of(settings, np.stack(crops).transpose(0, 3, 1, 2))


def memory_mib(name: str) -> float:
    """Return resident memory of this process in MiB: `VmRSS` now, `VmHWM` at its peak.

    `getrusage` would begin with the peak of the process that started this one.
    """
    found = re.search(rf"{name}:\s*(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@torch.no_grad()
@full_precision()
def compare_with_whole(image: Pixels, tiles: list[int]) -> None:
    """Print a line for each size of tiles: the largest difference from the map of the whole image."""
    detector, pixels = detector_for(image), image.transpose(2, 0, 1)
    inputs = detector.preprocessor.normalized(torch.from_numpy(pixels.copy())[None].float() / 255)
    whole = detector.method.detect(detector.network, inputs).maps[0, 0].numpy()
    for tile in tiles:
        found = detect_in_tiles(detector, pixels, tile, native_scale=True)
        difference = np.abs(found.map - whole).max() / whole.max()
        print(f"| {image.shape[1]} x {image.shape[0]} | {tile} | the whole image | {difference:.1e} |", flush=True)


def measure(image: Pixels, tile: int, path: Path) -> None:
    """Predict in tiles, save the heatmap at a path, and print CPU seconds, memory before and its peak after."""
    predictor = TiledPredictor(detector_for(image), tile, native_scale=True)
    before, start = memory_mib("VmRSS"), time.process_time()
    found = predictor.predict(image)
    seconds, after = time.process_time() - start, memory_mib("VmHWM")
    np.save(path, found.view.heatmap)
    print(json.dumps({"seconds": seconds, "before": before, "after": after}))


def largest_difference(path: Path, other: Path) -> float:
    """Return the largest difference of two saved heatmaps, relative to the largest value of the first."""
    heatmaps = (np.load(each, mmap_mode="r") for each in (path, other))
    found = [(np.abs(one - two).max(), one.max()) for one, two in zip(*heatmaps, strict=True)]
    return float(max(each[0] for each in found) / max(each[1] for each in found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, nargs="+", default=[512, 1024], metavar="SIDE")
    sides = {"type": int, "nargs": 2, "metavar": ("WIDTH", "HEIGHT")}
    parser.add_argument("--whole", default=[2000, 1500], **sides, help="an image that fits as a whole")
    parser.add_argument("--large", default=[10000, 10000], **sides, help="one that does not")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    width, height = options.large
    if options.measure:
        measure(patchwork(width, height), options.tiles[0], options.measure)
        return
    print("| pixels | tile | against | largest difference |\n|---|---:|---|---:|")
    compare_with_whole(patchwork(*options.whole), options.tiles)
    print("\n| pixels | tile | CPU s | MiB before | at the peak | bytes a pixel | difference |\n|---|" + "---:|" * 6)
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / f"{options.tiles[0]}.npy"
        for tile in options.tiles:
            path = Path(folder) / f"{tile}.npy"
            sizes = ["--tiles", str(tile), "--large", str(width), str(height)]
            command = [sys.executable, __file__, *sizes, "--measure", str(path)]
            found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
            row: list[object] = [f"{width} x {height}", tile]
            row += [f"{found[name]:,.0f}" for name in ("seconds", "before", "after")]
            row.append(f"{(found['after'] - found['before']) * 2**20 / (width * height):.1f}")
            row.append("" if path == first else f"{largest_difference(first, path):.1e}")
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
