"""The driver's record of a run: `index.parquet`, one row per trial, and `failures.parquet`, one per failed attempt.

The truth is in the leaves: a trial is done when its leaf is whole, and a lost index is rebuilt from the leaves.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fcdd_sweep.config.locations import RemotePath, StorageError
from fcdd_sweep.config.schema import Faults
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results import files, schemas, storage, tree
from fcdd_sweep.results.attempts import LEAF, list_attempts
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.storage import Location, is_file
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.runners.failures import POLICIES
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.trial_rows import finished_result, key_of

_MAX_CHARACTERS = 20_000
"""Of a traceback; its end is kept."""


class FailureLog:
    """`failures.parquet`. Failures are few, so the whole file is written with each one.

    Attributes:
        problem: a sentence on a log that could not be read and is started anew; empty otherwise.
    """

    def __init__(self, run_dir: Location) -> None:
        self._path = RunPaths(run_dir).failures
        self._rows: list[dict[str, Any]] = []
        self.problem = ""
        if is_file(self._path):
            try:
                self._rows = files.read_rows(self._path, schemas.FAILURES)
            except files.DamagedTableError as error:  # it must not stop a sweep
                self.problem = f"{error}: it is started anew, and failures of earlier starts are not counted"

    def counts(self) -> Counter[str]:
        """Return by trial id how many attempts failed over all starts; those that a machine gave back do not count."""
        counted = {kind for kind, policy in POLICIES.items() if policy.counts}
        return Counter(row["trial_id"] for row in self._rows if row["kind"] in counted)

    def add(self, spec: TrialSpec, result: TrialResult, decision: str) -> None:
        """Record a failed attempt, and the decision about its trial."""
        self._rows.append(
            {
                **key_of(spec),
                "attempt": result.attempt,
                "kind": result.kind or "error",
                "error": result.error,
                "traceback": result.traceback[-_MAX_CHARACTERS:],
                "decision": decision,
                "host": result.host,
                "ended_at": dt.datetime.now(dt.UTC),
            }
        )
        files.write_rows(self._path, self._rows, schemas.FAILURES)


_SAVE_EVERY_S = 2.0
"""Seconds between two writes of the index at least; what it lacks after a crash is read from the leaves."""
_SAVE_SHARE = 0.05
"""Share of the driver's time for writing the index, which takes longer the more trials there are."""


class Ledger:
    """The trials of a run.

    Attributes:
        run_dir: the run.
        rows: rows of `index.parquet` by trial id.
        failures: attempts that failed so far, by trial id.
        repaired: messages on repairs when the ledger was opened.
    """

    def __init__(self, run_dir: Location, failures: Mapping[str, int] | None = None) -> None:
        """`failures` are the counts of the failure log, which knows more than an index that was lost."""
        self.run_dir = run_dir
        self.rows: dict[str, dict[str, Any]] = {}
        self.repaired: list[str] = []
        self.failures = Counter(failures or {})
        self._save_after = 0.0
        self._read()
        self.failures |= Counter({trial_id: row["failures"] for trial_id, row in self.rows.items()})

    def _read(self) -> None:
        try:
            self.rows = files.read_index(self.run_dir)
        except StorageError:
            raise  # the index may be intact
        except (files.DamagedTableError, OSError) as error:
            path = RunPaths(self.run_dir).index
            self.repaired.append(f"{path} could not be read ({error}); it is rebuilt from the leaves")

    def done(self, trial_id: str) -> bool:
        return self._status(trial_id) == TrialStatus.DONE

    def failed(self, trial_id: str) -> bool:
        return self._status(trial_id) == TrialStatus.FAILED

    def _status(self, trial_id: str) -> str | None:
        row = self.rows.get(trial_id)
        return row["status"] if row else None

    def failures_left(self, trial_id: str, faults: Faults) -> float:
        """Return how often a trial may still fail before it is not run any more; infinite without a limit."""
        return math.inf if faults.max_failures is None else faults.max_failures - self.failures[trial_id]

    def reconcile(self, specs: Iterable[TrialSpec]) -> None:
        """Make the rows agree with the files: add what an earlier driver left, drop what no longer exists."""
        self.add(specs)
        self.save()

    def add(self, specs: Iterable[TrialSpec]) -> None:
        """Reconcile further trials without writing the index."""
        listing = _Listing(self.run_dir)
        for spec in specs:
            row = self.rows.get(spec.trial_id)
            if row and row["status"] == TrialStatus.DONE and self._still_whole(row, listing):
                self._clear(spec, listing)
                continue
            if row and row["status"] == TrialStatus.DONE:
                self.repaired.append(f"{row['leaf']} is missing or incomplete: its trial counts as missing")
                del self.rows[spec.trial_id]
            self._adopt(spec, listing)
            if place := _blocked_at(self.run_dir, spec.leaf):
                other = tree.alternative_leaf(spec.leaf, spec.config_id)
                step = "To keep results that it should lead to, stop this start and restore them; else remove it"
                self.repaired.append(f"{place}: what the trial makes goes to {other} instead. {step}")

    def _still_whole(self, row: dict[str, Any], listing: _Listing) -> bool:
        if isinstance(self.run_dir, RemotePath):  # an object is whole or absent: it need not be read
            return all(listing.may_exist(f"{row['leaf']}/{name}") for name in tree.LEAF_TABLES)
        return files.read_whole_leaf(self.run_dir / row["leaf"], row["trial_id"]) is not None

    def _clear(self, spec: TrialSpec, listing: _Listing) -> None:
        """Remove attempts at a published trial, left by a driver that died or a lost worker that came back."""
        attempts = RunPaths(self.run_dir).attempts_dir(spec.trial_id)
        if listing.may_exist(f"{tree.ATTEMPTS}/{spec.trial_id}"):
            storage.remove_tree(attempts)

    def _adopt(self, spec: TrialSpec, listing: _Listing) -> None:
        """Enter a finished leaf that is missing in the index: published, or left in an attempt."""
        for leaf in (spec.leaf, tree.alternative_leaf(spec.leaf, spec.config_id)):
            if not listing.may_exist(f"{leaf}/{tree.METRICS}"):
                continue
            if metrics := files.read_whole_leaf(self.run_dir / leaf, spec.trial_id):
                self._enter(spec, leaf, finished_result(metrics, metrics["attempt"]))
                self._clear(spec, listing)
                return
        if not listing.may_exist(f"{tree.ATTEMPTS}/{spec.trial_id}"):
            return
        for number, attempt in list_attempts(self.run_dir, spec.trial_id):
            if metrics := files.read_whole_leaf(attempt / LEAF, spec.trial_id):
                try:
                    self.publish(spec, finished_result(metrics, number))
                except OSError as error:
                    if storage.is_storage_error(error):
                        raise
                    self.repaired.append(not_entered(spec, error))
                return

    def _free_leaf(self, spec: TrialSpec) -> str:
        wanted = self.run_dir / spec.leaf
        taken = storage.is_file(TrialPaths(wanted).metrics) and not files.read_metrics(wanted, spec.trial_id)
        free = not taken and not _blocked_at(self.run_dir, spec.leaf)
        return spec.leaf if free else tree.alternative_leaf(spec.leaf, spec.config_id)

    def publish(self, spec: TrialSpec, result: TrialResult) -> None:
        """Move a finished attempt's leaf to its place in the run and enter it, then remove the trial's attempts.

        Raises:
            OSError: the leaf could not be moved. The attempt stays, and the next start publishes it.
        """
        leaf = self._free_leaf(spec)
        if isinstance(self.run_dir, Path):
            _move(RunPaths(self.run_dir).attempts_dir(spec.trial_id), result.attempt, self.run_dir / leaf)
        else:
            self._copy(spec, result.attempt, self.run_dir / leaf)
        self._enter(spec, leaf, result)
        self._save_soon()
        storage.remove_tree(RunPaths(self.run_dir).attempts_dir(spec.trial_id))

    def _copy(self, spec: TrialSpec, number: int, target: RemotePath) -> None:
        """Copy the leaf of a finished attempt; if two workers claimed one number at once, either leaf."""
        leaves = [folder / LEAF for other, folder in list_attempts(self.run_dir, spec.trial_id) if other == number]
        source = next((leaf for leaf in leaves if storage.is_file(TrialPaths(leaf).metrics)), None)
        if not isinstance(source, RemotePath):
            raise FileNotFoundError(2, "No whole leaf", str(RunPaths(self.run_dir).attempts_dir(spec.trial_id)))
        if storage.children(target):  # a partial copy, or results of the trial before it was run again
            storage.remove(TrialPaths(target).metrics)
            storage.remove_tree(target)
        storage.copy_tree(source, target, last=tree.METRICS)

    def _enter(self, spec: TrialSpec, leaf: str, result: TrialResult) -> None:
        self.rows[spec.trial_id] = {
            **key_of(spec),
            "status": TrialStatus.DONE,
            "leaf": leaf,
            "attempt": result.attempt,
            "failures": self.failures[spec.trial_id],
            "error": "",
            "data_fingerprint": result.data_fingerprint,
            "published_at": dt.datetime.now(dt.UTC),
            "wall_time_s": result.wall_time_s,
            "device": result.device,
            "trials_per_gpu": result.trials_per_gpu,
            "device_numerics": result.device_numerics,
        }

    def fail(self, spec: TrialSpec, result: TrialResult) -> None:
        """Enter a failed trial. Its traceback stays in the attempt's folder."""
        self.failures[spec.trial_id] += 1
        self.rows[spec.trial_id] = {
            **key_of(spec),
            "status": TrialStatus.FAILED,
            "leaf": "",
            "attempt": result.attempt,
            "failures": self.failures[spec.trial_id],
            "error": result.error,
            "data_fingerprint": "",
            "published_at": dt.datetime.now(dt.UTC),
            "wall_time_s": None,
            "device": None,
            "trials_per_gpu": None,
            "device_numerics": None,
        }
        self._save_soon()

    def forget(self, trial_id: str) -> None:
        """Count a finished trial as missing, so that it runs again; its other files stay until they are replaced."""
        leaf = self.run_dir / self.rows.pop(trial_id)["leaf"]
        storage.remove(TrialPaths(leaf).metrics)

    def _save_soon(self) -> None:
        if time.monotonic() > self._save_after:
            self.save()

    def save(self) -> None:
        began = time.monotonic()
        files.write_rows(RunPaths(self.run_dir).index, list(self.rows.values()), schemas.INDEX)
        ended = time.monotonic()
        self._save_after = ended + max(_SAVE_EVERY_S, (ended - began) / _SAVE_SHARE)


def not_entered(spec: TrialSpec, error: OSError) -> str:
    """Return the sentence on a finished trial whose leaf could not be moved to its place."""
    step = "The trial's files are kept: make the place free and writable, and rerun the same command"
    return f"could not enter {spec.leaf} into the run: {error}. {step}"


def _blocked_at(run_dir: Location, leaf: str) -> str:
    """Return what is in the place of a leaf or of a folder above it and is no folder; empty where nothing is."""
    if isinstance(run_dir, RemotePath):
        return ""
    parts = leaf.split("/")
    for name in ("/".join(parts[: depth + 1]) for depth in range(len(parts))):
        place = run_dir / name
        if place.is_symlink() and not place.is_dir():
            return f"{name} is a link to {place.readlink()}, where no folder can be reached"
        if place.exists() and not place.is_dir():
            return f"{name} is a file where a folder belongs"
    return ""


def _move(attempts: Path, number: int, target: Path) -> None:
    if target.exists():
        target.rename(attempts / f"replaced-{time.time_ns()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    (attempts / str(number) / LEAF).rename(target)


class _Listing:
    """The names in a run, to spare an object store one request per trial.

    Attributes:
        names: every file, and every folder with a file in it; None on a file system, where a look-up is cheap.
    """

    def __init__(self, run_dir: Location) -> None:
        self.names: set[str] | None = None
        if isinstance(run_dir, RemotePath):
            split = [name.split("/") for name in storage.files_below(run_dir)]
            self.names = {"/".join(parts[: depth + 1]) for parts in split for depth in range(len(parts))}

    def may_exist(self, name: str) -> bool:
        return self.names is None or name in self.names
