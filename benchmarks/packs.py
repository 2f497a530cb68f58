"""Trials in packs against the same trials one after another: seconds and ratio, by trials of a pack.

Each side trains the same trials of random images; a round runs all sides in turn. On a CPU seconds are those of the
process, on a GPU those of the clock. Evaluation is left out: a trial is tested as it would be alone. With `--one-seed`
trials differ in their learning rate alone, so those of a pack share a frozen front, and those one after another do not.

    python benchmarks/packs.py [--networks FCDD_CNN28_W] [--sizes 2 4 10] [--steps 10] [--rounds 3] [--json FILE]
    python benchmarks/packs.py --one-seed --networks FCDD_CNN224_VGG_F --side 48 --batch 8 --steps 1 --sizes 2 4 8
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from throughput import batch_maker, now, options_of, settings_of

from fcdd_sweep.config.schema import Settings
from fcdd_sweep.training.device import device_name
from fcdd_sweep.training.models import make_network
from fcdd_sweep.training.pack import Pack
from fcdd_sweep.training.trainer import begin, run_epoch


def seconds(trials: Sequence[Settings], size: int, steps: int, device: torch.device, *, one_seed: bool) -> float:
    """Return the seconds of an epoch of `steps` steps of all trials, in packs of `size`, after one that warms up."""
    packs = [trials[start : start + size] for start in range(0, len(trials), size)]
    return sum(_seconds_of_pack(each, steps, device, one_seed=one_seed) for each in packs)


def _seconds_of_pack(trials: Sequence[Settings], steps: int, device: torch.device, *, one_seed: bool) -> float:
    size = len(trials)
    pack, gate = Pack(size), threading.Barrier(size)
    began: list[float] = []
    ended: list[float] = []

    def run(place: int, settings: Settings) -> None:
        with pack.entered(), pack.numerics(settings, device):
            batches = batch_maker(settings, steps, device)
            network = make_network(settings, device, 0 if one_seed else place)
            state = begin(network, batches, time.perf_counter())
            for epoch in (1, 2):
                gate.wait()
                began.append(now(device))
                state.epoch, state.step = epoch, 0
                run_epoch(state, batches)
                ended.append(now(device))

    threads = [threading.Thread(target=run, args=each) for each in enumerate(trials)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(ended) - sorted(began)[size]  # of the second epoch


def ratios(
    settings: Settings,
    sizes: Sequence[int],
    steps: int,
    rounds: int,
    device: torch.device,
    *,
    one_seed: bool = False,
) -> dict[int, list[float]]:
    """Return by size of a pack, one per round, how many times as fast it is as its trials one after another."""
    found: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            trials = [_slower(settings, 1 + number) for number in range(size)]
            alone, together = (seconds(trials, each, steps, device, one_seed=one_seed) for each in (1, size))
            found[size].append(alone / together)
    return found


def _slower(settings: Settings, times: int) -> Settings:
    """Return the settings with another learning rate."""
    training = settings.training
    rate = training.learning_rate / times
    return settings.model_copy(update={"training": training.model_copy(update={"learning_rate": rate})})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["FCDD_CNN28_W"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[2, 4, 10])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one-seed", action="store_true", help="trials of one seed, which share a frozen front")
    parser.add_argument("--side", type=int, help="of images, in pixels; without it those of the network's preset")
    parser.add_argument("--batch", type=int, help="images of a step; without it few on a CPU, the preset's on a GPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    found: dict[str, Any] = {"device": device_name(device), "torch": str(torch.__version__)}
    for network in options.networks:
        chosen = [network, "--device", options.device]
        chosen += [] if options.batch is None else ["--batch", str(options.batch)]
        settings = settings_of(network, "auto", options_of(chosen))
        if options.side:
            images = settings.images.model_copy(update={"load_size": options.side, "size": options.side})
            settings = settings.model_copy(update={"images": images})
        one_seed = options.one_seed
        found[network] = ratios(settings, options.sizes, options.steps, options.rounds, device, one_seed=one_seed)
        for size, values in found[network].items():
            median = statistics.median(values)
            print(f"{network:16} packs of {size:2}: {median:.2f}x alone ({min(values):.2f} to {max(values):.2f})")
        if options.json:
            options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
