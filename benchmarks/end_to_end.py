"""A sweep from its command to its report, against a plain loop over the same trials.

The loop imports the trainer once and runs one trial after another in one process, with the same arrays in files; it
draws no pictures and makes no report. Sweeps run as commands: on Ray, in one process (`--local`), in N (`--local N`),
then the same command again, which has nothing to run. All ways of a round follow one another, so that their ratio says
more than their seconds; the load of the machine is printed beside them.

    python benchmarks/end_to_end.py [--trials 5] [--epochs 60] [--rounds 3] [--ways loop ray local local-2 again]
        [--json FILE]
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
from typing import Any

EXPERIMENT = """\
schema: 2
name: end-to-end
preset: digits
dataset: {classes: ["3"]}
"""
LOOP = """\
import sys
from pathlib import Path
from fcdd_sweep.planning.plan import plan_file
from fcdd_sweep.sweep.preparation import prepare_data
from fcdd_sweep.sweep.trial import run_trial
from fcdd_sweep.training.result import NullObserver
_, planned = plan_file(Path(sys.argv[1]), sys.argv[2:])
prepare_data(planned.specs, lambda text: None)
for spec in planned.specs:
    result = run_trial(spec, planned.experiment.run_dir, NullObserver())
    assert result.status == "done", result.error
"""
WAYS = {
    "loop": ["-c", LOOP],
    "ray": ["-m", "fcdd_sweep"],
    "local": ["-m", "fcdd_sweep"],
    "local-2": ["-m", "fcdd_sweep"],
    "again": ["-m", "fcdd_sweep"],
}
LOCAL = {"local": ["--local=1"], "local-2": ["--local=2"]}


def measured(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Return the seconds of a command, and the load of the machine at its end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return {"s": round(time.perf_counter() - began, 2), "load": round(os.getloadavg()[0], 1)}


def one_round(file: Path, ways: list[str], overrides: list[str], folder: Path) -> dict[str, dict[str, float]]:
    """Measure each way once; `again` repeats the last sweep before it."""
    found: dict[str, dict[str, float]] = {}
    output = folder / "none"
    for way in ways:
        output = output if way == "again" else folder / way
        settings = [f"output={output}", *overrides]
        if way != "loop":
            settings = [word for text in settings for word in ("--set", text)] + LOCAL.get(way, [])
        found[way] = measured([sys.executable, *WAYS[way], str(file), *settings], dict(os.environ))
    return found


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "min": min(values), "max": max(values)}


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Return by way the spread of seconds, and of their ratio to the loop of the same round."""
    found: dict[str, Any] = {}
    for way in rounds[0]:
        found[way] = {"s": spread([each[way]["s"] for each in rounds])}
        if "loop" in rounds[0]:
            found[way]["s_to_loop"] = spread([round(each[way]["s"] / each["loop"]["s"], 2) for each in rounds])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, after every round")
    options = parser.parse_args()
    overrides = [f"training.epochs={options.epochs}", f"seeds={options.trials}"]
    rounds: list[dict[str, dict[str, float]]] = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="end-to-end-") as folder:
            file = Path(folder) / "experiment.yaml"
            file.write_text(EXPERIMENT, encoding="utf-8")
            rounds.append(one_round(file, options.ways, overrides, Path(folder)))
        print(json.dumps(rounds[-1]), file=sys.stderr, flush=True)
        about = {"trials": options.trials, "epochs": options.epochs, "cores": os.cpu_count()}
        found = about | {"rounds": rounds, **summary(rounds)}
        if options.json:
            options.json.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
