"""Draws docs/textures.png: nominal crops of every texture and one crop of every defect, with its map outlined below.

python benchmarks/textures_sheet.py [PNG]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.datasets.textures import CROP_SIDE, DEFECT_DRAWINGS, scan
from fcdd_sweep.data.records import DecodedImage
from fcdd_sweep.data.registry import info

KINDS = {"train/good": "training", "test/good": "test, nominal"} | {f"test/{name}": name for name in DEFECT_DRAWINGS}
INDEX = 2
COLORS = 40
"""A palette of 40 grays and reds keeps the picture below 400 kB."""


def sheet() -> Image.Image:
    """Two rows a class: crops, and the same crops with the outlines of their maps."""
    classes = info("textures").classes or ()
    records = {r.path: r for r in scan(Dataset(name="textures"), Images(load_size=CROP_SIDE, size=CROP_SIDE)).records}
    size = (1.05 * len(KINDS) + 0.3, 2.1 * len(classes) + 0.2)
    figure, axes = plt.subplots(2 * len(classes), len(KINDS), figsize=size, dpi=115, squeeze=False)
    for row, name in enumerate(classes):
        axes[2 * row, 0].set_ylabel(name, fontsize=8)
        for column, kind in enumerate(KINDS):
            draw(axes[2 * row : 2 * row + 2, column], records[f"{name}/{kind}/{INDEX:03d}"].load())
    for axis, title in zip(axes[0], KINDS.values(), strict=True):
        axis.set_title(title, fontsize=8)
    figure.subplots_adjust(left=0.03, right=0.999, bottom=0.003, top=0.965, wspace=0.03, hspace=0.03)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    plt.close(figure)
    return Image.fromarray(pixels).quantize(COLORS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


def draw(axes: np.ndarray, picture: DecodedImage) -> None:
    for axis in axes:
        axis.imshow(picture.image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
    if picture.mask is not None:
        axes[1].contour(picture.mask, levels=[0.5], colors="red", linewidths=0.6, antialiased=False)


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/textures.png")
    sheet().save(target, optimize=True)
    print(f"{target}: {target.stat().st_size / 1e3:.0f} kB")
