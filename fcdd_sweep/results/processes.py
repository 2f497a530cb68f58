"""Whether a process that has written its name into a run still lives; known for processes of this machine only."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """Return the values by which `has_ended` recognizes this process: host, pid, process namespace and start."""
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "processes": _pid_namespace(),
        "started": _state_and_start(os.getpid())[1],
    }


def has_ended(process: Mapping[str, Any]) -> bool:
    """Return whether a process of this machine has ended; False also where that cannot be known from here.

    Args:
        process: from `this_process`; keys may be missing.
    """
    here, pid = (platform.node(), _pid_namespace()), process.get("pid")
    if (process.get("host"), process.get("processes")) != here or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    state, start = _state_and_start(pid)
    return state == "Z" or (bool(start and process.get("started")) and start != process["started"])


def _pid_namespace() -> str:
    """Return a text that is equal where process ids mean the same: each container of a host has its own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _state_and_start(pid: int) -> tuple[str, str]:
    """Return a process's state, Z for one that has ended, and its start in clock ticks; empty texts without /proc.

    The start tells a process from a later one with the same id.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", ""
    fields = stat.rpartition(")")[2].split()  # after the program's name, which may hold anything
    return fields[0], fields[19]
