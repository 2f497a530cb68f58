"""Time to draw a leaf and to aggregate runs of 15, 30, 300 and 3,000 trials, in CPU seconds, and the size of the page.

Each run is aggregated as new, with all pictures of its leaves; as at the end of a sweep, whose leaves were drawn while
it ran: figures of classes, configs and run, tables and page; with its page alone removed; and with nothing changed.
Leaves are drawn by other processes, too, whose CPU seconds are not counted.

Runs are made, not trained: one leaf per class and seed, linked into as many configs as the run needs. Runs of more than
300 trials get theirs with pictures, and are not aggregated as new: their leaves would only repeat the time of one leaf.
CPU seconds vary less than the clock on a busy machine; the least of the rounds is printed beside the others.

    python benchmarks/report.py [--trials 15 30 300 3000] [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from fcdd_sweep.config.schema import Heatmaps
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.class_scores import trial_of_leaf
from fcdd_sweep.report.figures.trial_figures import draw_trial
from fcdd_sweep.results.tree import RunPaths
from tests.fakes import FakeRun

CLASSES, SEEDS = 10, 3
MOST_DRAWN = 300  # trials of a run whose leaves are all drawn


def made_run(path: Path, trials: int) -> Path:
    """A run of 15 classes, or of so many trials, a multiple of 30: leaves of one config, linked into the others."""
    classes, seeds = (15, 1) if trials == 15 else (CLASSES, SEEDS)
    configs = {f"rate-{i}": {"training.learning_rate": 10.0**-i} for i in range(trials // (classes * seeds))}
    names = [str(i) for i in range(classes)]
    run = FakeRun(path).plan(names, range(seeds), configs)
    first = next(iter(configs))
    for name in names:
        for seed in range(seeds):
            run.finish(first, name, seed, wrong=(int(name) + seed) % 6, threshold=0.45)
    if trials > MOST_DRAWN:
        aggregate(run.write())
    for config in list(configs)[1:]:
        for name in names:
            for seed in range(seeds):
                run.link(first, config, name, seed)
    return run.write()


def cpu_seconds(task: Callable[[], object], rounds: int) -> list[float]:
    """CPU seconds of each round."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        task()
        found.append(time.process_time() - start)
    return found


def without_page(path: Path) -> None:
    """Aggregate a run whose page is missing and whose leaves have their pictures."""
    RunPaths(path).report.unlink()
    aggregate(path)


def without_figures(path: Path) -> None:
    """Aggregate a run that has no report yet, and whose leaves have their pictures."""
    RunPaths(path).figure_state.unlink(missing_ok=True)
    RunPaths(path).report.unlink(missing_ok=True)
    aggregate(path)


def line(name: str, seconds: list[float], more: str = "") -> str:
    others = ", ".join(f"{each:.2f}" for each in seconds)
    return f"{name}: {min(seconds):.2f} s CPU (rounds: {others}){more}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[15, 30, 300, 3000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {"load": os.getloadavg()}
    with tempfile.TemporaryDirectory() as folder:
        for trials in options.trials:
            path = made_run(Path(folder) / f"run-{trials}", trials)
            if "leaf" not in found:
                leaf = next(path.glob("*/normal_0/it_0"))
                found["leaf"] = cpu_seconds(
                    lambda leaf=leaf: draw_trial(trial_of_leaf(leaf), Heatmaps()), options.rounds + 1
                )
                print(line("a leaf", found["leaf"]), flush=True)
            drawn = trials > MOST_DRAWN
            rounds = 1 if drawn else options.rounds
            new = [] if drawn else cpu_seconds(lambda path=path: aggregate(path), 1)
            first = cpu_seconds(lambda path=path: without_figures(path), rounds)
            page = cpu_seconds(lambda path=path: without_page(path), rounds)
            again = cpu_seconds(lambda path=path: aggregate(path), rounds)
            size = RunPaths(path).report.stat().st_size / 1e6
            found[str(trials)] = {"new": new, "first": first, "page": page, "again": again, "page_mb": size}
            print(f"aggregate {trials} trials; page {size:.2f} MB")
            if new:
                print(line("  new", new), flush=True)
            print(line("  first report, leaves drawn", first), flush=True)
            print(line("  page removed", page), flush=True)
            print(line("  nothing changed", again), flush=True)
            shutil.rmtree(path)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
