"""Every attempt of a run that ended without a result, with its traceback: `failures.parquet`. The driver writes it."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

import pyarrow as pa

from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.results import files, schemas, tree
from fcdd_sweep.results.place import Place, is_file
from fcdd_sweep.sweep.failures import POLICIES
from fcdd_sweep.sweep.trial import TrialResult, key_of

_MOST_CHARACTERS = 20_000
"""Of a traceback; its end says most."""


class FailureLog:
    """Failures are few: the file is written again with each one."""

    def __init__(self, run_dir: Place) -> None:
        self._path = run_dir / tree.FAILURES
        self._rows: list[dict[str, Any]] = []
        if is_file(self._path):
            try:
                self._rows = files.read_table(self._path).select(schemas.FAILURES.names).to_pylist()
            except (pa.ArrowException, KeyError):  # a damaged log must not stop a sweep; it is begun anew
                pass

    def counts(self) -> Counter[str]:
        """How many attempts failed over all starts, by trial id; those that a machine gave back do not count."""
        counted = {kind for kind, policy in POLICIES.items() if policy.counts}
        return Counter(row["trial_id"] for row in self._rows if row["kind"] in counted)

    def add(self, spec: TrialSpec, result: TrialResult, decision: str) -> None:
        """Keep a failed attempt, and what was decided about its trial."""
        self._rows.append(
            {
                **key_of(spec),
                "attempt": result.attempt,
                "kind": result.kind or "error",
                "error": result.error,
                "traceback": result.traceback[-_MOST_CHARACTERS:],
                "decision": decision,
                "host": result.host,
                "ended": dt.datetime.now(dt.UTC),
            }
        )
        files.write_rows(self._path, self._rows, schemas.FAILURES)
