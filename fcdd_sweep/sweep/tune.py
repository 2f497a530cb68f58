"""Trials on Ray Tune, which places them, gives them resources, and hears their epochs.

Every start gets fresh Tuners with what is missing, wave after wave, since Tune's own bookkeeping grows with the number
of its trials: Tune is not the memory of the sweep. What follows a failure, our own queue decides.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcdd_sweep.config.durations import seconds
from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Faults, Resources
from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.results.place import Place
from fcdd_sweep.sweep.monitor import Monitor, Work
from fcdd_sweep.sweep.queue import JobQueue
from fcdd_sweep.sweep.stopping import Stop
from fcdd_sweep.sweep.tune_cluster import connected

WAVE = 1000
"""Jobs that one Tuner is given."""
_TELLINGS_A_S = 50.0
"""Tellings that the driver hears in a second at most, all running trials together."""
_WAITING = 64
"""Trials that wait for room, at most."""
_WAITING_FOR_MACHINES = 32
"""Trials that wait on a cluster, at least: from them Ray sees how many machines it should start."""
_GRACE_S = 60.0
"""How long running trials have to save themselves when the sweep is to end."""


@dataclass(frozen=True)
class TuneRunner:
    """See `sweep.monitor.Runner`.

    Attributes:
        resources: what a trial gets.
        faults: how often a trial that was lost is tried again, and when it counts as hung.
        address: of a Ray cluster; None for a Ray of our own on this machine.
        wave: jobs that one Tuner is given.
    """

    resources: Resources
    faults: Faults = field(default_factory=Faults)
    address: str | None = None
    wave: int = WAVE

    def __call__(self, specs: Sequence[TrialSpec], run_dir: Place, monitor: Monitor, work: Work, stop: Stop) -> None:
        """Raises:
        InputError: no machine has as many CPU cores as one trial asks for, or no GPU where one is asked for.
        KeyboardInterrupt: trials took too long to save themselves; workers are gone by then.
        """
        with connected(self.address, stop) as scratch:
            if self.address is not None:
                from fcdd_sweep.sweep.tune_nodes import check_machines

                monitor.said("looking at the machines of the cluster: code, results' folder, data")
                monitor.said(f"machines: {', '.join(check_machines(run_dir, specs)) or 'none yet'}")
            threads = max(spec.settings.training.threads for spec in specs)
            shares = Shares.of_cluster(self.resources, threads, may_grow=self.address is not None)
            queue = JobQueue(specs, self.faults.retries)
            while not queue.empty:
                self._run_wave(queue, tuple(specs), run_dir, monitor, work, stop, scratch, shares)

    def _run_wave(
        self,
        queue: JobQueue,
        specs: tuple[TrialSpec, ...],
        run_dir: Place,
        monitor: Monitor,
        work: Work,
        stop: Stop,
        scratch: Path,
        shares: Shares,
    ) -> None:
        from ray import tune

        from fcdd_sweep.sweep.tune_driver import Listener, NextJob, Wave
        from fcdd_sweep.sweep.tune_worker import Orders, Worker

        tell_every_s = max(1.0, shares.slots / _TELLINGS_A_S)
        still_after_s = seconds(self.faults.progress_timeout)
        orders = Orders(specs, run_dir, work, tell_every_s, still_after_s)
        wave = Wave(queue, specs, self.wave)
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self._waiting(shares.slots))
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(Worker, orders=orders),
                lambda config: tune.PlacementGroupFactory([shares.for_room(config["room"])]),
            ),
            tune_config=tune.TuneConfig(
                search_alg=NextJob(wave, stop),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(scratch / "tune"),
                verbose=0,
                log_to_file=False,
                callbacks=[
                    Listener(wave, monitor, stop, silent_after_s=still_after_s + 10 * tell_every_s, grace_s=_GRACE_S)
                ],
            ),
        )
        tuner.fit()

    def _waiting(self, slots: int) -> int:
        """Trials that wait for room beside those that run."""
        return min(_WAITING, slots if self.address is None else max(slots, _WAITING_FOR_MACHINES))


@dataclass(frozen=True)
class Shares:
    """What of a machine a trial takes.

    Attributes:
        cpus: CPU cores.
        most_cpus: cores of the largest machine.
        trials_per_gpu: how many trials share a GPU; 0 where trials run on CPUs.
        slots: trials that run at once, all machines together.
    """

    cpus: float
    most_cpus: float
    trials_per_gpu: int
    slots: int

    @classmethod
    def of_cluster(cls, resources: Resources, threads: int, *, may_grow: bool = False) -> Shares:
        """The shares of what Ray sees. Cores are as many as threads unless the user says more.

        Args:
            may_grow: machines may join; then nothing that is missing is an error as long as no machine runs trials.
        Raises:
            InputError: a trial would wait for ever.
        """
        import ray

        machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        waits = may_grow and not machines
        most = max((machine["CPU"] for machine in machines), default=0.0)
        cpus = float(threads if resources.cpus == "auto" else resources.cpus)
        if cpus > most and not waits:
            raise InputError(
                Problem(
                    "resources.cpus",
                    f"a trial asks for {cpus:g} CPU cores, {_largest(machines)} has {most:g}",
                    f"at most {most:g}",
                    "Lower resources.cpus, or training.threads when it is 'auto'",
                )
            )
        gpus = sum(machine.get("GPU", 0.0) for machine in machines)
        if resources.device == "cuda" and not gpus and not waits:
            raise InputError(Problem("resources.device", "found 'cuda', but Ray sees no GPU here", "auto, cpu"))
        slots = max(1, sum(int(machine["CPU"] // cpus) for machine in machines))
        if resources.device == "cuda" or (gpus and resources.device == "auto"):
            on_gpus = int(gpus * resources.trials_per_gpu) or slots
            return cls(cpus, max(most, cpus), resources.trials_per_gpu, min(slots, on_gpus))
        return cls(cpus, max(most, cpus), 0, slots)

    def for_room(self, room: int) -> dict[str, float]:
        """Resources of a job with `room` shares. Of a GPU a share is 1/k: other fractions make Ray miscount."""
        if self.trials_per_gpu:
            return {"CPU": self.cpus, "GPU": 1 / max(1, self.trials_per_gpu // room)}
        return {"CPU": min(self.cpus * room, self.most_cpus)}


def _largest(machines: list[dict[str, Any]]) -> str:
    return "this machine" if len(machines) == 1 else "the largest machine"
