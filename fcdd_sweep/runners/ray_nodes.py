"""The machines of a cluster: all are looked at before the first trial, and those that join later when they come."""

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

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results import files
from fcdd_sweep.results.storage import Location, remove_tree
from fcdd_sweep.runners.events import Monitor, Work
from fcdd_sweep.runners.node_check import (
    DATA_MOST_S,
    NodeRequirements,
    WithNodeCheck,
    cache_entries_of,
    data_key,
    problem_lines,
)
from fcdd_sweep.runners.ray_resources import Shares
from fcdd_sweep.runners.trial_data import fingerprint_of, versions

_MARKS = ".machines"
_NOTICED_S = 30.0
"""Ray calls a machine dead after 15 s without an answer."""
_PART_BYTES = 2**26
_LOOK_EVERY_S = 3.0
NOTHING_WORKS_S = 600.0
"""How long to wait for a machine that can run trials when those that are there cannot."""


class Machines:
    """The one machine of a Ray of our own, which is the driver's: there is nothing to look at.

    Attributes:
        others: whether a trial that cannot run on one machine may run on another.
        unfit: what is wrong with machines that cannot run trials, by Ray's ids of nodes.
    """

    others = False

    def __init__(self) -> None:
        self.unfit: dict[str, str] = {}

    def checking(self, work: Work) -> Work:
        """`work`, done on machines alone that are fit for it."""
        return work

    def newcomers(self) -> list[str]:
        """Sentences on machines that have joined."""
        return []

    def rule_out(self, node: str, words: str) -> list[str]:
        """No more trials for a machine; what is to be said, once."""
        known = node in self.unfit
        self.unfit.setdefault(node, words)
        return [] if known else [f"no trials for a machine that cannot run them: {words}"]

    def works(self) -> None:
        """A trial gave a sign of life."""

    def need_one(self) -> None:
        """Raises an InputError when no machine has run a trial for long, and those that are there cannot."""


class ClusterMachines(Machines):
    """Machines that come and go. Only those that have room for a trial count."""

    others = True

    def __init__(self, expected: NodeRequirements, specs: Sequence[TrialSpec], shares: Shares) -> None:
        super().__init__()
        self._expected, self._shares = expected, shares
        self._specs = tuple({data_key(spec): spec for spec in specs}.values())
        self._asked: dict[str, str] = {}
        self._open: dict[ray.ObjectRef, str] = {}
        self._looked = self._worked = time.monotonic()

    def checking(self, work: Work) -> Work:
        return WithNodeCheck(work, self._expected)

    def check_all(self) -> list[str]:
        """Ask every machine, all at once; data is decoded there, once, while we wait. Gives their names.

        Raises:
            InputError: what is wrong with which machine, all of it.
        """
        self._ask()
        problems = [
            problem for answer, node in self._open.items() for problem in self._answer(node, answer, _NOTICED_S)
        ]
        self._open.clear()
        if problems:
            raise InputError(problems)
        return sorted(self._asked.values())

    def newcomers(self) -> list[str]:
        if time.monotonic() - self._looked < _LOOK_EVERY_S:
            return []
        self._looked = time.monotonic()
        said = [f"a machine has joined: {host}" for host in self._ask()]
        ready, _ = ray.wait(list(self._open), num_returns=len(self._open), timeout=0) if self._open else ([], [])
        for answer in ready:
            node = self._open.pop(answer)
            if problems := self._answer(node, answer):
                said += self.rule_out(node, problem_lines(problems))
        return said

    def works(self) -> None:
        self._worked = time.monotonic()

    def need_one(self) -> None:
        if self.unfit and time.monotonic() - self._worked > NOTHING_WORKS_S:
            there = self._there()
            if unfit := [words for node, words in self.unfit.items() if node in there]:
                raise InputError(Problem("--address", f"no machine of the cluster runs trials: {'; '.join(unfit)}"))
            self.works()  # they are gone: others may come

    def _there(self) -> dict[str, str]:
        """Names of the machines that have room for trials, by Ray's ids of nodes."""
        return {
            node["NodeID"]: node["NodeManagerHostname"]
            for node in ray.nodes()
            if node["Alive"] and self._shares.may_run_on(node["Resources"])
        }

    def _ask(self) -> list[str]:
        """Ask the machines that were not asked yet; gives their names."""
        new = {node: host for node, host in self._there().items() if node not in self._asked}
        for node in new:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            asked = _look.options(num_cpus=0, scheduling_strategy=there).remote(self._expected, self._specs)
            self._open[asked] = node
        self._asked |= new
        return sorted(new.values())

    def _answer(self, node: str, answer: ray.ObjectRef, noticed_s: float = 0.0) -> list[Problem]:
        """What is wrong with a machine; nothing with one that is found dead within `noticed_s`."""
        try:
            problems: list[Problem] = ray.get(answer, timeout=DATA_MOST_S)
        except (ray.exceptions.RayError, TimeoutError) as error:
            if _gone(node, noticed_s):
                del self._asked[node]
                return []
            what = f"the machine did not answer ({short_error(error, keep_end=True)})"
            return [Problem(self._asked[node], what, "", "See docs/clusters.md")]
        return problems


def _gone(node: str, noticed_s: float) -> bool:
    """Whether a machine has died, which Ray may take a while to see."""
    until = time.monotonic() + noticed_s
    while any(each["NodeID"] == node and each["Alive"] for each in ray.nodes()):
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


@contextlib.contextmanager
def checked_machines(
    run_dir: Location, specs: Sequence[TrialSpec], shares: Shares, monitor: Monitor, *, clustered: bool
) -> Iterator[Machines]:
    """The machines that trials will run on, all of them looked at if they are those of a cluster.

    Raises:
        InputError: see `ClusterMachines.check_all`.
    """
    if not clustered:
        yield Machines()
        return
    mark = run_dir / _MARKS / secrets.token_hex(8)
    remove_tree(mark.parent)  # of a driver that was killed
    files.write_text(mark, "as long as this file is here, a driver works on the run\n")
    try:
        data = {data_key(spec): fingerprint_of(spec) for spec in specs}
        bring = FromDriver(ray.get_runtime_context().get_node_id())
        expected = NodeRequirements(versions(), mark, data, cache_entries_of(specs), bring)
        machines = ClusterMachines(expected, specs, shares)
        monitor.said("looking at the machines of the cluster: code, results' folder, data")
        monitor.said(f"machines: {', '.join(machines.check_all()) or 'none yet'}")
        yield machines
    finally:
        remove_tree(mark.parent)


@dataclass(frozen=True)
class FromDriver:
    """Files of the driver's machine, part by part through Ray: nothing is sent that no machine asks for.

    Attributes:
        node: Ray's id of the driver's machine.
    """

    node: str

    def __call__(self, path: Path, size: int) -> Iterator[bytes]:
        there = NodeAffinitySchedulingStrategy(self.node, soft=False)
        asked: deque[ray.ObjectRef] = deque()
        for start in range(0, size, _PART_BYTES):
            asked.append(_part.options(num_cpus=0, scheduling_strategy=there).remote(path, start))
            if len(asked) > 1:  # the next part is on its way while one is written
                yield ray.get(asked.popleft())
        while asked:
            yield ray.get(asked.popleft())


@ray.remote
def _part(path: Path, start: int) -> bytes:
    """Runs on the driver's machine."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(_PART_BYTES)


@ray.remote(max_retries=0)
def _look(expected: NodeRequirements, specs: tuple[TrialSpec, ...]) -> list[Problem]:
    """Runs on the machine that is asked."""
    return expected.problems_here(specs)
