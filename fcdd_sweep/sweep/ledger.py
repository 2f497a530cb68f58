"""The memory of a sweep: which trials are done or failed, and where their files lie. The driver alone writes it.

Truth lies in the leaves: a leaf with `metrics.parquet` is a finished trial. `index.parquet` finds it by its id, and
keeps what a leaf cannot tell, the failures. A lost or damaged index is made again from the leaves.
"""

from __future__ import annotations

import datetime as dt
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.results import files, schemas, tree
from fcdd_sweep.sweep.trial import TrialResult, key_of

_SAVE_EVERY_S = 2.0
"""The index is written at most this often: what it lacks after a crash is found in the leaves."""


class Ledger:
    """What is known of a run's trials.

    Attributes:
        run_dir: the run.
        rows: rows of `index.parquet` by trial id.
        repaired: sentences on what was mended when the ledger was opened.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.rows: dict[str, dict[str, Any]] = {}
        self.repaired: list[str] = []
        self._saved = 0.0
        self._read()

    def _read(self) -> None:
        path = self.run_dir / tree.INDEX
        if not path.exists():
            return
        try:
            table = files.read_table(path).select(schemas.INDEX.names)
            self.rows = {row["trial_id"]: row for row in table.to_pylist()}
        except (pa.ArrowException, OSError, KeyError) as error:
            self.repaired.append(f"{path} could not be read ({error}); it is made again from the leaves")

    def done(self, trial_id: str) -> bool:
        return self.rows.get(trial_id, {}).get("status") == "done"

    def failures(self, trial_id: str) -> int:
        return int(self.rows.get(trial_id, {}).get("failures", 0))

    def reconcile(self, specs: Iterable[TrialSpec]) -> None:
        """Make the rows agree with the files: take in what an earlier driver left, drop what is no longer there."""
        for spec in specs:
            row = self.rows.get(spec.trial_id)
            if row and row["status"] == "done" and self._whole(self.run_dir / row["leaf"], spec.trial_id):
                continue
            if row and row["status"] == "done":
                self.repaired.append(f"{row['leaf']} is gone or not whole: its trial counts as missing")
                del self.rows[spec.trial_id]
            self._adopt(spec)
        self.save()

    def _adopt(self, spec: TrialSpec) -> None:
        """Take in a finished leaf that the index does not know: published, or left in an attempt."""
        for leaf in (spec.leaf, self._elsewhere(spec)):
            if facts := self._whole(self.run_dir / leaf, spec.trial_id):
                self._enter(spec, leaf, facts["attempt"], facts["data_fingerprint"])
                return
        attempts = tree.attempts_of(self.run_dir, spec.trial_id)
        for attempt in sorted(attempts.glob("[0-9]*"), key=lambda path: int(path.name)):
            if facts := self._whole(attempt / "leaf", spec.trial_id):
                result = TrialResult(
                    spec.trial_id, "done", int(attempt.name), "", facts["image_auroc"], facts["data_fingerprint"]
                )
                self.publish(spec, result)
                return

    def _whole(self, leaf: Path, trial_id: str) -> dict[str, Any] | None:
        """The leaf's row of figures if it is a whole leaf of this trial."""
        try:
            rows = files.read_table(leaf / tree.METRICS).to_pylist()
        except (pa.ArrowException, OSError):
            return None
        return rows[0] if rows and rows[0]["trial_id"] == trial_id else None

    def _elsewhere(self, spec: TrialSpec) -> str:
        """Where a trial goes whose place another config's trial holds: the file was edited between two runs."""
        *_, normal, seed = spec.leaf.split("/")
        return f"config-{spec.config_id}/{normal}/{seed}"

    def _place(self, spec: TrialSpec) -> str:
        wanted = self.run_dir / spec.leaf
        free = not wanted.exists() or self._whole(wanted, spec.trial_id) or not (wanted / tree.METRICS).exists()
        return spec.leaf if free else self._elsewhere(spec)

    def publish(self, spec: TrialSpec, result: TrialResult) -> None:
        """Move a finished attempt's leaf to its place in the tree and enter it; then its attempts may go."""
        attempts = tree.attempts_of(self.run_dir, spec.trial_id)
        place = self._place(spec)
        target = self.run_dir / place
        if target.exists():
            target.rename(attempts / f"replaced-{time.time_ns()}")
        target.parent.mkdir(parents=True, exist_ok=True)
        (attempts / str(result.attempt) / "leaf").rename(target)
        self._enter(spec, place, result.attempt, result.data_fingerprint)
        shutil.rmtree(attempts, ignore_errors=True)
        self._save_soon()

    def _enter(self, spec: TrialSpec, leaf: str, attempt: int, fingerprint: str) -> None:
        self.rows[spec.trial_id] = {
            **key_of(spec),
            "status": "done",
            "leaf": leaf,
            "attempt": attempt,
            "failures": self.failures(spec.trial_id),
            "error": "",
            "data_fingerprint": fingerprint,
            "published": dt.datetime.now(dt.UTC),
        }

    def fail(self, spec: TrialSpec, result: TrialResult) -> None:
        """Enter a failed attempt; its traceback stays in the attempt's folder."""
        self.rows[spec.trial_id] = {
            **key_of(spec),
            "status": "failed",
            "leaf": "",
            "attempt": result.attempt,
            "failures": self.failures(spec.trial_id) + 1,
            "error": result.error,
            "data_fingerprint": "",
            "published": dt.datetime.now(dt.UTC),
        }
        self._save_soon()

    def forget(self, trial_id: str) -> None:
        """Count a finished trial as missing, so that it runs again; its files stay until the new ones are whole."""
        leaf = self.run_dir / self.rows.pop(trial_id)["leaf"]
        (leaf / tree.METRICS).unlink(missing_ok=True)

    def _save_soon(self) -> None:
        if time.monotonic() - self._saved > _SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        self._saved = time.monotonic()
        files.write_rows(self.run_dir / tree.INDEX, list(self.rows.values()), schemas.INDEX)
