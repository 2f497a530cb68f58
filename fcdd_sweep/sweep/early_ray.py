"""A Ray on this machine that starts before the data is prepared, so that workers import torch meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcdd_sweep.config.locations import StorageError
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.planning.checks import this_machine
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import read_index
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import Report
from fcdd_sweep.sweep.trial_device import runs_on_cpu

_NEEDED = ("fcdd_sweep.runners.ray_worker", "fcdd_sweep.sweep.trial")
"""What a worker imports before its first trial."""


@dataclass(frozen=True)
class EarlyRay:
    """A Ray that is connected.

    Attributes:
        scratch: see `runners.ray_session.connected`.
        opened: ends it.
    """

    scratch: Path
    opened: contextlib.ExitStack

    def close(self) -> None:
        """End Ray, once."""
        self.opened.close()


def count_to_run(run_dir: Location, specs: Sequence[TrialSpec]) -> int:
    """Return how many trials the index does not list as done: a guess, since the ledger looks at the leaves, too."""
    try:
        rows = read_index(run_dir)
    except StorageError:
        raise
    except (OSError, ValueError):  # it will be rebuilt
        return len(specs)
    done = {trial_id for trial_id, row in rows.items() if row["status"] == TrialStatus.DONE}
    return sum(spec.trial_id not in done for spec in specs)


@contextlib.contextmanager
def early_ray(experiment: Experiment, specs: Sequence[TrialSpec], report: Report) -> Iterator[EarlyRay | None]:
    """Start Ray where there are trials to run, and have its workers begin to import; yield None where there are none.

    Args:
        experiment: what runs.
        specs: all trials of the run.
        report: see `runners.ray_session.connected`.
    """
    missing = count_to_run(experiment.run_dir, specs)
    if not missing:
        yield None
        return
    from fcdd_sweep.runners.ray_session import connected
    from fcdd_sweep.runners.ray_start import EarlyWorkers

    resources, count = experiment.resources, 0
    if runs_on_cpu(resources.device):  # trials on shares of a GPU get processes of their own
        cpus = max(spec.settings.training.threads for spec in specs) if resources.cpus == "auto" else resources.cpus
        count = min(missing, int(this_machine().cores // cpus))
    with contextlib.ExitStack() as opened:
        scratch = opened.enter_context(connected(None, report, EarlyWorkers(_NEEDED, count)))
        yield EarlyRay(scratch, opened)
