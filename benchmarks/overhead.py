"""The overhead of a sweep beside its training: empty trials on Ray Tune, and the bookkeeping of large runs.

An empty trial does nothing: what remains is placing it, starting it, reporting its result, and the ledger. The share of
Tune is what remains when the sink of events does nothing either. Starting Ray, once per sweep, is printed separately.
The bookkeeping is measured on generated runs: one real trial's files, linked into as many leaves as the run has trials.

Every measurement runs in a separate process, so that its peak memory is its own. Ratios within one round are more
reliable than seconds, which depend on the other load of the machine; that load is printed. CPU seconds of the driver's
process vary less.

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
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.runners.events import Event, TrialEnded, TrialStarted
from fcdd_sweep.runners.ray_runner import RayRunner
from fcdd_sweep.runners.stop_signal import StopSignal
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.ledger import Ledger
from fcdd_sweep.sweep.preparation import prepare_data
from fcdd_sweep.sweep.session import write_plan
from fcdd_sweep.sweep.trial import run_trial
from fcdd_sweep.sweep.trial_rows import config_text, key_of
from fcdd_sweep.training.result import NullObserver, Observer

SETTINGS: dict[str, Any] = {
    "dataset": {"name": "digits"},
    "images": {"load_size": 28, "size": 28, "color": "gray"},
    "network": {"name": "FCDD_CNN28"},
    "training": {"epochs": 5, "learning_rate": 0.1, "schedule": {"type": "exponential", "factor": 1.0}},
}
CLASSES, SEEDS = 10, 10
"""Of a generated run; the number of its configs sets its size."""


class Ends:
    """A sink that only notes when trials start and end: what is left is Tune alone."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.first = 0.0

    def handle(self, event: Event) -> None:
        match event:
            case TrialStarted():
                self.first = self.first or time.perf_counter()
            case TrialEnded():
                self.ends.append(time.perf_counter())


class PublishedEnds(Ends):
    """Publishes leaves and keeps the index, too, as a sweep's driver does."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self.ledger = Ledger(run_dir)

    def handle(self, event: Event) -> None:
        if isinstance(event, TrialEnded):
            self.ledger.publish(event.spec, event.result)
        super().handle(event)


def nothing(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    return TrialResult(spec.trial_id, TrialStatus.DONE, 1)


def empty_leaf(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """Claim an attempt and write the two files that every leaf has."""
    number, attempt = claim_attempt(run_dir, spec.trial_id)
    files.write_text(TrialPaths(attempt / LEAF).config, config_text(spec))
    row = dict.fromkeys(schemas.METRICS.names) | key_of(spec) | {"attempt": number}
    files.write_rows(TrialPaths(attempt / LEAF).metrics, [row], schemas.METRICS)
    return TrialResult(spec.trial_id, TrialStatus.DONE, number)


def empty_trials(count: int, *, bare: bool) -> dict[str, float]:
    """Return seconds per trial, of all and of the last tenth, of Ray's start and end, and the driver's memory."""
    specs = [TrialSpec(Settings.model_validate(SETTINGS), "0", seed) for seed in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        sink = Ends() if bare else PublishedEnds(run_dir)
        before, began, busy = _peak_mib(), time.perf_counter(), time.process_time()
        RayRunner(Resources(device="cpu"))(specs, run_dir, sink, nothing if bare else empty_leaf, StopSignal())
        whole, busy = time.perf_counter() - began, time.process_time() - busy
    ends = sink.ends
    tenth = max(1, count // 10)
    return {
        "trial_s": (ends[-1] - sink.first) / count,
        "last_tenth_s": (ends[-1] - ends[-1 - tenth]) / tenth,
        "cpu_s": busy / count,
        "start_s": whole - (ends[-1] - sink.first),
        "memory_before_mib": before,
        "memory_mib": _peak_mib(),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def experiment_of(rows: int, output: Path) -> Experiment:
    """Return an experiment with about `rows` trials: 10 classes, 10 seeds, and as many configs as needed."""
    rates = [0.1 / (1 + number) for number in range(max(1, rows // (CLASSES * SEEDS)))]
    grid = {"training.learning_rate": rates} if len(rates) > 1 else {}
    plain = SETTINGS | {"schema": 2, "name": f"rows-{rows}", "seeds": SEEDS, "grid": grid, "output": output}
    return Experiment.model_validate(plain)


def make_run(rows: int, output: Path) -> None:
    """Write a finished run: every leaf links the files of one real trial, and has its own `metrics.parquet`."""
    experiment = experiment_of(rows, output)
    planned = plan(experiment)
    run_dir = output / experiment.name
    first = planned.specs[0]
    prints, notes = prepare_data(planned.specs, lambda text: None)
    result = run_trial(first, run_dir, NullObserver())
    model = RunPaths(run_dir).attempts_of(first.trial_id) / str(result.attempt) / LEAF
    row = files.read_table(TrialPaths(model).metrics).to_pylist()[0]
    write_plan(experiment, planned, notes)
    for spec in planned.specs:
        leaf = run_dir / spec.leaf
        leaf.mkdir(parents=True)
        for path in model.iterdir():
            if path.name not in (tree.METRICS, tree.SNAPSHOT):
                os.link(path, leaf / path.name)
        own = row | key_of(spec) | {"data_fingerprint": prints[spec.trial_id]}
        pq.write_table(files.table_from_rows([own], schemas.METRICS), TrialPaths(leaf).metrics)
    shutil.rmtree(RunPaths(run_dir).attempts)
    Ledger(run_dir).reconcile(planned.specs)


def timed_plan(experiment: Experiment) -> None:
    plan(experiment)


def timed_second_start(experiment: Experiment) -> None:
    """Do all that a start does before its first trial, when none is missing."""
    planned = plan(experiment)
    prints, notes = prepare_data(planned.specs, lambda text: None)
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
    plan(experiment_of(1, output))  # imports cost the same for every size
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
    """Return the value of a call of this module, run in a separate process."""
    program = f"import json, overhead; from pathlib import Path; print(json.dumps(overhead.{call}))"
    here = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    output = subprocess.run([sys.executable, "-c", program], env=environment, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(output.stdout.decode().strip().splitlines()[-1]))


def spread(found: list[float], unit: str = "", digits: int = 3) -> str:
    """Return the median and the range as text."""
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
        print(f"{count} empty trials: {spread(column(own, 'trial_s'), ' s')} per trial")
        ratio = [each["last_tenth_s"] / each["trial_s"] for each in own]
        print(f"  a trial of the last tenth, against the mean of all: {spread(ratio, '', 2)}")
        print(f"  CPU of the driver: {spread(column(own, 'cpu_s'), ' s')} a trial, starting Ray included")
        print(f"  driver's peak memory: {spread(column(own, 'memory_mib'), ' MiB', 0)}")
    few, many = found[counts[0]], found[counts[-1]]
    pairs = list(zip(few, many, strict=True))
    grown = [(b["memory_mib"] - a["memory_mib"]) * 1024 / max(1, counts[-1] - counts[0]) for a, b in pairs]
    print(f"growth of the driver's memory: {spread(grown, ' KiB', 1)} per trial")
    ratios = [b["trial_s"] / a["trial_s"] for a, b in pairs]
    print(f"seconds per trial at {counts[-1]} against {counts[0]}: {spread(ratios)}")
    shares = [a["trial_s"] / b["trial_s"] for a, b in zip(bare, many, strict=True)]
    print(f"share of Tune alone: {spread(shares, '', 2)}")
    print(f"starting and ending Ray, once a sweep: {spread(column(many, 'start_s'), ' s', 1)}")
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
                memory = spread(column(found, "memory_mib"), " MiB", 0)
                spent = f"{spread(column(found, 's'), ' s', 2)}, CPU {spread(column(found, 'cpu_s'), ' s', 2)}"
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
