"""Whether a machine can run a sweep's trials: it has the driver's code, sees the run's folder, and has the same data.

Machines may join while a sweep runs, so every worker looks for itself before its first trial. Knows no Ray.
"""

from __future__ import annotations

import contextlib
import platform
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.config.trial_spec import TrialSpec, digest
from fcdd_sweep.results import files
from fcdd_sweep.results.storage import Location, is_file
from fcdd_sweep.runners.data_transfer import (
    CacheEntry,
    FileReader,
    TransferableData,
    corpus_entry,
    corpus_key,
    pool_entry,
    pool_key,
    weights_files,
)
from fcdd_sweep.runners.events import Work
from fcdd_sweep.runners.trial_data import corpus_of, exposure_of, fingerprint_of, versions
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.training.result import Observer

_SAME = ("fcdd_sweep", "source", "python", "torch", "numpy")
"""What must not differ between machines; of Python the first two numbers."""
DATA_MOST_S = 3600.0
"""How long a machine may take to bring or decode its data."""
_BEAT_S = 5.0
_DATA_STEP = "Put it at the same path on all machines, or on storage that all see"
_SHARED_STEP = "Choose an --output that all machines share, such as NFS or s3://BUCKET/PREFIX"


@dataclass(frozen=True)
class NodeRequirements:
    """What the driver has, and every machine that runs trials must have.

    Attributes:
        versions: see `runners.trial_data.versions`.
        mark: a file in the run that is there as long as the driver works.
        data: fingerprints of the data by what a trial is given, see `data_key`.
        parcels: data that a machine gets from the driver if it lacks it.
        bring: how its files travel.
    """

    versions: dict[str, str]
    mark: Location
    data: dict[str, str]
    parcels: TransferableData
    bring: FileReader

    def problems_here(self, specs: Sequence[TrialSpec]) -> list[Problem]:
        """Why this machine cannot run some trials; empty when it can. Data is brought or decoded, if it is not yet."""
        return [*self._of_code(), *_of_run(self.mark), *self._of_data(specs)]

    def _of_code(self) -> list[Problem]:
        here = versions()
        step = "Install the same on all machines: see docs/clusters.md"
        return [
            Problem(platform.node(), f"{name} is {here[name]} there and {self.versions[name]} at the driver", "", step)
            for name in _SAME
            if _release(name, here) != _release(name, self.versions)
        ]

    def _of_data(self, specs: Sequence[TrialSpec]) -> list[Problem]:
        host = platform.node()
        try:
            self.parcels.receive(self.bring)
            same = all(fingerprint_of(spec) == self.data[data_key(spec)] for spec in specs)
        except (InputError, OSError) as error:
            return [Problem(host, f"the data cannot be had there: {short_error(error)}", "", _DATA_STEP)]
        what = "the data there is not the driver's: files have other content"
        step = "Put the same data, or the same shared folder, on all machines"
        return [] if same else [Problem(host, what, "", step)]


@dataclass(frozen=True)
class WithNodeCheck:
    """A work that is done on machines that are fit for it; on others the trial comes back at once, for another one."""

    work: Work
    expected: NodeRequirements

    def __call__(self, spec: TrialSpec, run_dir: Location, observer: Observer) -> TrialResult:
        with _progressing(observer):  # a machine that joined late may have all its data to decode
            problems = self.expected.problems_here([spec])
        if not problems:
            return self.work(spec, run_dir, observer)
        return TrialResult(
            spec.trial_id, "failed", 0, problem_lines(problems), kind="node_unfit", traceback="", host=platform.node()
        )


@contextlib.contextmanager
def _progressing(observer: Observer) -> Iterator[None]:
    """What is done here counts as progress of a trial, for a while."""
    over = threading.Event()
    until = time.monotonic() + DATA_MOST_S

    def beat() -> None:
        while not over.wait(_BEAT_S) and time.monotonic() < until:
            observer.stop_asked()

    threading.Thread(target=beat, name="progress", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def cache_entries_of(specs: Sequence[TrialSpec]) -> TransferableData:
    """What of the data of these trials the driver's machine can send."""
    parcels: dict[str, CacheEntry | None] = {}
    for settings in {data_key(spec): spec.settings for spec in specs}.values():
        dataset, images, source = settings.dataset, settings.images, settings.anomalies.source
        parcels[corpus_key(dataset, images)] = corpus_entry(dataset, corpus_of(settings))
        pool = exposure_of(settings)
        if pool is not None and source is not None and not isinstance(source, str):
            parcels[pool_key(source, dataset, images)] = pool_entry(source, pool)
    there = {key: parcel for key, parcel in parcels.items() if parcel is not None}
    return TransferableData(there, weights_files({spec.settings.network for spec in specs}))


def problem_lines(problems: Sequence[Problem]) -> str:
    return "; ".join(str(problem) for problem in problems)


def data_key(spec: TrialSpec) -> str:
    """Equal for trials that are given the same data and weights."""
    read: Any = {"dataset": True, "images": True, "anomalies": {"source"}, "network": {"name", "backbone", "weights"}}
    return digest([spec.normal_class, spec.settings.model_dump_json(include=read)])


@cache
def _of_run(mark: Location) -> tuple[Problem, ...]:
    """Once a process: whether the run's folder is here what it is at the driver, and can be written."""
    run_dir, host = mark.parent.parent, platform.node()
    try:
        if not is_file(mark):
            return (Problem(host, f"{run_dir} is another folder there than at the driver", "", _SHARED_STEP),)
        files.write_text(mark.parent / f"seen-by-{host}", host)
    except OSError as error:
        what = f"{run_dir} cannot be used there ({error.strerror or error})"
        return (Problem(host, what, "", _SHARED_STEP),)
    return ()


def _release(name: str, of: dict[str, str]) -> str:
    return of[name].rpartition(".")[0] if name == "python" else of[name]
