"""The resources of a machine that a trial takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ray
from ray import tune

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Resources


@dataclass(frozen=True)
class TrialResources:
    """The resources that a trial takes. Where trials run on GPUs, machines without a GPU run none of them.

    Attributes:
        cpus: CPU cores.
        max_cpus: cores of the largest machine.
        trials_per_gpu: how many trials share a GPU; 0 where trials run on CPUs.
        slots: trials that run at once on all machines together.
    """

    cpus: float
    max_cpus: float
    trials_per_gpu: int
    slots: int

    @classmethod
    def of_cluster(
        cls, resources: Resources, threads: int, sharing: Callable[[], int] = lambda: 1, *, may_grow: bool = False
    ) -> TrialResources:
        """Return a trial's resources on the machines that Ray lists now.

        Args:
            resources: what the experiment asks for; `cpus: auto` means as many cores as threads.
            threads: of a trial.
            sharing: returns what `trials_per_gpu: auto` means on GPUs.
            may_grow: machines may join later, so that missing resources are no error until a machine can run trials.
        Raises:
            InputError: a trial would wait forever.
        """
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        wait = may_grow and not nodes
        if resources.device == "auto" and wait:
            raise InputError(_UNDECIDED)
        on_gpus = resources.device == "cuda" or (resources.device == "auto" and any(node.get("GPU") for node in nodes))
        if on_gpus and not wait:
            nodes = [node for node in nodes if node.get("GPU")]
            if not nodes:
                raise InputError(Problem("resources.device", "found 'cuda', but Ray finds no GPU", "auto, cpu"))
        most = max((node["CPU"] for node in nodes), default=0.0)
        cpus = float(threads if resources.cpus == "auto" else resources.cpus)
        if cpus > most and not wait:
            raise InputError(_too_many_cpus(cpus, most, len(nodes)))
        asked = resources.trials_per_gpu
        per_gpu = (sharing() if asked == "auto" else asked) if on_gpus else 0
        slots = sum(_slots(node, cpus, per_gpu) for node in nodes)
        return cls(cpus, max(most, cpus), per_gpu, max(1, slots))

    @property
    def device_text(self) -> str:
        """A sentence on the device that trials run on, for where `auto` has chosen it."""
        if not self.trials_per_gpu:
            return "trials run on CPUs: Ray finds no GPU"
        return f"trials run on GPUs, {self.trials_per_gpu} at once on each"

    def fit_on(self, node: Mapping[str, float]) -> bool:
        """Return whether a machine with these resources can run a trial."""
        return _slots(node, self.cpus, self.trials_per_gpu) > 0

    def for_shares(self, shares: int) -> dict[str, float]:
        """Return the resources of a job with `shares` times the usual ones.

        A share of a GPU is 1/k for a whole number k: Ray miscounts other fractions.
        """
        if self.trials_per_gpu:
            return {"CPU": self.cpus, "GPU": 1 / max(1, self.trials_per_gpu // shares)}
        return {"CPU": min(self.cpus * shares, self.max_cpus)}

    def placement(self, shares: int, avoided: tuple[str, ...]) -> tune.PlacementGroupFactory:
        """Return where a job with `shares` may run: on any machine but the avoided ones, given by Ray's node ids."""
        selector = {"bundle_label_selector": [{"ray.io/node-id": f"!in({','.join(avoided)})"}]} if avoided else {}
        return tune.PlacementGroupFactory([self.for_shares(shares)], **selector)


_UNDECIDED = Problem(
    "resources.device",
    "found 'auto', but the cluster has no machine yet that can run trials",
    "cuda, cpu",
    "Set the device of the machines that will join",
)


def _too_many_cpus(cpus: float, most: float, n_nodes: int) -> Problem:
    largest = "this machine" if n_nodes == 1 else "the largest machine"
    return Problem(
        "resources.cpus",
        f"a trial asks for {cpus:g} CPU cores, {largest} has {most:g}",
        f"at most {most:g}",
        "Lower resources.cpus, or training.threads when it is 'auto'",
    )


def _slots(node: Mapping[str, float], cpus: float, per_gpu: int) -> int:
    """Return how many trials a machine runs at once."""
    by_cpus = int(node.get("CPU", 0.0) // cpus)
    return min(by_cpus, int(node.get("GPU", 0.0) * per_gpu)) if per_gpu else by_cpus
