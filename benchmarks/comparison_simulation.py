"""How often a comparison calls a config better, where configs are equal, and where they differ by a known amount.

Each made sweep has configs, classes and seeds, and an image AUROC for each of them, as a report has. In each class all
configs share a level and what a seed's draws do to it; every value then has noise of its own. The noise of a class is
drawn anew for each class and sweep, and is one of three kinds: `normal`; `skewed`, of a score near 1 (a normal on the
scale of log-odds, so that it is bounded and has unequal spreads); `coarse`, normal but rounded to steps of
1 / (40 * 60), as of a test set of 100 images, which makes ties. Reports print better and bold by `decide_pairs` of
`fcdd_sweep.metrics.paired_tests`; the family is all pairs of configs.

The rate of false alarms is the share of sweeps of equal configs in which any pair is called better, with its 95% Wilson
interval, which must reach down to 5% or lower. For power, one config is better than all others by a known amount in
every class, in units of the noise of a single trial, which is the same in all classes; promised is what
`fcdd_sweep.metrics.power` says for that amount at the level of the first comparison of the family. Holm's method tests
later ones less strictly.

    python benchmarks/comparison_simulation.py [--sweeps 1000] [--seed 0]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from fcdd_sweep.metrics.paired_tests import all_pairs, decide_pairs
from fcdd_sweep.metrics.power import seed_power, usual_degrees
from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.metrics.statistics import ALPHA, wilson_interval

CONFIGS, SEEDS, CLASSES = (2, 5, 20), (3, 5, 10), (1, 3, 10)
KINDS = ("normal", "skewed", "coarse")
NOISE = 0.01
"""Standard deviation of a trial's own noise, in AUROC; that of a class is around it by a factor of up to about 2."""
STEP = 1 / (40 * 60)
GAINS = (1.0, 2.0, 4.0)
"""True differences in units of the noise of a single trial."""
_AT_ONCE = 250
"""Sweeps in memory at once."""


class Design(NamedTuple):
    """The size of a sweep."""

    configs: int
    seeds: int
    classes: int


def made_sweeps(rng: np.random.Generator, kind: str, design: Design, sweeps: int) -> FloatArray:
    """Return the values of equal configs, (sweeps, K, C, S)."""
    shape = (sweeps, design.configs, design.classes, design.seeds)
    level = rng.uniform(0.75, 0.97, (sweeps, 1, design.classes, 1))
    spread = NOISE * np.exp(rng.normal(0, 0.4, (sweeps, 1, design.classes, 1)))
    shared = spread * rng.normal(0, 1, (sweeps, 1, design.classes, design.seeds))
    own = spread * rng.normal(0, 1, shape)
    if kind == "skewed":
        return expit(np.log(level / (1 - level)) + (shared + own) / (level * (1 - level)) * 2)
    values = level + shared + own
    return np.round(values / STEP) * STEP if kind == "coarse" else values


def called_better(values: FloatArray) -> FloatArray:
    """Return for each sweep and pair 1 where the first config is called better, -1 where the second is, else 0."""
    pairs = all_pairs(values.shape[1])
    return decide_pairs(values[:, pairs[:, 0]] - values[:, pairs[:, 1]], len(pairs)).better


def parts(sweeps: int) -> Iterator[int]:
    """Yield sizes of parts of so many sweeps."""
    for start in range(0, sweeps, _AT_ONCE):
        yield min(_AT_ONCE, sweeps - start)


def false_alarms(rng: np.random.Generator, kind: str, design: Design, sweeps: int) -> int:
    """Return in how many of so many sweeps of equal configs any config is called better than another."""
    found = (called_better(made_sweeps(rng, kind, design, part)).any(axis=1).sum() for part in parts(sweeps))
    return int(sum(found))


def power(rng: np.random.Generator, design: Design, gain: float, sweeps: int) -> tuple[float, float]:
    """Return how often the first config, better by `gain` times the noise in every class, is called better than the
    second, and how often that was promised.
    """
    found = 0
    for part in parts(sweeps):
        values = rng.normal(0, NOISE, (part, design.configs, design.classes, design.seeds))
        values[:, 0] += gain * NOISE
        found += int((called_better(values)[:, 0] == 1).sum())
    family = design.configs * (design.configs - 1) // 2
    shift = gain / np.sqrt(2 / design.seeds / design.classes)
    promised = seed_power(shift, usual_degrees(design.classes, design.seeds), ALPHA / family)
    return found / sweeps, float(promised)


def designs() -> Iterator[Design]:
    """Yield all sizes of sweeps."""
    yield from (Design(k, s, c) for k in CONFIGS for s in SEEDS for c in CLASSES)


def main() -> int:
    """Print both tables; the exit code is 1 where a rate of false alarms is above 5%."""
    parser = argparse.ArgumentParser(description="How often a comparison calls a config better.")
    parser.add_argument("--sweeps", type=int, default=1000, help="made sweeps of each size (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the random generator (default: 0)")
    options = parser.parse_args()
    rng, start = np.random.default_rng(options.seed), time.process_time()
    print(f"| configs | seeds | classes | {' | '.join(f'{kind}: any better' for kind in KINDS)} |")
    print("|---:|---:|---:|---|---|---|")
    above = []
    for design in designs():
        cells = []
        for kind in KINDS:
            count = false_alarms(rng, kind, design, options.sweeps)
            low, high = wilson_interval(count, options.sweeps)
            cells.append(f"{count / options.sweeps:.1%} [{low:.1%}, {high:.1%}]")
            above += [f"{kind} {design}"] if low > ALPHA else []
        print(f"| {design.configs} | {design.seeds} | {design.classes} | {' | '.join(cells)} |", flush=True)
    print(f"\n| configs | seeds | classes | {' | '.join(f'{gain:g} x noise: found, promised' for gain in GAINS)} |")
    print("|---:|---:|---:|---|---|---|")
    for design in designs():
        rates = [power(rng, design, gain, options.sweeps) for gain in GAINS]
        cells = [f"{found:.0%}, {promised:.0%}" for found, promised in rates]
        print(f"| {design.configs} | {design.seeds} | {design.classes} | {' | '.join(cells)} |", flush=True)
    print(f"\n{time.process_time() - start:.0f} CPU seconds")
    for name in above:
        print(f"above {ALPHA:.0%}: {name}", file=sys.stderr)
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
