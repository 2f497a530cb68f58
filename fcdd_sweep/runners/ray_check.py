"""Whether Ray starts here and answers, tried in a process of its own, since a Ray that hangs cannot be stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

_PROGRAM = "from fcdd_sweep.runners.ray_check import start_and_ask; start_and_ask()"
_ANSWER = "Ray answers"
_LAST_CHARACTERS = 300


def start_and_ask() -> None:
    """Start Ray as a sweep does, run one task, end it, and print that it answered."""
    from fcdd_sweep.runners.ray_session import connected

    with connected(None, print):
        import ray

        there = ray.get(ray.remote(num_cpus=1)(lambda: os.getpid()).remote())
        assert there != os.getpid()
    print(_ANSWER)


def ray_problem(limit_s: float) -> tuple[str, float]:
    """Return why Ray does not work here, an empty text where it does, and the seconds that the check took.

    Args:
        limit_s: seconds after which a Ray that has not answered is ended.
    """
    began = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that Ray's own processes end with it
    )
    try:
        printed, _ = child.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return f"it did not answer within {limit_s:g} s", time.monotonic() - began
    if child.returncode == 0 and _ANSWER in printed:
        return "", time.monotonic() - began
    last = " ".join(printed.split())[-_LAST_CHARACTERS:]
    return f"it ended with code {child.returncode}: {last or 'nothing was printed'}", time.monotonic() - began
