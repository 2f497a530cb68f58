"""`init DIR --run` on 24 photographs of coins: its minutes, and whether decision and marked region agree on defects.

    python benchmarks/init_coins.py

The tree is `coins` of `photo_trees`: 24 nominal training images, and test images with rendered stains and other
defects, each with its map. Printed are the time of the whole command, the trial's figures, and by kind of defect how
many images are called anomalous, how many of these have their marked region on the defect, and how many decisions
disagree with their region.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from photo_trees import write_tree
from PIL import Image

from fcdd_sweep import load_detector
from fcdd_sweep.data.loading import load_image_file
from fcdd_sweep.results.files import read_table


def run_init(root: Path, work: Path) -> float:
    """Run the command as a user does, and return its seconds."""
    command = [sys.executable, "-m", "fcdd_sweep", "init", str(root), "-o", str(work / "coins.yaml"), "--run"]
    began = time.perf_counter()
    subprocess.run([*command, "--output", str(work / "results"), *sys.argv[1:]], check=True)
    return time.perf_counter() - began


def agreement(root: Path, leaf: Path) -> Counter[tuple[str, str]]:
    """Return by kind of image how many there are, are called anomalous, are hit by their region, and disagree."""
    detector = load_detector(leaf / "snapshot.pt", device="cpu")
    found = Counter[tuple[str, str]]()
    for path in sorted((root / "test").rglob("*.png")):
        kind = path.parent.name
        image, _ = load_image_file(path, detector.settings.images)
        detection = detector.detect(image[None])
        (score,) = detector.scores(detection)[detector.score_column]
        region = detector.heatmaps(detection.maps)[0, 0].numpy() > detector.pixel_threshold
        called = bool(score > detector.threshold)
        found[kind, "images"] += 1
        found[kind, "called"] += called
        found[kind, "disagree"] += called != region.any()
        mask = root / "ground_truth" / kind / f"{path.stem}_mask.png"
        if called and mask.exists():
            with Image.open(mask) as file:
                defect = np.asarray(file.resize(region.shape[::-1], Image.Resampling.BOX)) > 0
            found[kind, "on the defect"] += bool((region & defect).any())
    return found


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="fcdd-coins-") as folder:
        work = Path(folder)
        root = write_tree("coins", work)
        seconds = run_init(root, work)
        (metrics,) = (work / "results").rglob("it_0/metrics.parquet")
        (row,) = read_table(metrics).to_pylist()
        print(f"init --run: {seconds / 60:.1f} minutes")
        for name in ("image_auroc", "pixel_auroc", "false_alarm_rate", "test_false_alarm_rate", "recall", "f1"):
            print(f"{name}: {row[name]:.3f}" if row[name] is not None else f"{name}: n/a")
        found = agreement(root, metrics.parent)
        for kind in sorted({kind for kind, _ in found}):
            texts = (f"{found[kind, what]} {what}" for what in ("images", "called", "on the defect", "disagree"))
            print(f"{kind}: {', '.join(texts)}")


if __name__ == "__main__":
    main()
