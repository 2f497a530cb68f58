"""The machines of a cluster: all are checked before the first trial, and later ones when they join."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.planning.gpu_memory import card_memory
from fcdd_sweep.results import files
from fcdd_sweep.results.storage import Location, remove_tree
from fcdd_sweep.runners.events import Report, Work
from fcdd_sweep.runners.node_check import MAX_DATA_S, NodeRequirements, WithNodeCheck, problems_text, transferable_data
from fcdd_sweep.runners.ray_resources import TrialResources
from fcdd_sweep.runners.trial_data import data_key, fingerprint_of, versions

_MARKS_DIR = ".machines"
_DEATH_NOTICED_S = 30.0
"""Ray declares a machine dead after 15 s without an answer."""
_CHUNK_BYTES = 2**26
_CARDS_S = 60.0
_LIST_EVERY_S = 3.0
NO_USABLE_NODE_S = 600.0
"""How long to wait for a machine that can run trials when the present ones cannot."""


class Nodes:
    """The single machine of a Ray that the sweep started itself: it is the driver's, and needs no check.

    Attributes:
        has_others: whether a trial that cannot run on one machine may run on another.
        unfit: what is wrong with machines that cannot run trials, by Ray's node ids.
    """

    has_others = False

    def __init__(self) -> None:
        self.unfit: dict[str, str] = {}

    def with_check(self, work: Work) -> Work:
        """Return `work` in a form that machines refuse when they are unfit for it."""
        return work

    def check_new(self) -> list[str]:
        """Return messages on machines that have joined."""
        return []

    def rule_out(self, node: str, reason: str) -> list[str]:
        """Give a machine no further trials; return what to report, nothing if it was ruled out before."""
        known = node in self.unfit
        self.unfit.setdefault(node, reason)
        return [] if known else [f"a machine cannot run trials and gets none: {reason}"]

    def trial_alive(self) -> None:
        """Note that a trial gave a sign of life."""

    def require_usable(self) -> None:
        """Raise an InputError when for long no machine has run a trial, and the present ones cannot."""


class ClusterNodes(Nodes):
    """Machines that join and leave. Only machines with the resources for a trial count."""

    has_others = True

    def __init__(self, required: NodeRequirements, specs: Sequence[TrialSpec], resources: TrialResources) -> None:
        super().__init__()
        self._required, self._resources = required, resources
        self._specs = tuple({data_key(spec): spec for spec in specs}.values())
        self._hosts: dict[str, str] = {}
        self._checks: dict[ray.ObjectRef, str] = {}
        self._listed = self._last_alive = time.monotonic()

    def with_check(self, work: Work) -> Work:
        return WithNodeCheck(work, self._required)

    def check_all(self) -> list[str]:
        """Check all machines at once and return their names; each decodes its data meanwhile.

        Raises:
            InputError: all problems of all machines.
        """
        self._start_checks()
        problems = [
            problem for check, node in self._checks.items() for problem in self._problems(node, check, _DEATH_NOTICED_S)
        ]
        self._checks.clear()
        if problems:
            raise InputError(problems)
        return sorted(self._hosts.values())

    def check_new(self) -> list[str]:
        if time.monotonic() - self._listed < _LIST_EVERY_S:
            return []
        self._listed = time.monotonic()
        messages = [f"a machine has joined: {host}" for host in self._start_checks()]
        ended, _ = ray.wait(list(self._checks), num_returns=len(self._checks), timeout=0) if self._checks else ([], [])
        for check in ended:
            node = self._checks.pop(check)
            if problems := self._problems(node, check):
                messages += self.rule_out(node, problems_text(problems))
        return messages

    def trial_alive(self) -> None:
        self._last_alive = time.monotonic()

    def require_usable(self) -> None:
        if self.unfit and time.monotonic() - self._last_alive > NO_USABLE_NODE_S:
            present = self._present()
            if reasons := [reason for node, reason in self.unfit.items() if node in present]:
                raise InputError(Problem("--address", f"no machine of the cluster runs trials: {'; '.join(reasons)}"))
            self.trial_alive()  # the unfit machines have left: wait for others

    def _present(self) -> dict[str, str]:
        """Return names of the machines with resources for trials, by Ray's node ids."""
        return {
            node["NodeID"]: node["NodeManagerHostname"]
            for node in ray.nodes()
            if node["Alive"] and self._resources.fit_on(node["Resources"])
        }

    def _start_checks(self) -> list[str]:
        """Start checks on the machines that have had none, and return their names."""
        new = {node: host for node, host in self._present().items() if node not in self._hosts}
        for node in new:
            on_node = NodeAffinitySchedulingStrategy(node, soft=False)
            check = _check_node.options(num_cpus=0, scheduling_strategy=on_node).remote(self._required, self._specs)
            self._checks[check] = node
        self._hosts |= new
        return sorted(new.values())

    def _problems(self, node: str, check: ray.ObjectRef, noticed_s: float = 0.0) -> list[Problem]:
        """Return what a check found; nothing for a machine that turns out dead within `noticed_s`."""
        try:
            problems: list[Problem] = ray.get(check, timeout=MAX_DATA_S)
        except (ray.exceptions.RayError, TimeoutError) as error:
            if _has_died(node, noticed_s):
                del self._hosts[node]
                return []
            what = f"the machine did not answer ({' '.join(str(error).split())[-300:]})"
            return [Problem(self._hosts[node], what, "", "See docs/clusters.md")]
        return problems


def card_memory_of_nodes() -> float | None:
    """Return the memory in MiB of the smallest GPU of all machines; None without one, or where one is unknown."""
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    asked = [
        _card_memory.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
        for node in nodes
    ]
    try:
        found = ray.get(asked, timeout=_CARDS_S)
    except (ray.exceptions.RayError, TimeoutError):
        return None
    return None if None in found else min(found, default=None)


def _has_died(node: str, noticed_s: float) -> bool:
    """Return whether a machine has died; Ray may take up to `noticed_s` to notice."""
    until = time.monotonic() + noticed_s
    while any(each["NodeID"] == node and each["Alive"] for each in ray.nodes()):
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


@contextlib.contextmanager
def checked_nodes(
    run_dir: Location, specs: Sequence[TrialSpec], resources: TrialResources, report: Report, *, on_cluster: bool
) -> Iterator[Nodes]:
    """Yield the machines that trials will run on; those of a cluster are checked first.

    Raises:
        InputError: see `ClusterNodes.check_all`.
    """
    if not on_cluster:
        yield Nodes()
        return
    mark = run_dir / _MARKS_DIR / secrets.token_hex(8)
    remove_tree(mark.parent)  # of a driver that was killed
    files.write_text(mark, "a driver works on this run as long as this file exists\n")
    try:
        fingerprints = {data_key(spec): fingerprint_of(spec) for spec in specs}
        read = DriverFileReader(ray.get_runtime_context().get_node_id())
        required = NodeRequirements(versions(), mark, fingerprints, transferable_data(specs), read)
        nodes = ClusterNodes(required, specs, resources)
        report("checking the machines of the cluster: code, run directory, data")
        report(f"machines: {', '.join(nodes.check_all()) or 'none yet'}")
        yield nodes
    finally:
        remove_tree(mark.parent)


@dataclass(frozen=True)
class DriverFileReader:
    """A `FileReader` through Ray, chunk by chunk: nothing is sent that no machine asks for.

    Attributes:
        node: Ray's id of the driver's machine.
    """

    node: str

    def __call__(self, path: Path, size: int) -> Iterator[bytes]:
        on_driver = NodeAffinitySchedulingStrategy(self.node, soft=False)
        requested: deque[ray.ObjectRef] = deque()
        for start in range(0, size, _CHUNK_BYTES):
            requested.append(_read_chunk.options(num_cpus=0, scheduling_strategy=on_driver).remote(path, start))
            if len(requested) > 1:  # the next chunk travels while one is written
                yield ray.get(requested.popleft())
        while requested:
            yield ray.get(requested.popleft())


@ray.remote
def _read_chunk(path: Path, start: int) -> bytes:
    """Run on the driver's machine."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(_CHUNK_BYTES)


@ray.remote
def _card_memory() -> float | None:
    """Run on the machine whose cards are asked for."""
    return card_memory()


@ray.remote(max_retries=0)
def _check_node(required: NodeRequirements, specs: tuple[TrialSpec, ...]) -> list[Problem]:
    """Run on the machine that is checked."""
    return required.problems_here(specs)
