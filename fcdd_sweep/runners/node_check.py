"""The check that a machine can run a sweep's trials: same code as the driver, same run directory, same data.

Machines may join while a sweep runs, so every worker checks its own before its first trial. Knows no Ray.
"""

from __future__ import annotations

import contextlib
import platform
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results import files
from fcdd_sweep.results.storage import Location, is_file
from fcdd_sweep.runners.data_transfer import (
    CacheEntry,
    FileReader,
    TransferableData,
    corpus_entry,
    pool_entry,
    weights_files,
)
from fcdd_sweep.runners.events import Work
from fcdd_sweep.runners.failures import FailureKind
from fcdd_sweep.runners.trial_data import corpus_of, data_key, data_keys, fingerprint_of, pools_of, versions
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.training.result import Observer

_MUST_EQUAL = ("fcdd_sweep", "source", "python", "torch", "numpy")
"""Versions that must not differ between machines; of Python the first two numbers."""
MAX_DATA_S = 3600.0
"""How long a machine may take to fetch or decode its data."""
_ALIVE_EVERY_S = 5.0
_DATA_STEP = "Put it at the same path on all machines, or on storage that all machines share"
_SHARED_STEP = "Choose an --output that all machines share, such as NFS or s3://BUCKET/PREFIX"


@dataclass(frozen=True)
class NodeRequirements:
    """What the driver has, and every machine that runs trials must have.

    Attributes:
        versions: see `runners.trial_data.versions`.
        mark: a file in the run directory that exists as long as the driver works.
        fingerprints: of the data of the trials known at the start, by `runners.trial_data.data_key`.
        transferable: data that a machine fetches from the driver if it lacks it.
        read: reads the driver's files.
    """

    versions: dict[str, str]
    mark: Location
    fingerprints: dict[str, str]
    transferable: TransferableData
    read: FileReader

    def problems_here(self, specs: Sequence[TrialSpec]) -> list[Problem]:
        """Return why this machine cannot run the trials; data is fetched or decoded first if it is missing."""
        return [*self._code_problems(), *_run_dir_problems(self.mark), *self._data_problems(specs)]

    def _code_problems(self) -> list[Problem]:
        here = versions()
        step = "Install the same versions on all machines, see docs/clusters.md"
        return [
            Problem(platform.node(), f"found {name} {here[name]}, the driver has {self.versions[name]}", "", step)
            for name in _MUST_EQUAL
            if _release(name, here) != _release(name, self.versions)
        ]

    def _data_problems(self, specs: Sequence[TrialSpec]) -> list[Problem]:
        """A trial that a search has added later may read data with no known fingerprint: that is not compared."""
        host = platform.node()
        try:
            self.transferable.receive(self.read)
            found = {data_key(spec): fingerprint_of(spec) for spec in specs}
        except (InputError, OSError) as error:
            return [Problem(host, f"the data cannot be read: {short_error(error)}", "", _DATA_STEP)]
        same = all(self.fingerprints.get(key, fingerprint) == fingerprint for key, fingerprint in found.items())
        what = "the data differs from the driver's: files have other content"
        step = "Put the same data, or the same shared folder, on all machines"
        return [] if same else [Problem(host, what, "", step)]


@dataclass(frozen=True)
class WithNodeCheck:
    """A `Work` that checks its machine first; on an unfit machine the trial returns at once, to run on another."""

    work: Work
    required: NodeRequirements

    def __call__(self, spec: TrialSpec, run_dir: Location, observer: Observer) -> TrialResult:
        with _progressing(observer):  # a machine that joined late may have all its data to decode
            problems = self.required.problems_here([spec])
        if not problems:
            return self.work(spec, run_dir, observer)
        return TrialResult.failure(spec.trial_id, "node_unfit", problems_text(problems), host=platform.node())


@dataclass(frozen=True)
class WithGpu:
    """A `Work` for processes that hold a share of a GPU; without a GPU that computes, the trial returns at once.

    It would run on the CPU otherwise, slowly and with other bits, while its share of the GPU is idle. It can reserve no
    more of the GPU's memory than its share, which its runner has entered, see `TrialSpec.sharing_gpu`.

    Attributes:
        work: what is done with a trial.
        kind: of the failure: `node_unfit` where the trial may run on another machine, else `gpu_failed`.
    """

    work: Work
    kind: FailureKind

    def __call__(self, spec: TrialSpec, run_dir: Location, observer: Observer) -> TrialResult:
        from fcdd_sweep.training.device import gpu_failure, limit_memory  # import torch, which the driver does not need

        if not (failure := gpu_failure()):
            limit_memory(1 / spec.settings.resources.trials_on_gpu)
            return self.work(spec, run_dir, observer)
        what = f"the trial holds a share of a GPU that cannot be used ({failure})"
        step = "Check the GPU, its driver and torch on this machine, or use --set resources.device=cpu"
        problem = Problem(platform.node(), what, "", step)
        return TrialResult.failure(spec.trial_id, self.kind, str(problem), host=platform.node())


@contextlib.contextmanager
def _progressing(observer: Observer) -> Iterator[None]:
    """Count as progress of the trial while entered, for at most `MAX_DATA_S`."""
    over = threading.Event()
    until = time.monotonic() + MAX_DATA_S

    def show_life() -> None:
        while not over.wait(_ALIVE_EVERY_S) and time.monotonic() < until:
            observer.stop_asked()

    threading.Thread(target=show_life, name="progress", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def transferable_data(specs: Sequence[TrialSpec]) -> TransferableData:
    """Return the data of these trials that the driver's machine can send."""
    entries: dict[str, CacheEntry | None] = {}
    for settings in {data_key(spec): spec.settings for spec in specs}.values():
        entries[data_keys(settings).corpus] = corpus_entry(settings.dataset, corpus_of(settings))
        entries |= {key: pool_entry(source, pool) for key, source, pool in pools_of(settings)}
    known = {key: entry for key, entry in entries.items() if entry is not None}
    return TransferableData(known, weights_files({spec.settings.network for spec in specs}))


def problems_text(problems: Sequence[Problem]) -> str:
    return "; ".join(str(problem) for problem in problems)


@cache
def _run_dir_problems(mark: Location) -> tuple[Problem, ...]:
    """Return, once per process, why the run directory is not the driver's or cannot be written."""
    run_dir, host = mark.parent.parent, platform.node()
    try:
        if not is_file(mark):
            return (Problem(host, f"{run_dir} is not the same folder as on the driver", "", _SHARED_STEP),)
        files.write_text(mark.parent / f"seen-by-{host}", host)
    except OSError as error:
        what = f"{run_dir} cannot be used ({error.strerror or error})"
        return (Problem(host, what, "", _SHARED_STEP),)
    return ()


def _release(name: str, found: dict[str, str]) -> str:
    return found[name].rpartition(".")[0] if name == "python" else found[name]
