"""One driver a run.

On a file system a lock on `RUN/.lock` does it; the system lifts it when its holder dies. An object store has no locks,
and pyarrow cannot write "only if nobody else has": there a driver keeps a lease, the object `RUN/.lease.json`, which it
renews every `RENEW_S` and which counts as left behind `EXPIRE_S` after its last renewal, both by the store's own clock.

What a lease does not protect: of two drivers that start within `SETTLE_S` of one another the one that wrote last
goes on, and the other sees that and refuses; but a driver that was held up for longer than that between seeing no lease
and writing its own, or that slept past its expiry, may work beside another until its next renewal, at most `RENEW_S`.
It then stops and writes no more. Until then both publish whole leaves of the same trials, and the next start makes the
index agree with them, so that what can suffer is work done twice, not figures.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import logging
import os
import platform
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.locations import RemotePath
from fcdd_sweep.results import storage
from fcdd_sweep.results.storage import Location

LOCK, LEASE = ".lock", ".lease.json"
RENEW_S, EXPIRE_S, SETTLE_S = 15.0, 60.0, 1.0
logger = logging.getLogger("fcdd_sweep.storage")


@contextmanager
def lease(run_dir: Location) -> Iterator[Held]:
    """Keep every other driver out of a run; gives what tells whether it still is ours.

    Raises:
        InputError: another driver is there (named by host, process and since when); the place cannot be written. At the
            end: another driver took the run over; work in progress was interrupted as by Ctrl-C when this was seen.
    """
    with _lock(run_dir) if isinstance(run_dir, Path) else _leased(run_dir) as held:
        yield held


class Held:
    """A run that is ours.

    Attributes:
        taken_by: the holder that took it over; None while it is ours. A lock cannot be taken over.
    """

    taken_by: dict[str, Any] | None = None

    @property
    def lost(self) -> bool:
        return self.taken_by is not None


@contextmanager
def _lock(run_dir: Path) -> Iterator[Held]:
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = (run_dir / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise _unwritable(run_dir, error.strerror or str(error)) from error
    with file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refused(run_dir, _read_holder(file), "Wait for it") from None
        except OSError as error:
            raise _unwritable(run_dir, f"files cannot be locked there: {error.strerror}") from error
        _write_holder(file, _holder())
        try:
            yield Held()
        finally:
            file.truncate(0)


def _write_holder(file: IO[str], holder: dict[str, Any]) -> None:
    file.truncate(0)
    file.write(json.dumps(holder))
    file.flush()


def _read_holder(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    return _understood(file.read())


def _understood(text: str | bytes) -> dict[str, Any]:
    """What a holder wrote of itself; empty when it cannot be read."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}


def _holder() -> dict[str, Any]:
    """This process, as others see it."""
    return {
        "token": secrets.token_hex(8),
        "host": platform.node(),
        "pid": os.getpid(),
        "processes": _process_space(),
        "since": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }


def _process_space() -> str:
    """Process numbers mean the same where this text is the same: containers of one host count for themselves."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _refused(run_dir: Location, holder: dict[str, Any], step: str) -> InputError:
    named = ("host", "pid", "since")
    who = " (host {}, process {}, since {})".format(*map(holder.get, named)) if holder.keys() >= set(named) else ""
    return InputError(
        Problem(
            str(run_dir),
            f"another sweep is writing there{who}",
            "one sweep a run at a time",
            f"{step}, or give this one another name or --output",
        )
    )


def _unwritable(run_dir: Location, reason: str) -> InputError:
    return InputError(
        Problem(str(run_dir), f"results cannot be written there ({reason})", "", "Choose another --output")
    )


@contextmanager
def _leased(run_dir: RemotePath) -> Iterator[Held]:
    storage.check_reachable(run_dir)
    held = _Lease(run_dir)
    try:
        held.acquire()
    except OSError as error:
        raise _unwritable(run_dir, str(error)) from error
    renewing = threading.Thread(target=held.keep, daemon=True)
    renewing.start()
    try:
        yield held
    except KeyboardInterrupt:
        if held.taken_by is None:
            raise
    finally:
        held.ended.set()
        renewing.join()
        held.release()
    if held.taken_by is not None:
        raise _refused(run_dir, held.taken_by, "This one was out of touch and has stopped: wait for the other")


class _Lease(Held):
    """The object that says who works in a run.

    Attributes:
        ended: set when it need not be renewed any more.
    """

    def __init__(self, run_dir: RemotePath) -> None:
        self.run_dir = run_dir
        self.object = run_dir / LEASE
        self.holder = _holder()
        self.ended = threading.Event()

    def acquire(self) -> None:
        """Raises an InputError when somebody else holds it."""
        there = self._read()
        if there is not None and not _gone(there) and (left := self._seconds_left()) > 0:
            step = f"Wait for it; if it has died, its lease runs out in {left:.0f} s"
            raise _refused(self.run_dir, there, step)
        self._write()
        time.sleep(SETTLE_S)
        found = self._read() or {}
        if found.get("token") != self.holder["token"]:
            raise _refused(self.run_dir, found, "It started at the same moment: wait for it")

    def _seconds_left(self) -> float:
        """Until the lease that is there runs out. The store's clock tells what time it is, by a file just written."""
        probe = self.run_dir / f"{LEASE}.{self.holder['token']}"
        storage.write_bytes(probe, b"{}")
        try:
            age_s = (storage.written_ns(probe) - storage.written_ns(self.object)) / 1e9
        except FileNotFoundError:
            return 0.0  # given back at this moment
        finally:
            storage.remove(probe)
        return EXPIRE_S - age_s

    def _read(self) -> dict[str, Any] | None:
        try:
            return _understood(storage.read_bytes(self.object, patience_s=0))
        except FileNotFoundError:
            return None

    def _write(self) -> None:
        storage.write_bytes(self.object, json.dumps(self.holder).encode(), patience_s=0)

    def keep(self) -> None:
        """Renew until `ended`; when another has taken over, interrupt the main thread."""
        while not self.ended.wait(RENEW_S):
            try:
                found = self._read()
                if found is None or found.get("token") == self.holder["token"]:
                    self._write()
                    continue
            except OSError as error:  # nobody else can write either
                logger.warning("the lease of %s could not be renewed: %s", self.run_dir, error)
                continue
            self.taken_by = found
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # as Ctrl-C does; wakes it up, too
            return

    def release(self) -> None:
        """Give it back if it is still ours; what cannot be given back runs out."""
        try:
            if (self._read() or {}).get("token") == self.holder["token"]:
                storage.remove(self.object)
        except OSError as error:
            logger.warning("the lease of %s was not given back: %s", self.run_dir, error)


def _gone(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    here = (platform.node(), _process_space())
    if (holder.get("host"), holder.get("processes")) != here or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
