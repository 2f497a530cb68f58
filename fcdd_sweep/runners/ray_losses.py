"""Losses that Ray Tune does not handle: workers that are lost in other ways than it knows, and Ray's process here."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError

from fcdd_sweep.config.errors import RunnerLostError


@contextlib.contextmanager
def all_losses_known() -> Iterator[None]:
    """While entered, let Tune take any error of Ray for the loss of the trial's worker, which ends one attempt.

    Tune's actor manager knows errors of actors and of tasks. Any other ends the whole sweep by a RuntimeError: for
    instance the OutOfMemoryError of a worker that Ray's memory monitor has killed.
    """
    original = RayActorManager._actor_task_failed

    def failed(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=str(exception))
        original(manager, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = failed
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = original


@contextlib.contextmanager
def watched_raylet() -> Iterator[Callable[[], None]]:
    """Yield a function that raises a RunnerLostError when the raylet of this machine has died.

    The raylet is Ray's own process on a machine. Without it no worker lives or starts here, and Ray Tune waits for
    minutes. Where the system cannot watch a process, the function does nothing.
    """
    pid = _raylet_pid()
    try:
        watched = os.pidfd_open(pid)
    except (OSError, AttributeError):  # a raylet in another container, or another system than Linux
        yield lambda: None
        return
    poll = select.poll()
    poll.register(watched, select.POLLIN)

    def require_raylet() -> None:
        if poll.poll(0):
            raise RunnerLostError(
                f"Ray's process on this machine (raylet, process {pid}) has died, with all workers here"
            )

    try:
        yield require_raylet
    finally:
        os.close(watched)


def _raylet_pid() -> int:
    """Return the process id of this machine's raylet; 0 when it is unknown."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(ray._private.worker.global_worker.node.raylet_socket_name)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except (OSError, AttributeError):
        return 0
    pid, _, _ = struct.unpack("3i", credentials)
    return int(pid)
