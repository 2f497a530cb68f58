"""Finished trials of a run that its plan does not hold: which settings they had, and how to report them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fcdd_sweep.config.layers import dotted_values, split_key, value_at_key
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.config.text import count_noun, value_text
from fcdd_sweep.config.trial_spec import TrialSpec, identity
from fcdd_sweep.report.run_files import UNREADABLE, index_or_problem
from fcdd_sweep.results import tree
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import TableRow, read_spec
from fcdd_sweep.results.storage import Location, check_reachable

_MOST_COMPARED = 100
"""Planned configs that are compared with the earlier settings; the nearest one is named."""
_MOST_NAMED = 3
"""Keys that are named."""


def unplanned_in_run(run_dir: Location, specs: Sequence[TrialSpec]) -> list[str]:
    """Return `unplanned_notes` of a run that no driver has opened; nothing where there is no run.

    Raises:
        InputError: the store cannot be used.
    """
    check_reachable(run_dir)
    return unplanned_notes(run_dir, specs, index_or_problem(run_dir, []))


def unplanned_notes(run_dir: Location, specs: Sequence[TrialSpec], index: Mapping[str, TableRow]) -> list[str]:
    """Return sentences on finished trials that the plan does not hold.

    Args:
        run_dir: the run.
        specs: the planned trials.
        index: rows of `index.parquet` by trial id.
    """
    planned = {spec.trial_id for spec in specs}
    rows = [row for key, row in index.items() if row["status"] == TrialStatus.DONE and key not in planned]
    if not rows:
        return []
    trials, are = count_noun(len(rows), "finished trial"), "is" if len(rows) == 1 else "are"
    had, step = _difference(run_dir, specs, rows[-1])
    return [
        f"{trials} of earlier settings{had} {are} not in the plan: kept in the run, left out of its report and of "
        f"{tree.TRIALS}. To report them again, rerun with the earlier settings{step}; to keep both runs apart, start "
        "this one under another name: --set name=NAME"
    ]


def _difference(run_dir: Location, specs: Sequence[TrialSpec], row: TableRow) -> tuple[str, str]:
    """Return what distinguishes an earlier trial from the plan, and the overrides that bring it back, as texts."""
    try:
        earlier = read_spec(run_dir / row["leaf"])
    except UNREADABLE:
        return "", ""
    configs = {spec.config_id: spec.settings for spec in specs}
    if earlier.config_id in configs:
        return f" (class {earlier.normal_class}, seed {earlier.seed})", ""
    compared = [list(_differing(earlier.settings, settings)) for settings in list(configs.values())[:_MOST_COMPARED]]
    keys = min(compared, key=len, default=[])
    if not keys:
        return "", ""
    plain = earlier.settings.model_dump(mode="json")
    texts = [f"{key}={_written(value_at_key(plain, split_key(key)))}" for key in keys]
    if len(texts) > _MOST_NAMED:
        return f" ({', '.join(texts[:_MOST_NAMED])} and {len(texts) - _MOST_NAMED} more)", ""
    return f" ({', '.join(texts)})", f": {' '.join(f'--set {shlex.quote(text)}' for text in texts)}"


def _written(value: Any) -> str:
    """Return a value as it is written after `KEY=`."""
    return value if isinstance(value, str) else value_text(value)


def _differing(first: Settings, second: Settings) -> Iterator[str]:
    """Yield the dotted keys in which two settings differ, of those that make another trial."""
    ours, theirs = (dict(dotted_values(identity(settings))) for settings in (first, second))
    for key in {**ours, **theirs}:
        if ours.get(key) != theirs.get(key):
            yield key
