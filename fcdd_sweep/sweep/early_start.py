"""What starts before the data is prepared, so that processes for trials import torch meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fcdd_sweep.config.locations import StorageError
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.planning.checks import this_machine
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import read_index
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import Report
from fcdd_sweep.runners.process_template import Template
from fcdd_sweep.runners.ray_start import EarlyWorkers
from fcdd_sweep.sweep.trial_device import runs_on_cpu

NEEDED = ("fcdd_sweep.sweep.trial",)
"""What a worker imports before its first trial."""


@dataclass(frozen=True)
class EarlyStart:
    """What has started before the trials are known exactly.

    Attributes:
        scratch: of a Ray that is connected, see `runners.ray_session.connected`; None without one.
        template: what starts processes of this machine; None without it.
        opened: ends them.
    """

    scratch: Path | None = None
    template: Template | None = None
    opened: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def close(self) -> None:
        """End what has started; may be called again."""
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
def early_start(
    experiment: Experiment, specs: Sequence[TrialSpec], report: Report, *, local: int
) -> Iterator[EarlyStart]:
    """Start what runs the trials, where there are any, and have it import what they need while entered.

    Args:
        experiment: what runs.
        specs: all trials of the run.
        report: see `runners.ray_session.connected`.
        local: how many processes of this machine run them without Ray; 0 stands for Ray.
    """
    missing = 0 if local == 1 else count_to_run(experiment.run_dir, specs)
    with contextlib.ExitStack() as opened:
        if not missing:
            yield EarlyStart()
        elif local:
            yield EarlyStart(template=opened.enter_context(Template(NEEDED)), opened=opened)
        else:
            from fcdd_sweep.runners.ray_session import connected

            workers = _early_workers(experiment, specs, missing)
            yield EarlyStart(scratch=opened.enter_context(connected(None, report, workers)), opened=opened)


def _early_workers(experiment: Experiment, specs: Sequence[TrialSpec], missing: int) -> EarlyWorkers:
    resources, number = experiment.resources, 0
    if runs_on_cpu(resources.device):  # trials on shares of a GPU get processes of their own
        cpus = max(spec.settings.training.threads for spec in specs) if resources.cpus == "auto" else resources.cpus
        number = min(missing, int(this_machine().cores // cpus))
    return EarlyWorkers(("fcdd_sweep.runners.ray_worker", *NEEDED), number)
