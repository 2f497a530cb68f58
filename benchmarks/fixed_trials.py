"""Three fixed trials, bit for bit: what a change that must not alter numbers has to leave as it is.

    python benchmarks/fixed_trials.py --save before.json      # before the change, in the old checkout
    python benchmarks/fixed_trials.py --compare before.json   # after it; exit code 1 where a number differs

Digits (class 3), textures (class brick) and two configs of a search of digits (class 2) are trained in this process on
the CPU, about two minutes together. Compared are all figures of `metrics.parquet`, and digests of every score, curve,
loss and map. Figures that only one side has are listed and do not count as different.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from fcdd_sweep import load_experiment, run_experiment

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
TRIALS = {
    "digits": ["dataset.classes=['3']", "seeds=1", "keep.pictures=none"],
    "textures": ["dataset.classes=[brick]", "seeds=1", "keep.pictures=none"],
    "search_digits": ["dataset.classes=['2']", "seeds=1", "search.seeds=[0]", "search.budget.configs=2"],
}
"""Experiment files and what is overridden in them."""
KEYS = {"trial_id", "config_id", "config", "normal_class", "seed", "attempt"}
VOLATILE = {"train_time_s", "test_time_s", "wall_time_s", "started", "finished", "device", "host", "versions"}
"""Columns that differ between two runs of the same code."""


def digest(values: object) -> str:
    array = np.asarray(values)
    content = repr(array.tolist()).encode() if array.dtype.kind in "OUS" else array.tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def numbers_of(leaf: Path) -> dict[str, object]:
    """Return every figure of a finished trial, and digests of its longer columns."""
    (metrics,) = pq.read_table(leaf / "metrics.parquet").to_pylist()
    found: dict[str, object] = {
        name: repr(value) for name, value in metrics.items() if name not in KEYS | VOLATILE | {"data_fingerprint"}
    }
    for table in ("scores", "curves", "history", "defects"):
        columns = pq.read_table(leaf / f"{table}.parquet")
        for name in set(columns.column_names) - KEYS - {"images_per_second"}:
            found[f"{table}.{name}"] = digest(columns[name].to_pylist())
    with np.load(leaf / "maps.npz") as maps:
        found |= {f"maps.{name}": digest(maps[name]) for name in maps.files}
    return found


def run_all(output: Path) -> dict[str, dict[str, object]]:
    """Run the trials and return their numbers by experiment, config, class and seed."""
    numbers = {}
    for name, overrides in TRIALS.items():
        experiment = load_experiment(EXPERIMENTS / f"{name}.yaml", [*overrides, f"output={output}"])
        result = run_experiment(experiment, local=True)
        assert result.missing == result.failed == 0, result
        for path in sorted(output.joinpath(name).rglob("metrics.parquet")):
            if ".attempts" not in path.parts:
                numbers[path.parent.relative_to(output).as_posix()] = numbers_of(path.parent)
                print(f"{path.parent.relative_to(output)}: image AUROC {numbers_of(path.parent)['image_auroc']}")
    return numbers


def differences(before: dict[str, dict[str, object]], after: dict[str, dict[str, object]]) -> list[str]:
    """Return a line for each number that differs, and print what only one side has."""
    for one, other, word in ((before, after, "missing now"), (after, before, "new")):
        for trial in sorted(one):
            if gone := sorted(one[trial].keys() - other.get(trial, {}).keys()):
                print(f"{trial}: {word}: {', '.join(gone)}")
    return [
        f"{trial}: {name}: {before[trial][name]} before, {after[trial][name]} now"
        for trial in sorted(before.keys() & after.keys())
        for name in sorted(before[trial].keys() & after[trial].keys())
        if before[trial][name] != after[trial][name]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the numbers as JSON")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="numbers from before the change")
    parser.add_argument("--renamed", nargs="*", default=[], metavar="OLD=NEW", help="numbers with a new name")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        now = run_all(Path(folder))
    if options.save:
        options.save.write_text(json.dumps(now, indent=1) + "\n")
    if not options.compare:
        return 0
    new_names = dict(pair.split("=") for pair in options.renamed)
    before = {
        trial: {new_names.get(name, name): value for name, value in numbers.items()}
        for trial, numbers in json.loads(options.compare.read_text()).items()
    }
    different = differences(before, now)
    shared = sum(len(before[trial].keys() & now[trial].keys()) for trial in before.keys() & now.keys())
    print("\n".join([*different, f"{shared - len(different)} of {shared} numbers of {len(now)} trials are equal"]))
    return int(bool(different) or not shared)


if __name__ == "__main__":
    sys.exit(main())
