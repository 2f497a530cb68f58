"""A Ray for the time of one sweep: scratch folder, environment, connection, and the end of all of them."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.runners.stop_signal import StopSignal, undisturbed

_PREFIX = "fcdd-ray-"
_LOCK = "held"
"""Locked as long as the folder's process lives, however it ends.

By `flock` and not by `filelock`: the file must be locked before it gets its name, or another process could find it
unlocked and remove the folder, and `filelock` opens files by name only."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a folder that is empty but for its lock, and remove it and what killed processes left.

    Its path is short because Ray puts sockets into it, whose paths are limited.
    """
    _remove_stale()
    scratch = Path(tempfile.mkdtemp(prefix=_PREFIX))
    made = scratch / "new"
    with made.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.rename(scratch / _LOCK)
        try:
            yield scratch
        finally:
            with undisturbed():
                shutil.rmtree(scratch, ignore_errors=True)


def _remove_stale() -> None:
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError), lock.open("rb") as file:  # another user's folder, or one in use
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
}
"""Send no statistics, change no directory, use no logger of Tune's, leave Ctrl-C to the sweep, and write snapshots
rarely, since they are never read."""
_TOKEN = secrets.token_hex(32)
"""Password of the sweep's Ray, kept out of the user's home folder. One per process: Ray's client keeps the first."""


@contextlib.contextmanager
def connected(address: str | None, stop: StopSignal) -> Iterator[Path]:
    """Connect to Ray, and yield a scratch folder for Tune on this machine; both end with the context.

    Args:
        address: `auto` or HOST:PORT of a cluster's head; None starts a Ray on this machine.
        stop: gets the signals that Ray would handle otherwise.
    Raises:
        InputError: no cluster answers at `address`.
    """
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _TOKEN} if address is None else {}
    with scratch_folder() as scratch, _environment({**_QUIET, **own}), _quiet("ray.tune", "ray.air"):
        import ray  # only now: it reads the environment when it is first imported

        try:
            if address is None:
                ray.init(
                    address="local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    _temp_dir=str(scratch),
                )
            else:
                _join(address)
            with stop.listening():  # Ray has just set its own handler
                yield scratch
        finally:
            with undisturbed():
                ray.shutdown()


def _join(address: str) -> None:
    import ray

    if address.startswith("ray://"):
        raise InputError(
            Problem(
                "--address",
                f"found {address!r}, but a sweep must run on a machine of the cluster",
                "auto, HOST:PORT",
                "Use the command line, which then runs on the head of the cluster, see docs/clusters.md",
            )
        )
    try:
        check_answers(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        reason = short_error(error)
        raise InputError(
            Problem(
                "--address",
                f"no Ray cluster answers at {address!r} ({reason})",
                "auto on a machine of the cluster, HOST:PORT of its head",
                "Start it with `ray up` or `ray start --head`, see docs/clusters.md",
            )
        ) from error


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
