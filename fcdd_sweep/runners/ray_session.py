"""A Ray for the time of one sweep: scratch folder, environment, connection, and the end of all of them."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.runners.events import Report
from fcdd_sweep.runners.ray_start import NO_EARLY_WORKERS, EarlyWorkers, few_processes
from fcdd_sweep.runners.stop_signal import children_without_hangups, undisturbed
from fcdd_sweep.runners.trial_thread import WORKER_VARIABLES

_PREFIX = "fcdd-ray-"
_FALLBACKS = ("/tmp", "/var/tmp")
_MAX_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Longest path of a Unix socket."""


def _max_parent_bytes() -> int:
    """Return the length of the longest folder in which Ray's socket with the longest path finds room."""
    below = f"/{_PREFIX}12345678/session_2026-01-31_23-59-59_123456_{os.getpid()}/sockets/plasma_store"
    return _MAX_SOCKET_BYTES - len(below)


def _unfit_for_sockets(folder: str) -> str:
    """Return why Ray cannot put its sockets below a folder; an empty text when it can."""
    path = os.fsencode(folder)
    if not path.isascii():
        return "its path has characters other than ASCII"
    if len(path) > (most := _max_parent_bytes()):
        return f"its path has {len(path)} bytes, and sockets leave room for {most}"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written to"


def parent_for_sockets() -> tuple[Path, str]:
    """Return a folder in which a scratch folder for Ray's sockets can be made, and why it is not `TMPDIR`, if so.

    Raises:
        InputError: there is none.
    """
    usual = tempfile.gettempdir()
    reason = _unfit_for_sockets(usual)
    # a login's own folder comes last: it may go away when the user logs out, although the sweep goes on
    for folder in (usual, *_FALLBACKS, os.environ.get("XDG_RUNTIME_DIR", "")):
        if folder and not _unfit_for_sockets(folder):
            return Path(folder), reason
    raise InputError(
        Problem(
            "TMPDIR",
            f"Ray cannot put its sockets into {usual} ({reason}), and no other temporary folder can be used",
            f"a folder whose path has ASCII characters only, at most {_max_parent_bytes()}",
            "Set TMPDIR to one, or run without Ray: --local",
        )
    )


_LOCK = "held"
"""Locked as long as the folder's process lives, however it ends.

By `flock` and not by `filelock`: the file must be locked before it gets its name, or another process could find it
unlocked and remove the folder, and `filelock` opens files by name only."""


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in `parent`, the user's alone and empty but for its lock.

    It is removed at the end, and what killed processes left at the beginning.
    """
    _remove_stale(parent)
    scratch = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    made = scratch / "new"
    with made.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.rename(scratch / _LOCK)
        try:
            yield scratch
        finally:
            with undisturbed():
                shutil.rmtree(scratch, ignore_errors=True)


def _remove_stale(parent: Path) -> None:
    for lock in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError):  # one in use
            if lock.parent.lstat().st_uid != os.getuid():
                continue  # another user's
            with lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)


_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "600",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "RAY_enable_metrics_collection": "0",
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    "RAY_worker_niceness": "0",
}
"""Send no statistics, change no directory, use no logger of Tune's, leave Ctrl-C to the sweep, and write snapshots
rarely, since they are never read. Keep workers that started early: Ray ends idle ones as soon as Tune reserves their
cores, just before it would use them. Trials have the priority that the sweep was started with, as with `--local`, not
Ray's 15, with which they starve beside any other program: `nice` in front of the command is the user's choice."""
_TOKEN = secrets.token_hex(32)
"""Password of the sweep's Ray, kept out of the user's home folder. One per process: Ray's client keeps the first."""

_first_import: set[str] = set()
"""Has `ours` where Ray was first imported here for a Ray with our password: it keeps to what it read then."""


def _password(report: Report) -> dict[str, str]:
    """Return the environment that gives our Ray a password; none where Ray was imported before without it."""
    if "ray" not in sys.modules:
        _first_import.add("ours")
    if _first_import:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _TOKEN}
    if os.environ.get("RAY_AUTH_MODE") != "token":
        report("Ray was imported before the sweep began, so the sweep's Ray has no password")
    return {}


@contextlib.contextmanager
def connected(address: str | None, report: Report, early: EarlyWorkers = NO_EARLY_WORKERS) -> Iterator[Path]:
    """Connect to Ray, and yield a scratch folder for Tune on this machine; both end with the context.

    From here on Ray handles signals, until `StopSignal.listening` is entered.

    Args:
        address: `auto` or HOST:PORT of a cluster's head; None starts a Ray on this machine.
        early: workers that a Ray on this machine starts at once.
        report: gets a sentence when the scratch folder is not in `TMPDIR`.
    Raises:
        InputError: no cluster answers at `address`, or no folder has room for Ray's sockets.
    """
    own = _password(report) if address is None else {}
    # the sockets of a cluster are elsewhere
    parent, reason = parent_for_sockets() if address is None else (Path(tempfile.gettempdir()), "")
    if reason:
        report(f"Ray's temporary files go to {parent} instead of {tempfile.gettempdir()}: {reason}")
    with (
        scratch_folder(parent) as scratch,
        _environment({**WORKER_VARIABLES, **os.environ, **_QUIET, **own}),
        _quiet("ray.tune", "ray.air", "ray.widgets"),
    ):
        import ray  # only now: it reads the environment when it is first imported

        try:
            if address is None:
                with children_without_hangups(), few_processes(early.number):
                    ray.init(
                        address="local",
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level="ERROR",
                        _temp_dir=str(scratch),
                        _system_config={"preload_python_modules": list(early.modules)} if early.modules else None,
                    )
            else:
                _join(address)
            yield scratch
        finally:
            with undisturbed():
                ray.shutdown()


def check_address(address: str) -> None:
    """Check what can be known of a cluster's address without Ray: its form, and that something answers there.

    Raises:
        InputError: no cluster can be reached at the address.
    """
    if address.startswith("ray://"):
        raise InputError(
            Problem(
                "--address",
                f"found {address!r}, but a sweep must run on a machine of the cluster",
                "auto, HOST:PORT",
                "Use the command line, which then runs on the head of the cluster, see docs/clusters.md",
            )
        )
    if address != "auto" and not address.rpartition(":")[2].isdigit():
        raise _no_cluster(address, "it has no port")
    try:
        check_answers(address)
    except OSError as error:
        raise _no_cluster(address, short_error(error)) from error


def _join(address: str) -> None:
    import ray

    check_address(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise _no_cluster(address, short_error(error)) from error


def _no_cluster(address: str, reason: str) -> InputError:
    return InputError(
        Problem(
            "--address",
            f"no Ray cluster answers at {address!r} ({reason})",
            "auto on a machine of the cluster, HOST:PORT of its head",
            "Start it with `ray up` or `ray start --head`, see docs/clusters.md",
        )
    )


def check_answers(address: str) -> None:
    """Raise an OSError when nothing listens at HOST:PORT; Ray would wait for minutes for a missing head."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        with socket.create_connection((host, int(port)), timeout=10.0):
            pass


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Silence loggers: what Ray would log of a lost worker, the display and the ledger report."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables, then restore the whole environment, whatever Ray added to it."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
