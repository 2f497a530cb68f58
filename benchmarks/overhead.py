"""What a sweep costs beside its training: empty trials on Ray Tune, and the bookkeeping of large runs.

An empty trial does nothing: what is left is placing it, starting it, telling its result, and our own ledger. The
share of Tune is what stays when our monitor does nothing either. Starting Ray (once a sweep) is told apart. The
bookkeeping is measured on made runs: one real trial's files, linked into as many leaves as the run has trials.

Every measurement has a process of its own, so that its peak memory is its own. Ratios of one round say more than
seconds: those change with what else the machine does, and the load that is printed says how much that was. CPU seconds
of the driver's own process change less.

    python benchmarks/overhead.py [--trials 100 1000] [--rows 100 1000 10000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fcdd_sweep.config.schema import Experiment, Resources, Settings
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.status import status_text
from fcdd_sweep.results import files, schemas, tree
from fcdd_sweep.results.attempts import LEAF, claim_attempt
from fcdd_sweep.runners.events import Monitor, Progress
from fcdd_sweep.runners.ray_runner import TuneRunner
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.ledger import Ledger
from fcdd_sweep.sweep.session import prepare_data, write_plan
from fcdd_sweep.sweep.trial import config_text, key_of, run_trial
from fcdd_sweep.training.result import NullObserver, Observer

SETTINGS: dict[str, Any] = {
    "dataset": {"name": "digits"},
    "images": {"load_size": 28, "size": 28, "color": "gray"},
    "network": {"name": "FCDD_CNN28"},
    "training": {"epochs": 5, "learning_rate": 0.1, "schedule": {"type": "exponential", "factor": 1.0}},
}
CLASSES, SEEDS = 10, 10
"""Of a made run; the number of its configs makes it as large as is asked."""


class Deaf(Monitor):
    """Hears nothing: Tune alone. Notes when trials ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.first = 0.0

    def started(self, spec: TrialSpec) -> None:
        self.first = self.first or time.perf_counter()

    def epoch_done(self, spec: TrialSpec, epoch: int, epochs: int, loss: float) -> None: ...

    def retried(self, spec: TrialSpec, result: TrialResult, decision: str) -> None: ...

    def ended(self, spec: TrialSpec, result: TrialResult) -> None:
        self.ends.append(time.perf_counter())

    def said(self, sentence: str) -> None: ...


class Publishing(Deaf):
    """Publishes leaves and keeps the index, as a sweep's driver does."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self.ledger = Ledger(run_dir)

    def ended(self, spec: TrialSpec, result: TrialResult) -> None:
        self.ledger.publish(spec, result)
        super().ended(spec, result)


def nothing(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    return TrialResult(spec.trial_id, "done", 1)


def empty_leaf(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """Claims an attempt and leaves the two files that every leaf has."""
    number, attempt = claim_attempt(run_dir, spec.trial_id)
    files.write_text(attempt / LEAF / tree.CONFIG, config_text(spec))
    row = dict.fromkeys(schemas.METRICS.names) | key_of(spec) | {"attempt": number}
    files.write_rows(attempt / LEAF / tree.METRICS, [row], schemas.METRICS)
    return TrialResult(spec.trial_id, "done", number)


def empty_trials(count: int, *, bare: bool) -> dict[str, float]:
    """Seconds a trial, of all and of the last tenth, seconds of Ray's start and end, and the driver's memory."""
    specs = [TrialSpec(Settings.model_validate(SETTINGS), "0", seed) for seed in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        monitor = Deaf() if bare else Publishing(run_dir)
        before, began, busy = _peak_mib(), time.perf_counter(), time.process_time()
        TuneRunner(Resources(device="cpu"))(specs, run_dir, monitor, nothing if bare else empty_leaf, StopSignal())
        whole, busy = time.perf_counter() - began, time.process_time() - busy
    ends = monitor.ends
    tenth = max(1, count // 10)
    return {
        "trial_s": (ends[-1] - monitor.first) / count,
        "last_tenth_s": (ends[-1] - ends[-1 - tenth]) / tenth,
        "cpu_s": busy / count,
        "start_s": whole - (ends[-1] - monitor.first),
        "memory_before_mib": before,
        "memory_mib": _peak_mib(),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def experiment_of(rows: int, output: Path) -> Experiment:
    """An experiment of so many trials: 10 classes, 10 seeds, and as many configs as it takes."""
    rates = [0.1 / (1 + number) for number in range(max(1, rows // (CLASSES * SEEDS)))]
    grid = {"training.learning_rate": rates} if len(rates) > 1 else {}
    plain = SETTINGS | {"schema": 2, "name": f"rows-{rows}", "seeds": SEEDS, "grid": grid, "output": output}
    return Experiment.model_validate(plain)


def make_run(rows: int, output: Path) -> None:
    """A finished run: every leaf links the files of one real trial, and has its own `metrics.parquet`."""
    experiment = experiment_of(rows, output)
    planned = plan(experiment)
    run_dir = output / experiment.name
    first = planned.specs[0]
    prints, notes = prepare_data(planned.specs, Progress())
    result = run_trial(first, run_dir, NullObserver())
    model = tree.attempts_dir(run_dir, first.trial_id) / str(result.attempt) / LEAF
    row = files.read_table(model / tree.METRICS).to_pylist()[0]
    write_plan(experiment, planned, notes)
    for spec in planned.specs:
        leaf = run_dir / spec.leaf
        leaf.mkdir(parents=True)
        for path in model.iterdir():
            if path.name not in (tree.METRICS, tree.SNAPSHOT):
                os.link(path, leaf / path.name)
        own = row | key_of(spec) | {"data_fingerprint": prints[spec.trial_id]}
        pq.write_table(files.table_from_rows([own], schemas.METRICS), leaf / tree.METRICS)
    shutil.rmtree(run_dir / tree.ATTEMPTS)
    Ledger(run_dir).reconcile(planned.specs)


def timed_plan(experiment: Experiment) -> None:
    plan(experiment)


def timed_second_start(experiment: Experiment) -> None:
    """All that a start does before its first trial, when none is missing."""
    planned = plan(experiment)
    prints, notes = prepare_data(planned.specs, Progress())
    ledger = Ledger(experiment.run_dir)
    ledger.reconcile(planned.specs)
    assert all(ledger.rows[spec.trial_id]["data_fingerprint"] == prints[spec.trial_id] for spec in planned.specs)
    write_plan(experiment, planned, notes)


def timed_status(experiment: Experiment) -> None:
    status_text(experiment.run_dir)


def timed_aggregate(experiment: Experiment) -> None:
    aggregate(experiment.run_dir)


STEPS: dict[str, Callable[[Experiment], None]] = {
    "plan": timed_plan,
    "a second start, up to its first trial": timed_second_start,
    "status": timed_status,
    "aggregate": timed_aggregate,
}


def bookkeeping(rows: int, output: Path, step: str) -> dict[str, float]:
    plan(experiment_of(1, output))  # imports are paid for once, whatever the run's size
    experiment = experiment_of(rows, output)
    before, began, busy = _peak_mib(), time.perf_counter(), time.process_time()
    STEPS[step](experiment)
    return {
        "s": time.perf_counter() - began,
        "cpu_s": time.process_time() - busy,
        "memory_mib": _peak_mib(),
        "memory_before_mib": before,
    }


def measured(call: str) -> dict[str, float]:
    """What an expression gives in a process of its own."""
    program = f"import json, overhead; from pathlib import Path; print(json.dumps(overhead.{call}))"
    here = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    output = subprocess.run([sys.executable, "-c", program], env=environment, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(output.stdout.decode().strip().splitlines()[-1]))


def told(found: list[float], unit: str = "", digits: int = 3) -> str:
    """The median, and from where to where."""
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(found), min(found), max(found)))
    return f"{middle}{unit} ({low} to {high}, {len(found)} rounds)"


def column(rounds: list[dict[str, float]], name: str) -> list[float]:
    return [each[name] for each in rounds]


def measure_trials(counts: list[int], rounds: int) -> None:
    found: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
    bare: list[dict[str, float]] = []
    for _ in range(rounds):
        for count in counts:
            found[count].append(measured(f"empty_trials({count}, bare=False)"))
        bare.append(measured(f"empty_trials({counts[-1]}, bare=True)"))
    for count in counts:
        own = found[count]
        print(f"{count} empty trials: {told(column(own, 'trial_s'), ' s')} a trial")
        ratio = [each["last_tenth_s"] / each["trial_s"] for each in own]
        print(f"  a trial of the last tenth, against the mean of all: {told(ratio, '', 2)}")
        print(f"  CPU of the driver: {told(column(own, 'cpu_s'), ' s')} a trial, starting Ray included")
        print(f"  driver's peak memory: {told(column(own, 'memory_mib'), ' MiB', 0)}")
    few, many = found[counts[0]], found[counts[-1]]
    pairs = list(zip(few, many, strict=True))
    grown = [(b["memory_mib"] - a["memory_mib"]) * 1024 / max(1, counts[-1] - counts[0]) for a, b in pairs]
    print(f"growth of the driver's memory: {told(grown, ' KiB', 1)} a trial")
    print(
        f"seconds a trial at {counts[-1]} against {counts[0]}: {told([b['trial_s'] / a['trial_s'] for a, b in pairs])}"
    )
    shares = [a["trial_s"] / b["trial_s"] for a, b in zip(bare, many, strict=True)]
    print(f"share of Tune alone: {told(shares, '', 2)}")
    print(f"starting and ending Ray, once a sweep: {told(column(many, 'start_s'), ' s', 1)}")
    if counts[-1] >= 10_000:
        return
    wave = statistics.median(column(many, "trial_s"))
    memory = statistics.median(column(many, "memory_mib")) + statistics.median(grown) * (10_000 - counts[-1]) / 1024
    print(
        f"model for 10,000: {wave * 10_000:.0f} s and {memory:.0f} MiB, if waves of 1,000 stay as the last measured one"
    )


def measure_rows(counts: list[int], rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for rows in counts:
            make_run(rows, Path(folder))
            for step in STEPS:
                call = f"bookkeeping({rows}, Path({folder!r}), {step!r})"
                found = [measured(call) for _ in range(rounds)]
                memory = told(column(found, "memory_mib"), " MiB", 0)
                spent = f"{told(column(found, 's'), ' s', 2)}, CPU {told(column(found, 'cpu_s'), ' s', 2)}"
                print(f"{rows} rows, {step}: {spent}, peak memory {memory}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="*", default=[100, 1000], help="numbers of empty trials")
    parser.add_argument("--rows", type=int, nargs="*", default=[100, 1000, 10_000], help="trials of made runs")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if options.trials:
        measure_trials(options.trials, options.rounds)
    if options.rows:
        measure_rows(options.rows, options.rounds)
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
