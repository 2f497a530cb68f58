"""A sweep on a cluster that is reached from outside, `ray://HOST:PORT`: the whole command runs on the cluster's head.

Ray's client can send work to a cluster, but cannot drive Ray Tune with our callbacks. So an actor on the head runs the
same command, and its output is printed here. Paths of the experiment are those of the head.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import ray

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.runners.events import Report
from fcdd_sweep.runners.ray_session import check_answers
from fcdd_sweep.runners.stop_signal import StopSignal

_FAILED, _HUNG_UP, _INTERRUPTED = 1, 129, 130
_ACTOR_VARIABLES = ("RAY_JOB_ID", "RAY_RAYLET_PID", "RAY_CLIENT_MODE", "RAY_LD_PRELOAD_ON_WORKERS")
"""Variables that Ray sets for its workers and that another program must not inherit."""
_MAX_TRIES = 3
_GUIDE = "See docs/clusters.md"


def run_on_head(address: str, arguments: Sequence[str], files: dict[str, str], print_line: Report) -> int:
    """Run a command on a cluster's head until it ends, and return its exit code.

    Args:
        address: `ray://HOST:PORT`.
        arguments: of the command; the address is added.
        files: texts to write into its working directory, by name.
        print_line: gets its output, line by line.
    Raises:
        InputError: no cluster answers at the address, or its head cannot run the command.
    """
    stop = StopSignal()  # the command on the head reports what happens
    _connect(address)
    try:
        head = _OnHead.remote(list(arguments), files)  # type: ignore[attr-defined]
        with stop.listening():
            return _print_output(head, stop, print_line)
    except (ray.exceptions.RayError, ImportError) as error:
        what = f"the head of the cluster cannot run the sweep ({short_error(error, keep_end=True)})"
        step = f"Install the same fcdd_sweep on the head as on this machine. {_GUIDE}"
        raise InputError(Problem("--address", what, "", step)) from error
    except ConnectionError as error:
        reason = short_error(error, keep_end=True)
        print_line(f"lost the connection to {address} ({reason}); rerun the same command to continue")
        return _FAILED
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    try:
        check_answers(address.removeprefix("ray://"))
        _init(address)
    except (OSError, RuntimeError, ValueError) as error:
        what = f"no Ray cluster answers at {address!r} ({short_error(error, keep_end=True)})"
        raise InputError(Problem("--address", what, "ray://HOST:PORT of its head, port 10001", _GUIDE)) from error
    except ImportError as error:
        what = f"{address!r} needs Ray's client, which is not installed ({short_error(error, keep_end=True)})"
        raise InputError(Problem("--address", what, "", "Install it: pip install 'ray[client]'")) from error


def _init(address: str) -> None:
    for tries in range(1, _MAX_TRIES + 1):
        try:
            ray.init(address, log_to_driver=False, logging_level="ERROR")
            return
        except ConnectionAbortedError:  # a busy head did not start our server within its limit of 30 s
            if tries == _MAX_TRIES:
                raise


def _print_output(head: ray.actor.ActorHandle, stop: StopSignal, print_line: Report) -> int:
    """Print the lines of the command on the head until it ends, and return its exit code."""
    stopped = False
    while (lines := ray.get(head.lines.remote())) is not None:
        if stop.asked and not stopped:
            head.stop.remote()
            stopped = True
        with contextlib.suppress(OSError):  # the terminal is gone
            for line in lines:
                print_line(line)
    code = int(ray.get(head.code.remote()))
    return _HUNG_UP if stop.hung_up and code == _INTERRUPTED else code


@ray.remote(num_cpus=0, resources={"node:__internal_head__": 0.001}, max_restarts=0)
class _OnHead:
    """An actor that runs the command in a separate process, which ends with the actor."""

    def __init__(self, arguments: list[str], files: dict[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fcdd-sweep-")
        for name, text in files.items():
            (Path(self._folder.name) / name).write_text(text, encoding="utf-8")
        address = ray.get_runtime_context().gcs_address
        environment = {key: value for key, value in os.environ.items() if key not in _ACTOR_VARIABLES}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fcdd_sweep", *arguments, "--address", address],
            cwd=self._folder.name,
            env=environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._printed: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._printed.put(line.rstrip("\n"))

    def lines(self) -> list[str] | None:
        """Return what was printed since the last call, within a second; None when the output has ended."""
        self._reader.join(1.0)
        over = not self._reader.is_alive()
        found = [self._printed.get() for _ in range(self._printed.qsize())]
        return None if over and not found else found

    def stop(self) -> None:
        """Stop the command as Ctrl-C does, which does not reach processes of Ray's workers."""
        self._process.terminate()

    def code(self) -> int:
        """Return the exit code; 130 when the command was stopped before it handled signals."""
        code = self._process.wait()
        if code >= 0:
            return code
        return _INTERRUPTED if code == -signal.SIGTERM else _FAILED
