"""Whether two runs hold the same: every table and array of every leaf but for when, where and which attempt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fcdd_sweep.results import files, tree
from fcdd_sweep.results.storage import Location, children, files_below, local_copy
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.sweep.ledger import Ledger

MAY_DIFFER = frozenset(
    {"attempt", "failures", "started", "finished", "published_at", "host"}
    | {"wall_time_s", "train_time_s", "test_time_s", "images_per_second"}
)
TABLES = (tree.METRICS, tree.HISTORY, tree.SCORES, tree.CURVES, tree.DEFECTS)


def rows_of(place: Location) -> list[dict[str, Any]]:
    table = files.read_table(place)
    return table.drop_columns([name for name in table.column_names if name in MAY_DIFFER]).to_pylist()


def leaves(run: Location) -> list[str]:
    """Every whole leaf, whether planned or not."""
    below = [name for name in files_below(run) if name.endswith(f"/{tree.METRICS}")]
    return sorted(name.removesuffix(f"/{tree.METRICS}") for name in below if not name.startswith(tree.ATTEMPTS))


def assert_whole(run: Location, specs: Any) -> None:
    """Every planned trial is done, once; nothing else is there, and another start would find nothing to do."""
    planned = {row["trial_id"]: row["leaf"] for row in files.read_table(RunPaths(run).plan).to_pylist()}
    index = files.read_table(RunPaths(run).index).to_pylist()
    assert len(index) == len(planned) and {row["trial_id"]: row["leaf"] for row in index} == planned
    assert {row["status"] for row in index} == {"done"}
    assert leaves(run) == sorted(planned.values())
    trials = files.read_table(RunPaths(run).trials).to_pylist()
    assert sorted(row["trial_id"] for row in trials) == sorted(planned)
    assert {row["status"] for row in trials} == {"done"}
    ledger = Ledger(run)
    ledger.reconcile(specs)  # takes away what a lost worker left behind
    assert ledger.repaired == [] and children(RunPaths(run).attempts) == []


def assert_same(run: Location, undisturbed: Path) -> None:
    """Bit for bit."""
    assert leaves(run) == leaves(undisturbed)
    for leaf in leaves(undisturbed):
        for name in TABLES:
            assert rows_of(run / leaf / name) == rows_of(undisturbed / leaf / name), f"{leaf}/{name}"
        assert_same_arrays(TrialPaths(run / leaf).maps, TrialPaths(undisturbed / leaf).maps)
    found, expected = (sorted(rows_of(RunPaths(each).trials), key=repr) for each in (run, undisturbed))
    assert found == expected


def assert_same_arrays(place: Location, undisturbed: Path) -> None:
    with local_copy(place) as local:
        found, expected = files.read_arrays(local), files.read_arrays(undisturbed)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=f"{place}: {name}")
