"""A process that imports what trials need, once, and forks a worker from itself on each request.

It does nothing else, so it has one thread and no started library, and a fork of it is safe. Where it has more threads
after all, or on macOS, whose libraries do not survive a fork, workers are started as programs of their own. It ends
when the driver is gone, and so do the workers, after their trials have saved themselves.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fcdd_sweep.config.errors import RunnerLostError
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import leave_pandas_out
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import Work
from fcdd_sweep.runners.stop_signal import stop_signals
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.runners.trial_thread import WORKER_VARIABLES, EpochUpdate, TrialGroup

WorkerReport = tuple[list[TrialResult], dict[str, EpochUpdate]]
"""What a worker sends while it has trials: results, and the newest epochs of others by trial."""
WorkerMessage = list[dict[str, Any]] | tuple[str, ...]
"""What a worker is sent: trials to run together, as plain values, or the ids of running ones to save and end."""
REPORT_EVERY_S = 0.5
_PID_BYTES = 8
_NO_THREADS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Have numpy and pyarrow start no threads when they are imported. torch's own threads start with its first work."""


class Template:
    """The driver's side of the process."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        """Start it; `modules` are imported first, and nothing waits for that."""
        self._socket, theirs = socket.socketpair()
        code = _program("serve_workers", theirs.fileno(), list(modules))
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**WORKER_VARIABLES, **os.environ, **_NO_THREADS},
            start_new_session=True,  # signals of the terminal are the driver's
        )
        theirs.close()

    def start_worker(self) -> tuple[Connection, int]:
        """Return a connection to a new worker, and the id of its process.

        Raises:
            RunnerLostError: the process has died.
        """
        ours, theirs = socket.socketpair()
        with theirs, suppress(OSError):
            socket.send_fds(self._socket, [b"fork"], [theirs.fileno()])
        pid = b""
        with suppress(OSError):
            pid = self._socket.recv(_PID_BYTES, socket.MSG_WAITALL)
        if len(pid) < _PID_BYTES:
            raise RunnerLostError("the process that starts workers has died")
        return Connection(ours.detach()), int.from_bytes(pid, "big")

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Template:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _program(function: str, *arguments: Any) -> str:
    call = f"{function}({', '.join(map(repr, arguments))})"
    return f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import {function}; {call}"


def serve_workers(descriptor: int, modules: list[str]) -> None:
    """Import modules, then start a worker for each connection that comes in; the process's whole work."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers
    leave_pandas_out()
    for module in modules:
        with suppress(Exception):  # which the trials will meet, too, and report
            importlib.import_module(module)
    start: Callable[[int], int] = _fork if _may_fork() else _start_program
    with socket.socket(fileno=descriptor) as driver:
        while True:
            request, descriptors, _, _ = socket.recv_fds(driver, 4, 1)
            if not request:
                return
            pid = start(descriptors[0])
            if pid == 0:
                break
            os.close(descriptors[0])
            driver.sendall(pid.to_bytes(_PID_BYTES, "big"))
    work_on(descriptors[0])


def _may_fork() -> bool:
    try:
        return len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:  # no Linux
        return False


def _fork(_: int) -> int:
    return os.fork()


def _start_program(descriptor: int) -> int:
    code = _program("work_on", descriptor)
    return subprocess.Popen([sys.executable, "-c", code], pass_fds=[descriptor], stdin=subprocess.DEVNULL).pid


def work_on(descriptor: int) -> None:
    """Run the trials that come through a connection, pack after pack, until it is closed; a worker's whole work."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection = Connection(descriptor)
    with suppress(EOFError, OSError):  # the driver is gone
        *settings, gpu = connection.recv()
        if gpu is not None:  # the libraries of the GPU have not been asked yet
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        while True:
            message: WorkerMessage = connection.recv()
            if isinstance(message, list):  # else a trial was to stop that had just ended
                _run(connection, [TrialSpec.from_dict(plain) for plain in message], settings)
    os._exit(0)  # threads of a trial that hangs must not keep it


def _run(connection: Connection, specs: Sequence[TrialSpec], settings: tuple[Work, Location, float]) -> None:
    work, run_dir, stalled_after_s = settings
    terminating = threading.Event()
    for number in stop_signals():  # which are meant for this process: those of the terminal do not come here
        signal.signal(number, lambda *_: terminating.set())
    group = TrialGroup(work, specs, run_dir)
    while group.running:
        results, updates = group.wait(REPORT_EVERY_S)
        try:
            if terminating.is_set():
                group.ask_to_stop()
            while connection.poll():
                for trial_id in connection.recv():
                    group.ask_to_stop(trial_id)
            ended = [_judged(result, terminating) for result in results.values()] or group.hung(stalled_after_s)
            connection.send((ended, updates))
        except (EOFError, OSError):
            group.ask_to_stop()
            while group.running and not group.stalled(stalled_after_s):
                group.wait(REPORT_EVERY_S)
            raise


def _judged(result: TrialResult, terminating: threading.Event) -> TrialResult:
    if terminating.is_set() and result.status == TrialStatus.STOPPED:
        return replace(result, kind="preempted", error="its process was asked to stop")
    return result


def first_message(work: Work, run_dir: Location, stalled_after_s: float) -> tuple[Work, Location, float]:
    """Return the first message to a worker.

    Raises:
        ValueError: the work cannot be sent to another process.
    """
    settings = work, run_dir, stalled_after_s
    try:
        pickle.dumps(settings)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"work must be a function of a module, to be found by other processes: {error}") from error
    return settings
