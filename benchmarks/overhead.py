"""Seconds per empty trial on Ray Tune, and the share that is Tune's own.

An empty trial does nothing: what is left is placing it, starting it, telling its result, and our own ledger. The
share of Tune is what stays when our monitor does nothing either. Starting Ray (once a sweep) is told apart: it is the
part of the time that does not grow with the number of trials.

    python benchmarks/overhead.py [--few 5] [--many 45] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from fcdd_sweep.config.schema import Resources, Settings
from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.results import files, schemas, tree
from fcdd_sweep.results.attempts import claim_attempt
from fcdd_sweep.sweep.ledger import Ledger
from fcdd_sweep.sweep.monitor import Monitor
from fcdd_sweep.sweep.stopping import Stop
from fcdd_sweep.sweep.trial import TrialResult, config_text, key_of
from fcdd_sweep.sweep.tune import TuneRunner
from fcdd_sweep.training.outcome import Observer

SETTINGS = Settings.model_validate(
    {
        "dataset": {"name": "digits"},
        "images": {"raw_size": 28, "size": 28, "color": "grey"},
        "network": {"name": "FCDD_CNN28"},
        "training": {"epochs": 1, "learning_rate": 0.1, "schedule": {"type": "exponential", "factor": 1.0}},
    }
)


class Deaf(Monitor):
    """Hears nothing: Tune alone."""

    def started(self, spec: TrialSpec) -> None: ...

    def epoch_done(self, spec: TrialSpec, epoch: int, epochs: int, loss: float) -> None: ...

    def retried(self, spec: TrialSpec, result: TrialResult, decision: str) -> None: ...

    def ended(self, spec: TrialSpec, result: TrialResult) -> None: ...

    def said(self, sentence: str) -> None: ...


class Publishing(Deaf):
    """Publishes leaves and keeps the index, as a sweep's driver does."""

    def __init__(self, run_dir: Path) -> None:
        self.ledger = Ledger(run_dir)

    def ended(self, spec: TrialSpec, result: TrialResult) -> None:
        self.ledger.publish(spec, result)


def nothing(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    return TrialResult(spec.trial_id, "done", 1)


def empty_leaf(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """Claims an attempt and leaves the two files that every leaf has."""
    number, attempt = claim_attempt(run_dir, spec.trial_id)
    files.write_text(attempt / "leaf" / tree.CONFIG, config_text(spec))
    row = dict.fromkeys(schemas.METRICS.names) | key_of(spec) | {"attempt": number}
    files.write_rows(attempt / "leaf" / tree.METRICS, [row], schemas.METRICS)
    return TrialResult(spec.trial_id, "done", number)


def seconds(count: int, *, bare: bool) -> float:
    """A whole run of `count` empty trials, Ray's start and end included."""
    specs = [TrialSpec(SETTINGS, "0", seed) for seed in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        monitor = Deaf() if bare else Publishing(run_dir)
        started = time.perf_counter()
        TuneRunner(Resources(device="cpu"))(specs, run_dir, monitor, nothing if bare else empty_leaf, Stop())
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, default=5)
    parser.add_argument("--many", type=int, default=45)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    extra = options.many - options.few
    per_trial, tune_share, starts = [], [], []
    for _ in range(options.rounds):
        few, many = (seconds(count, bare=False) for count in (options.few, options.many))
        bare_few, bare_many = (seconds(count, bare=True) for count in (options.few, options.many))
        per_trial.append((many - few) / extra)
        tune_share.append(((bare_many - bare_few) / extra) / per_trial[-1])
        starts.append(few - options.few * per_trial[-1])
    for title, unit, found in (
        ("an empty trial", "s", per_trial),
        ("share of it that is Tune's own", "", tune_share),
        ("starting and ending Ray, once a sweep", "s", starts),
    ):
        middle = statistics.median(found)
        print(f"{title}: {middle:.3f} {unit} ({min(found):.3f} to {max(found):.3f}, {options.rounds} rounds)")


if __name__ == "__main__":
    main()
