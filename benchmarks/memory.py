"""Peak memory of a trial: two training steps at its batch size, and a test set.

`mvtec` is the paper's experiment with several networks, `folder` the preset for own images. The data is a tree in
MVTec-AD's layout, cut from a photograph of scikit-image, and networks start from random weights: neither changes how
much memory is used. Each trial is measured in a separate process, since peak memory never decreases within one.

    python benchmarks/memory.py [--trials mvtec:FCDD_CNN224_VGG_F folder] [--threads 2]
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from fcdd_sweep.planning.plan import plan_file
from fcdd_sweep.runners.trial_data import corpus_of
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.trainer import train

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
TRAIN, TEST = 256, 20
TRIALS = ("mvtec:FCDD_CNN224_VGG_F", "mvtec:FCDD_CNN224_VGG_NOPT", "mvtec:FCDD_CNN224", "folder")
"""An experiment's name and a network's, or that of the experiment itself."""


def write_tree(root: Path) -> None:
    """Write two batches of 128 training images of class bottle, and a test set with one kind of defect."""
    wall, rng = data.brick(), np.random.default_rng(0)

    def write(path: Path) -> None:
        top, left = rng.integers(0, len(wall) - 240, 2)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(wall[top : top + 240, left : left + 240, None], 3, axis=2)).save(path)

    for i in range(TRAIN):
        write(root / "bottle" / "train" / "good" / f"{i:03}.png")
    for i in range(TEST):
        write(root / "bottle" / "test" / "good" / f"{i:03}.png")
        write(root / "bottle" / "test" / "crack" / f"{i:03}.png")
        mask = np.zeros((240, 240), np.uint8)
        mask[50:90, 60:150] = 255
        path = root / "bottle" / "ground_truth" / "crack" / f"{i:03}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)


def peak_gib() -> float:
    """Return the peak resident memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform != "darwin" else 2**30)


def measure(trial: str, root: Path, threads: int) -> None:
    """Train and test one class, and print peak memory and times."""
    experiment, _, network = trial.partition(":")
    overrides = [
        f"dataset.root={root}",
        "dataset.classes=[bottle]",
        "seeds=1",
        "training.epochs=1",
        "training.min_steps=0",
        "training.passes_per_epoch=1",
        f"training.threads={threads}",
        *([f"network.name={network}", "network.weights=none"] if network else []),
    ]
    _, planned = plan_file(EXPERIMENTS / f"{experiment}.yaml", overrides)
    (spec,) = planned.specs
    corpus, before = corpus_of(spec.settings), peak_gib()
    started = time.perf_counter()
    result = train(spec, TrialData(corpus))
    seconds = time.perf_counter() - started
    batch = spec.settings.training.batch_size
    times = f"{result.metrics['train_time_s']:6.0f} s for {TRAIN // batch} steps of {batch}, {seconds:6.0f} s in all"
    print(f"{trial:27} {peak_gib():6.2f} GiB at its peak ({before:.2f} before training), {times}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", nargs="*", default=TRIALS)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--measure", nargs=2, metavar=("TRIAL", "TREE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]), options.threads)
        return
    print(f"{platform.machine()}, {options.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        write_tree(Path(folder) / "mvtec")
        for trial in options.trials:
            command = [sys.executable, __file__, "--threads", str(options.threads)]
            environment = {**os.environ, "FCDD_SWEEP_CACHE": f"{folder}/cache"}
            subprocess.run([*command, "--measure", trial, f"{folder}/mvtec"], check=True, env=environment)


if __name__ == "__main__":
    main()
