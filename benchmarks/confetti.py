"""Confetti against the blur that is a part of it: what a batch of the paper's anomalies costs.

All run in one process on the same device, in turns: `render("confetti", ...)` for a batch of 3 x 240 x 240, and two
separable Gaussian blurs of 25 taps of a batch of that shape: two convolutions, as one would write it, and the banded
products that confetti itself is blurred by, which are quicker. The ratios are of times.

On a CPU times are CPU seconds of the process, which other programs disturb less than the clock.

    python benchmarks/confetti.py [--images 64] [--rounds 9] [--device cpu] [--threads 1] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from fcdd_sweep.anomalies import render, synthetic
from fcdd_sweep.anomalies.draws import CounterDraws
from fcdd_sweep.anomalies.synthetic import BLUR_STD, BLUR_TAPS
from fcdd_sweep.metrics.heatmap_values import gaussian_kernel
from fcdd_sweep.training.device import device_name

SHAPE = (3, 240, 240)


def convolved(images: Tensor, taps: Tensor) -> Tensor:
    """Separable Gaussian blur of (N, C, H, W) float32 with reflected borders, as two convolutions."""
    n, channels, height, width = images.shape
    planes = images.view(n * channels, 1, height, width)
    reach = len(taps) // 2
    planes = functional.conv2d(functional.pad(planes, (0, 0, reach, reach), mode="reflect"), taps.view(1, 1, -1, 1))
    planes = functional.conv2d(functional.pad(planes, (reach, reach, 0, 0), mode="reflect"), taps.view(1, 1, 1, -1))
    return planes.view(images.shape)


def seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    """Time of a piece of work: of the process on a CPU, of the clock once a GPU has finished."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def banded(images: Tensor) -> Tensor:
    out = torch.empty_like(images)
    synthetic._blur(images, out=out)
    return out


def measure(images: int, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each, one a round; a first round warms up. Draws and shapes are those of training on the device."""
    generator = torch.Generator(device).manual_seed(0)
    counted = CounterDraws(torch.tensor(0, device=device)) if device.type == "cuda" else None
    kernel = gaussian_kernel(BLUR_TAPS, BLUR_STD)
    taps = torch.tensor(kernel / kernel.sum(), dtype=torch.float32, device=device)
    batch = torch.rand((images, *SHAPE), generator=generator, device=device)
    works: dict[str, Callable[[], Tensor]] = {
        "confetti": lambda: render("confetti", images, SHAPE, counted or generator),
        "two convolutions": lambda: convolved(batch, taps),
        "banded products": lambda: banded(batch),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            spent = seconds(work, device)
            if number:
                times[name].append(spent)
    return times


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def figures(times: dict[str, list[float]], images: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return by work the milliseconds an image, and how many times as long confetti takes."""
    found = {}
    for name, spent in times.items():
        found[name] = {"ms_an_image": spread([1e3 * second / images for second in spent])}
        if name != "confetti":
            found[name]["ratio"] = spread([a / b for a, b in zip(times["confetti"], spent, strict=True)])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    name = device_name(device)
    print(
        f"{name}, {platform.system()}, torch {torch.__version__}, {options.threads} thread(s), {options.rounds} rounds"
    )
    found = figures(measure(options.images, options.rounds, device), options.images)
    for work, each in found.items():
        line = f"{work:17} {text(each['ms_an_image'])} ms an image"
        print(f"{line}; confetti takes {text(each['ratio'])} of it" if "ratio" in each else line)
    if options.json:
        about = {"device": name, "load": os.getloadavg(), "images": options.images, "rounds": options.rounds}
        options.json.write_text(json.dumps(about | found, indent=1) + "\n")


def text(figure: dict[str, float]) -> str:
    return f"{figure['median']:.2f} ({figure['least']:.2f} to {figure['most']:.2f})"


if __name__ == "__main__":
    main()
