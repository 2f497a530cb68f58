"""Finished trials that would not give their numbers again: their data has changed, or what a GPU draws has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.config.trial_spec import TrialSpec, device_numerics
from fcdd_sweep.report.trial_costs import numerics_of
from fcdd_sweep.sweep.ledger import Ledger


def changed_trials(
    specs: Sequence[TrialSpec], ledger: Ledger, fingerprint: Callable[[TrialSpec], str]
) -> dict[str, list[TrialSpec]]:
    """Return finished trials that would not give their numbers again, by a sentence that says why.

    Args:
        specs: the trials to look at.
        ledger: of their run.
        fingerprint: of the data that a trial reads now.
    """
    done = [spec for spec in specs if ledger.done(spec.trial_id)]
    other_data = [spec for spec in done if ledger.rows[spec.trial_id]["data_fingerprint"] != fingerprint(spec)]
    other_draws = [spec for spec in done if _has_other_draws(ledger.rows[spec.trial_id])]
    classes = ", ".join(sorted({spec.normal_class for spec in other_data}))
    used = count_noun(len(other_data), "finished trial")
    found = {
        f"the data of class {classes} has changed since {used} used it": other_data,
        f"{count_noun(len(other_draws), 'finished trial')} ran on a GPU with random draws of another version than this "
        f"program makes there ({device_numerics('cuda')}): new trials would not compare with them": other_draws,
    }
    return {why: changed for why, changed in found.items() if changed}


def kept_notes(found: Iterable[str]) -> list[str]:
    """Return sentences for the report where `changed_data` keeps such trials, from the reasons."""
    return [f"Results are kept although {why}." for why in found]


def _has_other_draws(row: Mapping[str, Any]) -> bool:
    """Return whether a GPU made a row of the index with other draws."""
    return numerics_of(row).startswith("cuda") and numerics_of(row) != device_numerics("cuda")
