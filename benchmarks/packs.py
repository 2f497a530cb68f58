"""Trials in packs against the same trials one after another: seconds and ratio, by trials of a pack.

Each side trains the same trials of random images; a round runs all sides in turn. On a CPU seconds are those of the
process, on a GPU those of the clock. Evaluation is left out: a trial is tested as it would be alone.

    python benchmarks/packs.py [--networks FCDD_CNN28_W] [--sizes 1 4 10] [--steps 20] [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import torch
from throughput import batch_maker, now, settings_of

from fcdd_sweep.config.schema import Settings
from fcdd_sweep.training.device import device_name
from fcdd_sweep.training.models import make_network
from fcdd_sweep.training.pack import Pack
from fcdd_sweep.training.state import TrainingState
from fcdd_sweep.training.trainer import begin, run_epoch


def trained(settings: Settings, size: int, trials: int, steps: int, device: torch.device) -> float:
    """Return the seconds of an epoch of `steps` steps of all trials, in packs of `size`, after one that warms up."""
    total = 0.0
    for _ in range(trials // size):
        pack, gate = Pack(size), threading.Barrier(size)
        moments: list[float] = []

        def run(seed: int, pack: Pack = pack, gate: threading.Barrier = gate, moments: list[float] = moments) -> None:
            with pack.entered(), pack.numerics(settings, device):
                batches = batch_maker(settings, steps, device)
                state = begin(make_network(settings, device, seed), batches, time.perf_counter())
                for epoch in (1, 2):
                    gate.wait()
                    moments.append(now(device))
                    _epoch(state, batches, epoch)
                gate.wait()
                moments.append(now(device))

        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        moments.sort()
        total += moments[-size] - moments[size]  # the second epoch
    return total


def _epoch(state: TrainingState, batches: Any, epoch: int) -> None:
    state.epoch, state.step = epoch, 0
    run_epoch(state, batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["FCDD_CNN28_W"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--trials", type=int, default=4, help="a multiple of all sizes")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    parser.set_defaults(preset=None, batch=None, threads=1)
    options = parser.parse_args()
    device = torch.device(options.device)
    found: dict[str, Any] = {"device": device_name(device), "torch": str(torch.__version__)}
    for network in options.networks:
        settings, ratios = settings_of(network, "auto", options), {size: list[float]() for size in options.sizes}
        for _ in range(options.rounds):
            alone = trained(settings, 1, options.trials, options.steps, device)
            for size in options.sizes:
                ratios[size].append(alone / trained(settings, size, options.trials, options.steps, device))
        for size, values in ratios.items():
            median = statistics.median(values)
            print(f"{network:16} packs of {size:2}: {median:.2f}x alone ({min(values):.2f} to {max(values):.2f})")
        found[network] = ratios
        if options.json:
            options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
