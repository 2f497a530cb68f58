"""Trials on Ray Tune, which places them, gives them resources, and reports their epochs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fcdd_sweep.config.fields import seconds
from fcdd_sweep.config.schema import Faults, Resources
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import Monitor, Work
from fcdd_sweep.runners.queue import JobQueue, Trials, no_failure_limit
from fcdd_sweep.runners.ray_session import connected
from fcdd_sweep.runners.stop_signal import StopSignal

if TYPE_CHECKING:
    from ray import tune

    from fcdd_sweep.runners.ray_driver import JobSearcher, Listener
    from fcdd_sweep.runners.ray_resources import Shares
    from fcdd_sweep.runners.ray_worker import WorkerSettings


WAVE = 1000
"""Jobs that one Tuner is given."""
_PENDING, _MOST_PENDING = 32, 64
"""Jobs that wait for a machine, at least on a cluster, which grows by what waits, and at most."""
_TELLINGS_A_S = 50.0
"""Tellings that the driver hears in a second at most, all running trials together."""
_GRACE_S = 60.0
"""How long running trials have to save themselves when the sweep is to end."""


@dataclass(frozen=True)
class TuneRunner:
    """See `runners.events.Runner`.

    Attributes:
        resources: what a trial gets.
        faults: how often a trial that was lost is tried again, and when it counts as hung.
        address: of a Ray cluster; None for a Ray of our own on this machine.
        wave: jobs that one Tuner is given.
        failures_left: see `JobQueue`.
    """

    resources: Resources
    faults: Faults = field(default_factory=Faults)
    address: str | None = None
    wave: int = WAVE
    failures_left: Callable[[str], float] = no_failure_limit

    def __call__(self, trials: Trials, run_dir: Location, monitor: Monitor, work: Work, stop: StopSignal) -> None:
        """Raises:
        InputError: no machine has as many CPU cores as one trial asks for, or no GPU where one is asked for; machines
            of a cluster that cannot run trials, before the first, or later when no others are left.
        KeyboardInterrupt: trials took too long to save themselves; workers are gone by then.
        """
        queue = JobQueue(trials, self.faults.retries, failures_left=self.failures_left)
        examples = queue.source.examples
        with connected(self.address, stop) as scratch:
            from fcdd_sweep.runners.ray_driver import JobSearcher, Listener, Wave
            from fcdd_sweep.runners.ray_nodes import checked_machines
            from fcdd_sweep.runners.ray_resources import Shares
            from fcdd_sweep.runners.ray_worker import WorkerSettings

            clustered = self.address is not None
            threads = max(spec.settings.training.threads for spec in examples)
            shares = Shares.of_cluster(self.resources, threads, may_grow=clustered)
            queue.source.begin(shares.slots)
            least = _PENDING if clustered else 1
            os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(min(max(shares.slots, least), _MOST_PENDING))
            tell_every_s = max(1.0, shares.slots / _TELLINGS_A_S)
            still_after_s = seconds(self.faults.progress_timeout)
            silent_after_s = still_after_s + 10 * tell_every_s
            with checked_machines(run_dir, examples, shares, monitor, clustered=clustered) as machines:
                hide_gpus = clustered and not shares.trials_per_gpu
                orders = WorkerSettings(
                    run_dir, machines.checking(work), tell_every_s, still_after_s, hide_gpus=hide_gpus
                )
                while not queue.empty:
                    wave = Wave(queue, self.wave, machines)
                    listener = Listener(wave, monitor, stop, silent_after_s=silent_after_s, grace_s=_GRACE_S)
                    _tuner(orders, JobSearcher(wave, stop), listener, shares, scratch).fit()


def _tuner(orders: WorkerSettings, jobs: JobSearcher, listener: Listener, shares: Shares, scratch: Path) -> tune.Tuner:
    from ray import tune

    from fcdd_sweep.runners.ray_worker import Worker

    return tune.Tuner(
        tune.with_resources(
            tune.with_parameters(Worker, orders=orders),
            lambda config: shares.placement(config["room"], config["avoided"]),
        ),
        tune_config=tune.TuneConfig(
            search_alg=jobs,
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch / "tune"),
            verbose=0,
            log_to_file=False,
            callbacks=[listener],
        ),
    )
