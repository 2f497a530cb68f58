"""A machine with other code than the driver's, as far as its environment says so: workers import this with the work."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.runners import node_check
from fcdd_sweep.runners.trial_data import versions
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.trial import run_trial
from fcdd_sweep.training.result import Observer

OTHER_CODE = "FCDD_TEST_OTHER_CODE"
"""Set on such a machine: the file that its first worker leaves."""

if OTHER_CODE in os.environ:
    node_check.versions = lambda: versions() | {"source": "another"}
    Path(os.environ[OTHER_CODE]).touch()


def trial_when_it_has_joined(spec: TrialSpec, run_dir: Path, observer: Observer) -> TrialResult:
    """The real thing, when the other machine has a worker, whose file is `joined` beside the run."""
    until = time.monotonic() + 60
    while not (run_dir.parent / "joined").exists() and time.monotonic() < until:
        time.sleep(0.1)
    return run_trial(spec, run_dir, observer)
