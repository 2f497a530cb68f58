"""A folder of this process for Ray and Tune; what killed processes left of theirs on this machine goes away."""

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
_HELD = "held"
"""Locked as long as the folder's process lives, however it ends."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder but for its lock; short, since Ray puts sockets into it."""
    _remove_left_behind()
    scratch = Path(tempfile.mkdtemp(prefix=_PREFIX))
    made = scratch / "new"
    with made.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        made.rename(scratch / _HELD)  # nobody finds it unlocked
        try:
            yield scratch
        finally:
            with undisturbed():
                shutil.rmtree(scratch, ignore_errors=True)


def _remove_left_behind() -> None:
    for held in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_HELD}"):
        with contextlib.suppress(OSError), held.open("rb") as file:  # another user's, or one in use: neither is ours
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(held.parent, ignore_errors=True)


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
"""No statistics sent, no folder changed, no logger of Tune's, Ctrl-C ours; snapshots that nobody reads are rare."""
_TOKEN = secrets.token_hex(32)
"""Password of our own Ray, kept out of the user's home folder. One a process: Ray's client remembers the first."""


@contextlib.contextmanager
def connected(address: str | None, stop: StopSignal) -> Iterator[Path]:
    """Ray, and a scratch folder for Tune on this machine; both are let go at the end.

    Args:
        address: `auto` or HOST:PORT of a cluster's head; None for a Ray of our own, which ends with us.
        stop: hears the signals that Ray would take for itself.
    Raises:
        InputError: no cluster answers there.
    """
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _TOKEN} if address is None else {}
    with scratch_folder() as scratch, _environment({**_QUIET, **own}), _quiet("ray.tune", "ray.air"):
        import ray

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
            with stop.listening():  # Ray has just set a handler of its own
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
                f"found {address!r}, but a sweep is driven from a machine of the cluster: only the commands go there",
                "auto, HOST:PORT",
                "Use the command line, which runs on the cluster's head then, see docs/clusters.md",
            )
        )
    try:
        answers(address)
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


def answers(address: str) -> None:
    """Ray itself would wait for minutes for a head that is not there."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        with socket.create_connection((host, int(port)), timeout=10.0):
            pass


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """What Ray would log of a lost worker, the monitor and the ledger tell."""
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
    """Sets variables; afterwards all of the environment is as before, whatever Ray added to it."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
