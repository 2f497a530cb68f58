"""A Ray cluster of several machines, all of them on this one, a driver on it, and the killing of each. Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fcdd_sweep.runners import ray_session
from tests.faults.schedule import Kill

MACHINES = 2
_TITLES = (b"ray::Worker", b"ray::ResourceTrainable")
"""What Ray calls a process that runs trials, between two calls and within one."""


def waited_for(what: Callable[[], Any], most_s: float, words: str) -> Any:
    """The first true thing that `what` gives."""
    until = time.monotonic() + most_s
    while not (found := what()):
        assert time.monotonic() < until, f"waited {most_s:g} s for {words}"
        time.sleep(0.1)
    return found


class Site:
    """A head that runs no trials, machines of one core each that do, and a driver.

    Attributes:
        address: of the cluster.
        outputs: what the drivers said, one after the other.
        made: the kills so far, as text.
    """

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.address = self._cluster.address
        self.machines = [self._cluster.add_node(num_cpus=1) for _ in range(MACHINES)]
        self.made: list[str] = []
        self._folder, self._arguments = folder, arguments
        self._drivers: list[subprocess.Popen[bytes]] = []
        self._lost: list[Any] = []

    @property
    def outputs(self) -> list[str]:
        return [path.read_text() for path in sorted(self._folder.glob("driver-*.txt"))]

    @property
    def driver(self) -> subprocess.Popen[bytes]:
        return self._drivers[-1]

    def start_driver(self) -> None:
        """The same command every time."""
        command = [sys.executable, "-m", "fcdd_sweep", *self._arguments, "--address", self.address]
        with (self._folder / f"driver-{len(self._drivers):03}.txt").open("wb") as output:
            self._drivers.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))

    def workers(self) -> list[int]:
        """Processes that run trials, on machines that are part of the cluster."""
        return sorted(pid for machine in self.machines for pid in _children(_raylet(machine)) if _is_worker(pid))

    def kill(self, kill: Kill) -> None:
        """Make a kill, and bring a new machine or the same command again where that was killed."""
        getattr(self, f"_kill_{kill.victim}")(kill.which)
        self.made.append(kill.victim)

    def _kill_worker(self, which: int) -> None:
        workers = waited_for(lambda: self.workers() or self.driver.poll() is not None, 300, "a worker")
        assert workers is not True, "the sweep ended before the kill"
        with contextlib.suppress(ProcessLookupError):
            os.kill(workers[which % len(workers)], signal.SIGKILL)

    def _kill_machine(self, which: int) -> None:
        machine = self.machines.pop(which % len(self.machines))
        self._cluster.remove_node(machine, allow_graceful=False)
        self.machines.append(self._cluster.add_node(num_cpus=1))

    def _kill_raylet(self, which: int) -> None:
        machine = self.machines.pop(which % len(self.machines))
        os.kill(_raylet(machine), signal.SIGKILL)
        self._lost.append(machine)
        self.machines.append(self._cluster.add_node(num_cpus=1, wait=False))

    def _kill_driver(self, which: int) -> None:
        self.driver.kill()
        self.driver.wait()
        self.start_driver()

    def close(self) -> None:
        if self._drivers:
            self.driver.kill()
            self.driver.wait()
        for machine in self._lost:
            self._cluster.worker_nodes.discard(machine)
            machine.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        self._cluster.shutdown()


@contextlib.contextmanager
def site(folder: Path, arguments: Sequence[str], setenv: Callable[[str, str], None]) -> Iterator[Site]:
    """See `Site`. `setenv` sets variables of this process, which machines and drivers are given."""
    setenv("RAY_AUTH_MODE", "token")
    setenv("RAY_AUTH_TOKEN", ray_session._TOKEN)  # a process keeps to its first one
    folder.mkdir(parents=True, exist_ok=True)
    made = Site(folder, arguments)
    try:
        yield made
    finally:
        made.close()


def _raylet(machine: Any) -> int:
    return int(machine.all_processes["raylet"][0].process.pid)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(_TITLES)
    return False
