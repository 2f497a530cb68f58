"""What workers do in tests instead of training: quick, with known results, or failing on purpose.

Imports torch only for the real thing: a worker's process starts in half the time without it.
"""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.attempts import LEAF, claim_attempt
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.runners.failures import FailureKind
from fcdd_sweep.runners.trial_data import fingerprint_of
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.trial_rows import config_text, key_of
from fcdd_sweep.training.result import EpochRecord, NullObserver, Observer


def empty(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """A trial that does nothing at all."""
    return TrialResult(spec.trial_id, "done", 1, image_auroc=0.5)


def naming_its_process(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """The result names the process, its niceness, whether it has imported a module that nothing else imports, and how
    it takes memory.
    """
    time.sleep(0.5)
    found = (os.getpid(), os.nice(0), "colorsys" in sys.modules, os.environ.get("GLIBC_TUNABLES"))
    return TrialResult(spec.trial_id, "done", 1, host=" ".join(map(str, found)))


def naming_its_gpu(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """The result names the GPU that the process may see."""
    return TrialResult(spec.trial_id, "done", 1, host=os.environ.get("CUDA_VISIBLE_DEVICES", "any"))


def _real(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    from fcdd_sweep.sweep.trial import run_trial

    return run_trial(spec, run_dir, observer)


def failing_seed_1(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """The real thing, but with data that breaks for seed 1 of every class."""
    if spec.seed == 1:
        broken = dataclasses.replace(spec, normal_class="no such class")
        object.__setattr__(broken, "trial_id", spec.trial_id)
        return dataclasses.replace(_real(broken, run_dir, observer), trial_id=spec.trial_id)
    return _real(spec, run_dir, observer)


def losing_seed_1(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """The real thing, but seed 1 of every class is reported as lost with its worker."""
    if spec.seed == 1:
        return TrialResult(spec.trial_id, "failed", 0, "worker process has died", kind="worker_lost")
    return _real(spec, run_dir, observer)


def losing_all(spec: TrialSpec, run_dir: Path, observer: Observer, checkpoint_every: str) -> TrialResult:
    """Every trial is reported as lost with its worker."""
    return TrialResult(spec.trial_id, "failed", 0, "worker process has died", kind="worker_lost")


TELLING, DYING_ONCE, DYING_ALWAYS, PREEMPTED_TWICE, SHORT_OF_MEMORY_ONCE = range(1, 6)
"""Seeds of trials to which something happens."""


def by_seed(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """What happens to a trial, its seed says; nothing happens to one of seed 0."""
    number, _ = claim_attempt(run_dir, spec.trial_id)
    if spec.seed == TELLING:
        for epoch in (1, 2, 3):
            time.sleep(1.1)
            observer.epoch_done(EpochRecord(epoch, 1 / epoch, 0.0, 0.0, 0.1, 1.0), 3)
    if spec.seed == DYING_ALWAYS or (spec.seed == DYING_ONCE and number == 1):
        os.kill(os.getpid(), signal.SIGKILL)  # as an out-of-memory killer would
    if spec.seed == PREEMPTED_TWICE and number <= 2:
        os.kill(os.getpid(), signal.SIGTERM)
        return waiting_to_be_stopped(spec, run_dir, observer)
    if spec.seed == SHORT_OF_MEMORY_ONCE and number == 1:
        return TrialResult(spec.trial_id, "failed", number, "MemoryError", kind="out_of_memory")
    return TrialResult(spec.trial_id, "done", number, image_auroc=0.5)


DYING_TOGETHER = 3
"""Number of trials that meet in one process before it dies."""


def dying_together(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """On its first attempt seed 1 kills the process as soon as the others are in it, too; each result names the number
    of trials of its process."""
    number, _ = claim_attempt(run_dir, spec.trial_id)
    while number == 1 and (spec.seed != 1 or _trials_here() < DYING_TOGETHER):
        time.sleep(0.05)
    if number == 1:
        time.sleep(0.2)  # the others begin their attempts
        os.kill(os.getpid(), signal.SIGKILL)
    return TrialResult(spec.trial_id, "done", number, host=str(_trials_here()))


def with_room_for_two(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """Trials of a process that holds more than two run out of memory, as one program of all does."""
    number, _ = claim_attempt(run_dir, spec.trial_id)
    time.sleep(0.5)  # the others begin
    together = _trials_here()
    time.sleep(0.5)  # the others count, too
    if together > 2:
        return TrialResult(spec.trial_id, "failed", number, "CUDA out of memory", kind="out_of_memory")
    return TrialResult(spec.trial_id, "done", number, host=str(together))


def _trials_here() -> int:
    return sum(thread.name == "trial" for thread in threading.enumerate())


HANGING_ONCE, FROZEN_ONCE = 1, 2
"""Seeds of trials that stand still."""


def standing_still(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """Two trials stand still on their first attempt, one of them with its whole process."""
    number, _ = claim_attempt(run_dir, spec.trial_id)
    if spec.seed == HANGING_ONCE and number == 1:
        time.sleep(600)
    if spec.seed == FROZEN_ONCE and number == 1:
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGSTOP)
    return TrialResult(spec.trial_id, "done", number, image_auroc=0.5)


FILLING_ONCE = 1
"""Seed of a trial that fills the memory."""
FILLED_BYTES = 5 * 2**29
"""More memory than Ray, its workers and the work of others are expected to take while a trial begins."""


def memory_bytes() -> tuple[int, int]:
    """Return the machine's memory, and what of it is available."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    total, available = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return total, available


def filling_memory(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """One trial takes memory on its first attempt until it is killed; the others take their time."""
    number, _ = claim_attempt(run_dir, spec.trial_id)
    taken = []
    if spec.seed == FILLING_ONCE and number == 1:
        while len(taken) * 2**27 < 2 * FILLED_BYTES:
            taken.append(b"x" * 2**27)
            time.sleep(0.1)
        time.sleep(60)
    time.sleep(5)
    return TrialResult(spec.trial_id, "done", number, image_auroc=0.5)


def waiting_to_be_stopped(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """Goes on until it is asked to stop."""
    while not observer.stop_asked():
        time.sleep(0.05)
    return TrialResult(spec.trial_id, "stopped", 1, "stopped")


def breaking_its_gpu_once(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """Every trial fails with its GPU on its first attempt, and is done on the second; results name the process."""
    number, _ = claim_attempt(run_dir, spec.trial_id)
    process = str(os.getpid())
    if number == 1:
        return TrialResult(spec.trial_id, "failed", number, "CUDA error", kind="gpu_failed", host=process)
    return TrialResult(spec.trial_id, "done", number, host=process)


WAITING = 0
"""Seed of a trial that waits to be stopped."""


def waiting_if_seed_says(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """Wait to be stopped for seed `WAITING`, else be done at once."""
    return (waiting_to_be_stopped if spec.seed == WAITING else empty)(spec, run_dir, observer)


FAILING_SEEDS = LOST, BROKEN, SHORT_OF_MEMORY, PREEMPTED = range(1, 5)
"""Seeds of trials whose attempts fail, each in its way; the last is done at its fifth attempt."""


def failing_by_seed(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """Return the failure that belongs to the seed."""
    kinds: dict[int, FailureKind] = {LOST: "worker_lost", BROKEN: "error", SHORT_OF_MEMORY: "out_of_memory"}
    number, _ = claim_attempt(run_dir, spec.trial_id)
    if spec.seed == PREEMPTED and number == 5:
        return empty(spec, run_dir, observer)
    return TrialResult.failure(spec.trial_id, kinds.get(spec.seed, "preempted"), "made up", attempt=number)


MEASURED = {1: 0.625, 2: 0.75, 3: 0.875}
EPOCHS = [(epoch, 3, 1 / epoch) for epoch in MEASURED]
"""Epoch, epochs and loss of the trial below."""


def measured_by_epochs(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """Report three epochs with the AUROC over validation images after each."""
    for epoch, epochs, loss in EPOCHS:
        observer.epoch_done(EpochRecord(epoch, loss, 0.0, 0.0, 0.1, 1.0, MEASURED[epoch]), epochs)
        time.sleep(1.1)
    return empty(spec, run_dir, observer)


SILENT = NullObserver()
"""An observer for attempts made by hand."""


def _made_up(schema: pa.Schema, trial_id: str, label: int) -> dict[str, Any]:
    """A row of a leaf's table; its numbers are its label, 0 or 1."""
    known = {"trial_id": trial_id, "split": "test", "path": f"{label}.png", "kind": "image_roc", "defect": ""}
    return {name: known.get(name, label) for name in schema.names}


def scored(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """Leaves a row of figures at once: the loss is least at a learning rate of 0.003; the validation figures follow it,
    those of the test set do not."""
    number, attempt = claim_attempt(run_dir, spec.trial_id)
    loss = abs(math.log10(spec.settings.training.learning_rate / 0.003)) + 0.01 * spec.seed
    record = EpochRecord(1, loss, 0.0, 0.0, 0.1, 1.0)
    observer.epoch_done(record, 1)
    known = {
        **key_of(spec),
        "attempt": number,
        "final_loss": loss,
        "validation_image_auroc": 1 - loss / 10,
        "validation_image_auroc_std_error": 0.02,
        "image_score": "score_mean",
        "image_auroc": 0.5 + loss * (10 + spec.seed) / 100 if spec.settings.evaluation.test else None,
        "epochs": spec.settings.training.epochs,
        "selection_source": "validation: made up",
        "data_fingerprint": fingerprint_of(spec),
    }
    row = {name: known.get(name) for name in schemas.METRICS.names}
    files.write_text(TrialPaths(attempt / LEAF).config, config_text(spec))
    leaf = TrialPaths(attempt / LEAF)
    files.write_rows(leaf.history, [{"trial_id": spec.trial_id, **dataclasses.asdict(record)}], schemas.HISTORY)
    for path, schema in ((leaf.scores, schemas.SCORES), (leaf.curves, schemas.CURVES)):
        rows = [_made_up(schema, spec.trial_id, label) for label in (0, 1)] if spec.settings.evaluation.test else []
        files.write_rows(path, rows, schema)
    files.write_rows(leaf.defects, [], schemas.DEFECTS)
    files.write_rows(leaf.metrics, [row], schemas.METRICS)
    return TrialResult(spec.trial_id, "done", number, data_fingerprint=row["data_fingerprint"])


def scored_by_epochs(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """The same in four epochs with a look at validation images after each; class 8 is hard. Stops where it is asked."""
    loss = abs(math.log10(spec.settings.training.learning_rate / 0.003)) + 3 * (spec.normal_class == "8")
    looked = []
    for epoch in (1, 2, 3, 4):
        if observer.stop_asked():
            return TrialResult(spec.trial_id, "stopped", 1, "stopped")
        record = EpochRecord(epoch, loss, 0.0, 0.0, 0.1, 1.0, validation_image_auroc=1 - loss / 10 - 0.1 / epoch)
        looked.append({"trial_id": spec.trial_id, **dataclasses.asdict(record)})
        observer.epoch_done(record, 4)
    result = scored(spec, run_dir, NullObserver())
    leaf = RunPaths(run_dir).attempts_dir(spec.trial_id) / str(result.attempt) / LEAF
    files.write_rows(TrialPaths(leaf).history, looked, schemas.HISTORY)
    return result


def scored_slowly(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """The same after a while."""
    time.sleep(0.05)
    return scored(spec, run_dir, observer)


def scored_but_large_rates(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """The same, but seed 1 diverges at learning rates above 0.01."""
    if spec.settings.training.learning_rate > 0.01 and spec.seed == 1:
        number, _ = claim_attempt(run_dir, spec.trial_id)
        return TrialResult(spec.trial_id, "failed", number, "diverged", kind="diverged")
    return scored(spec, run_dir, observer)
