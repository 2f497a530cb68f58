"""A sweep on a cluster that is reached from outside, `ray://HOST:PORT`: the whole command runs on the cluster's head.

Ray's client can hand work to a cluster, but cannot drive Ray Tune with callbacks of ours. So an actor on the head runs
the same command there, and passes on what it prints. Paths of the experiment are those of the cluster.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import ray

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.runners.ray_session import answers
from fcdd_sweep.runners.stop_signal import StopSignal

_FAILED, _INTERRUPTED = 1, 130
_OF_THE_ACTOR = ("RAY_JOB_ID", "RAY_RAYLET_PID", "RAY_CLIENT_MODE", "RAY_LD_PRELOAD_ON_WORKERS")
"""Variables that a worker of Ray has, and a program of its own must not."""
_TRIES = 3
_GUIDE = "See docs/clusters.md"


def run_on_head(address: str, arguments: Sequence[str], files: dict[str, str], say: Callable[[str], None]) -> int:
    """Run a command of ours on a cluster's head, until it ends.

    Args:
        address: `ray://HOST:PORT`.
        arguments: of the command; the address is added.
        files: texts that lie in its working directory, by name.
        say: gets its output, line by line.
    Returns:
        Its exit code.
    Raises:
        InputError: nobody answers there, or the head cannot run the command.
    """
    stop = StopSignal()  # the command on the head says what happens
    _connect(address)
    try:
        head = _OnHead.remote(list(arguments), files)  # type: ignore[attr-defined]
        with stop.listening():
            return _listen(head, stop, say)
    except (ray.exceptions.RayError, ImportError) as error:
        what = f"the head of the cluster cannot run the sweep ({short_error(error, keep_end=True)})"
        step = f"Have the same fcdd_sweep on the head as here. {_GUIDE}"
        raise InputError(Problem("--address", what, "", step)) from error
    except ConnectionError as error:
        reason = short_error(error, keep_end=True)
        say(f"the connection to {address} is lost ({reason}); the same command goes on with what is missing")
        return _FAILED
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    try:
        answers(address.removeprefix("ray://"))
        _init(address)
    except (OSError, RuntimeError, ValueError) as error:
        what = f"no Ray cluster answers at {address!r} ({short_error(error, keep_end=True)})"
        raise InputError(Problem("--address", what, "ray://HOST:PORT of its head, port 10001", _GUIDE)) from error
    except ImportError as error:
        what = f"{address!r} needs Ray's client, which is not installed here ({short_error(error, keep_end=True)})"
        raise InputError(Problem("--address", what, "", "Install it: pip install 'ray[client]'")) from error


def _init(address: str) -> None:
    for tried in range(1, _TRIES + 1):
        try:
            ray.init(address, log_to_driver=False, logging_level="ERROR")
            return
        except ConnectionAbortedError:  # a busy head did not have our server ready in the half minute it waits for it
            if tried == _TRIES:
                raise


def _listen(head: ray.actor.ActorHandle, stop: StopSignal, say: Callable[[str], None]) -> int:
    told = False
    while (lines := ray.get(head.lines.remote())) is not None:
        for line in lines:
            say(line)
        if stop.asked and not told:
            head.stop.remote()
            told = True
    return int(ray.get(head.code.remote()))


@ray.remote(num_cpus=0, resources={"node:__internal_head__": 0.001}, max_restarts=0)
class _OnHead:
    """The command, in a process of its own that ends with this one."""

    def __init__(self, arguments: list[str], files: dict[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fcdd-sweep-")
        for name, text in files.items():
            (Path(self._folder.name) / name).write_text(text, encoding="utf-8")
        address = ray.get_runtime_context().gcs_address
        environment = {key: value for key, value in os.environ.items() if key not in _OF_THE_ACTOR}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fcdd_sweep", *arguments, "--address", address],
            cwd=self._folder.name,
            env=environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line.rstrip("\n"))

    def lines(self) -> list[str] | None:
        """What was printed since the last call, after a second at most; None when all is said."""
        self._reader.join(1.0)
        over = not self._reader.is_alive()
        found = [self._said.get() for _ in range(self._said.qsize())]
        return None if over and not found else found

    def stop(self) -> None:
        """As Ctrl-C does, which the processes of Ray's workers do not hear."""
        self._process.terminate()

    def code(self) -> int:
        """The exit code; of a command that was stopped before it could hear it, that of an interruption."""
        code = self._process.wait()
        if code >= 0:
            return code
        return _INTERRUPTED if code == -signal.SIGTERM else _FAILED
