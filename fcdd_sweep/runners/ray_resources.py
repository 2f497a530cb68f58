"""What of a machine a trial takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Resources


@dataclass(frozen=True)
class Shares:
    """What of a machine a trial takes. Where trials run on GPUs, machines without one run none of them.

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
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        waits = may_grow and not machines
        on_gpus = resources.device == "cuda"
        if resources.device == "auto":
            on_gpus = any(machine.get("GPU") for machine in machines)
            if waits:
                raise InputError(_UNDECIDED)
        if on_gpus and not waits:
            machines = [machine for machine in machines if machine.get("GPU")]
            if not machines:
                raise InputError(Problem("resources.device", "found 'cuda', but Ray sees no GPU here", "auto, cpu"))
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
        per_gpu = resources.trials_per_gpu if on_gpus else 0
        slots = sum(_slots(machine, cpus, per_gpu) for machine in machines)
        return cls(cpus, max(most, cpus), per_gpu, max(1, slots))

    def may_run_on(self, machine: Mapping[str, float]) -> bool:
        """Whether a machine with these resources has room for a trial."""
        return _slots(machine, self.cpus, self.trials_per_gpu) > 0

    def for_room(self, room: int) -> dict[str, float]:
        """Resources of a job with `room` shares. Of a GPU a share is 1/k: other fractions make Ray miscount."""
        if self.trials_per_gpu:
            return {"CPU": self.cpus, "GPU": 1 / max(1, self.trials_per_gpu // room)}
        return {"CPU": min(self.cpus * room, self.most_cpus)}

    def placement(self, room: int, avoided: tuple[str, ...]) -> tune.PlacementGroupFactory:
        """Where a job with `room` shares may run: on any machine but those that are avoided, by Ray's ids of nodes."""
        others = {"bundle_label_selector": [{"ray.io/node-id": f"!in({','.join(avoided)})"}]} if avoided else {}
        return tune.PlacementGroupFactory([self.for_room(room)], **others)


_UNDECIDED = Problem(
    "resources.device",
    "found 'auto', but no machine of the cluster is there yet that could tell",
    "cuda, cpu",
    "Say what the machines that will join are to use",
)


def _slots(machine: Mapping[str, float], cpus: float, per_gpu: int) -> int:
    """How many trials a machine runs at once."""
    by_cpus = int(machine.get("CPU", 0.0) // cpus)
    return min(by_cpus, int(machine.get("GPU", 0.0) * per_gpu)) if per_gpu else by_cpus


def _largest(machines: list[dict[str, Any]]) -> str:
    return "this machine" if len(machines) == 1 else "the largest machine"
