"""Sentences on the checkpoints that trials continue from, by the names of the files alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results.attempts import CHECKPOINTS, list_attempts
from fcdd_sweep.results.storage import Location, children
from fcdd_sweep.results.tree import RunPaths

CHECKPOINT_NAME = re.compile(r"epoch-(\d+)-step-(\d+)-([0-9a-f]{12})\.pt")
"""Epoch, step, and the digest of the content."""
_MOST_MOMENTS = 4
"""Moments that `resume_notes` tells apart."""


def resume_notes(run_dir: Location, specs: Sequence[TrialSpec]) -> list[str]:
    """Return a sentence on the trials that have checkpoints of earlier attempts, and from where they continue.

    The files are not read: one that turns out to be damaged, or of other data, is skipped by its trial.
    """
    begun = set(children(RunPaths(run_dir).attempts))
    furthest = [_furthest(run_dir, spec.trial_id) for spec in specs if spec.trial_id in begun]
    moments = Counter(moment for moment in furthest if moment is not None)
    if not moments:
        return []
    from fcdd_sweep.training.state import moment_of  # imports torch, which a start without trials does not need

    shown = [f"{count} {moment_of(*moment)}" for moment, count in sorted(moments.items())[:_MOST_MOMENTS]]
    if len(moments) > _MOST_MOMENTS:
        rest = sum(count for _, count in sorted(moments.items())[_MOST_MOMENTS:])
        shown.append(f"{rest} later, up to {moment_of(*max(moments)).removeprefix('after ')}")
    trials, resume = count_noun(moments.total(), "trial"), "resumes" if moments.total() == 1 else "resume"
    return [f"{trials} of {len(specs)} {resume} from checkpoints: {', '.join(shown)}"]


def _furthest(run_dir: Location, trial_id: str) -> tuple[int, int] | None:
    """Return epoch and step of the furthest checkpoint of a trial by the names of the files; None without one."""
    folders = (folder / CHECKPOINTS for _, folder in list_attempts(run_dir, trial_id))
    names = (CHECKPOINT_NAME.fullmatch(name) for folder in folders for name in children(folder))
    return max(((int(name[1]), int(name[2])) for name in names if name), default=None)
