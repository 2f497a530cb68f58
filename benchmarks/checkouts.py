"""The default command of two checkouts of this project in turns: seconds of a sweep, and of the same command again.

The sweep has a few short trials of a small network on digits, so that what is not training counts. Both checkouts run
with this interpreter, from their own folders; the load of the machine is printed beside the figures.

    python benchmarks/checkouts.py BEFORE AFTER [--trials 5] [--epochs 60] [--rounds 3]
    python benchmarks/checkouts.py BEFORE AFTER --experiment digits [--rounds 3]   (experiments/digits.yaml of each)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXPERIMENT = """\
schema: {schema}
name: checkouts
preset: digits
dataset: {{classes: ["3"]}}
images: {{{side}: 28, size: 28}}
network: {{name: FCDD_CNN28}}
training: {{passes_per_epoch: 1}}
"""
KEYS = {1: "raw_size", 2: "load_size"}
"""By schema of experiment files, the key of the side that images are loaded at."""


def schema_of(checkout: Path) -> int:
    """Return the schema of a checkout's own experiment files."""
    text = (checkout / "experiments" / "digits.yaml").read_text(encoding="utf-8")
    return next(number for number in KEYS if f"\nschema: {number}\n" in f"\n{text}")


def seconds_of(checkout: Path, arguments: list[str]) -> float:
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    start = time.perf_counter()
    command = [sys.executable, "-m", "fcdd_sweep", *arguments]
    subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def swept(checkout: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Return the seconds of a sweep, and of the command when nothing is left to run."""
    with tempfile.TemporaryDirectory(prefix="checkouts-") as folder:
        if options.experiment:
            file, settings = checkout / "experiments" / f"{options.experiment}.yaml", []
        else:
            file, schema = Path(folder) / "experiment.yaml", schema_of(checkout)
            file.write_text(EXPERIMENT.format(schema=schema, side=KEYS[schema]), encoding="utf-8")
            settings = [f"training.epochs={options.epochs}", f"seeds={options.trials}"]
        settings.append(f"output={folder}/results")
        arguments = [str(file), *(word for each in settings for word in ("--set", each))]
        return seconds_of(checkout, arguments), seconds_of(checkout, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs=2, type=Path, metavar="CHECKOUT", help="before and after")
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--experiment", metavar="NAME", help="an experiment of each checkout instead, such as digits")
    options = parser.parse_args()
    before, after = (path.resolve() for path in options.checkouts)
    ratios: dict[str, list[float]] = {"sweep": [], "nothing to run": []}
    for _ in range(options.rounds):
        found = {path: swept(path, options) for path in (before, after)}
        for place, name in enumerate(ratios):
            ratios[name].append(found[after][place] / found[before][place])
        figures = {path.name: [round(value, 2) for value in values] for path, values in found.items()}
        print(json.dumps(figures | {"load": round(os.getloadavg()[0], 1)}), flush=True)
    for name, values in ratios.items():
        print(f"{name}: {statistics.median(values):.2f} of before ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
