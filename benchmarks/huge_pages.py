"""What huge pages save a training step on a CPU: with the environment of a sweep's workers, and without it.

Each measurement is a process of its own, since a C library reads its environment at its start; in it steps of a
preset's training run in a thread, as trials do. Both kinds take their turns in each round. Times are CPU seconds of
the process; the ratio is of a round's two: without to with, so that 2 means half of the time.

    python benchmarks/huge_pages.py                        # what the presets train, at their batch sizes: about 10 min
    python benchmarks/huge_pages.py FCDD_CNN224 --batch 32 --rounds 5
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
import threading
from typing import Any

from fcdd_sweep.runners.trial_thread import WORKER_VARIABLES

NETWORKS = ("FCDD_CNN28_W", "FCDD_CNN32_S", "FCDD_CNN224", "FCDD_CNN224_VGG_F")


def measure(network: str, batch: int, steps: int) -> dict[str, float]:
    """Return CPU seconds of a step, those of them in the system, and the largest memory of this process in GB."""
    import torch
    from throughput import Side, options_of, settings_of

    from fcdd_sweep.training.device import numerics
    from fcdd_sweep.training.trainer import run_epoch

    options = options_of([network, "--batch", str(batch)])
    side = Side.of(settings_of(network, "auto", options), steps, torch.device("cpu"))
    passes = side.settings.training.passes_over(steps * side.settings.training.batch_size)
    used = []
    for epoch in (1, 2):  # the first warms up
        before = resource.getrusage(resource.RUSAGE_SELF)
        side.state.epoch, side.state.step = epoch, steps * (passes - 1)
        with numerics(side.settings, torch.device("cpu")):
            run_epoch(side.state, side.batches)
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = [(getattr(after, name) - getattr(before, name)) / steps for name in ("ru_utime", "ru_stime")]
    unit = 1 if platform.system() == "Darwin" else 1024
    return {
        "batch": side.settings.training.batch_size,
        "total": sum(used),
        "system": used[1],
        "peak": after.ru_maxrss * unit / 1e9,
    }


def in_a_process(network: str, options: argparse.Namespace, *, huge: bool) -> dict[str, float]:
    """Return what `measure` finds in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in WORKER_VARIABLES}
    command = [sys.executable, __file__, network, "--measure", "--batch", options.batch, "--steps", options.steps]
    done = subprocess.run(
        list(map(str, command)),
        env=environment | (WORKER_VARIABLES if huge else {}) | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def line_of(network: str, rounds: list[tuple[dict[str, float], dict[str, float]]]) -> str:
    """Return the line of a network: medians without and with huge pages, and the ratio of times with its range."""
    cells: list[Any] = [network, f"{rounds[0][0]['batch']:.0f}"]
    for name in ("total", "system", "peak"):
        cells += [f"{statistics.median(each[name] for each in side):.2f}" for side in zip(*rounds, strict=True)]
    ratios = [without["total"] / huge["total"] for without, huge in rounds]
    cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--batch", type=int, default=0, help="images of a step; 0: the preset's")
    parser.add_argument("--steps", type=int, default=2, help="training steps of a measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        found: list[dict[str, float]] = []
        trial = threading.Thread(
            target=lambda: found.append(measure(options.networks[0], options.batch, options.steps))
        )
        trial.start()
        trial.join()
        print(json.dumps(found[0]))
        return
    library = " ".join(platform.libc_ver())
    print(f"{platform.system()}, {library}, {options.rounds} rounds; without, then with huge pages")
    print("| network | batch | CPU s a step | | of it system | | peak GB | | ratio |")
    print("|---" * 9 + "|")
    for network in options.networks:
        rounds = [
            (in_a_process(network, options, huge=False), in_a_process(network, options, huge=True))
            for _ in range(options.rounds)
        ]
        print(line_of(network, rounds), flush=True)


if __name__ == "__main__":
    main()
