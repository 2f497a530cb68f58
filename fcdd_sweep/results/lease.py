"""One driver per run.

On a file system, the driver locks `RUN/.lock`; the system releases the lock when its holder dies. Every `LOOK_S` it
looks whether the lock is still where it made it, and stops when the run's folder was moved or removed. An object
store has no locks, and pyarrow cannot write an object only if it does not exist yet. For a run there the driver keeps
a lease, the object `RUN/.lease.json`, which it renews every `RENEW_S` and which expires `EXPIRE_S` after its last
renewal, both by the store's clock.

Limits of a lease: of two drivers that start within `SETTLE_S`, the one that wrote last continues, and the other notices
and refuses. But a driver that was delayed for longer than that between finding no lease and writing its own, or that
slept past the expiry, may work beside another until its next renewal, at most `RENEW_S`. It then stops and writes no
more. Until then both publish whole leaves of the same trials, and the next start makes the index agree with them: work
may be done twice, but no result is wrong.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.locations import RemotePath, StorageError
from fcdd_sweep.results import storage
from fcdd_sweep.results.processes import has_ended, this_process
from fcdd_sweep.results.storage import Location

LOCK, LEASE = ".lock", ".lease.json"
RENEW_S, EXPIRE_S, SETTLE_S = 15.0, 60.0, 1.0
LOOK_S = 2.0
REREADS, REREAD_AFTER_S = 3, 1.0
"""How often and after how many seconds a lease is read again whose content cannot be read, before it is believed."""
logger = logging.getLogger("fcdd_sweep.storage")


@contextmanager
def lease(run_dir: Location) -> Iterator[Held]:
    """Keep other drivers out of a run while entered; yield whether it is still held.

    Raises:
        InputError: another driver holds the run (named by host, process and start), or the run cannot be written. At
            exit: another driver took the run over; work in progress was interrupted as by Ctrl-C.
        StorageError: at exit, the folder of the run was moved or removed; work in progress was interrupted likewise.
    """
    with _lock(run_dir) if isinstance(run_dir, Path) else _leased(run_dir) as held:
        yield held


class Held:
    """A run that this driver holds.

    Attributes:
        taken_by: the holder that took it over; None while this driver holds it.
    """

    taken_by: dict[str, Any] | None = None

    @property
    def lost(self) -> bool:
        return self.taken_by is not None


@contextmanager
def _lock(run_dir: Path) -> Iterator[Held]:
    # by `flock` and not by `filelock`: the lock file holds who has the lock, for the message to others, and `filelock`
    # empties the file when it tries to lock it
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = (run_dir / LOCK).open("a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise unwritable(run_dir, error.strerror or str(error)) from error
    with file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refused(run_dir, _read_holder(file), "Wait for it") from None
        except OSError as error:
            raise unwritable(run_dir, f"files cannot be locked: {error.strerror}") from error
        held = _Lock(run_dir)
        _write_holder(file, held.holder)
        looking = threading.Thread(target=held.keep, daemon=True)
        looking.start()
        try:
            yield held
        except (Exception, KeyboardInterrupt) as error:
            if held.lost:
                raise _gone(run_dir) from error
            raise
        else:
            if held.lost:
                raise _gone(run_dir)
        finally:
            held.ended.set()
            looking.join()
            file.truncate(0)


class _Lock(Held):
    """The lock file of a run's folder, which goes away with the folder.

    Attributes:
        holder: this driver, as the file names it.
        ended: set when the lock is released.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / LOCK
        self.holder = _holder()
        self.ended = threading.Event()
        self._found = True

    @property
    def lost(self) -> bool:
        """Whether the file is gone, or is another driver's: that of a new folder in the run's place."""
        if self._found:
            try:
                token = _parsed(self._path.read_bytes()).get("token", self.holder["token"])
                self._found = token == self.holder["token"]
            except FileNotFoundError:
                self._found = False
            except OSError as error:
                logger.warning("%s could not be read: %s", self._path, error)
        return not self._found

    def keep(self) -> None:
        """Look at the file until `ended`; when it is lost, interrupt the main thread."""
        while not self.ended.wait(LOOK_S):
            if self.lost:
                _interrupt()
                return


def _interrupt() -> None:
    """Do to the main thread what Ctrl-C does, which also ends a wait."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _gone(run_dir: Path) -> StorageError:
    what = "the folder of this run, or its lock, was moved or removed while the sweep ran, which entered nothing more"
    since = "; what is there now is what running trials have written since" if run_dir.exists() else ""
    step = f"Bring the folder back{since}. Or name its new place with --output"
    return StorageError(f"{run_dir}: {what}. {step}")


def _write_holder(file: IO[str], holder: dict[str, Any]) -> None:
    file.truncate(0)
    file.write(json.dumps(holder))
    file.flush()


def _read_holder(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    return _parsed(file.read())


def _parsed(text: str | bytes) -> dict[str, Any]:
    """Return what a holder wrote about itself; empty when it cannot be read."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}


def _holder() -> dict[str, Any]:
    """Return this process as other drivers see it."""
    return {
        "token": secrets.token_hex(8),
        **this_process(),
        "since": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }


def _refused(run_dir: Location, holder: dict[str, Any], step: str) -> InputError:
    named = ("host", "pid", "since")
    who = " (host {}, process {}, since {})".format(*map(holder.get, named)) if holder.keys() >= set(named) else ""
    return InputError(
        Problem(
            str(run_dir),
            f"another sweep is writing to this run{who}",
            "one sweep per run at a time",
            f"{step}, or choose another name or --output",
        )
    )


def unwritable(run_dir: Location, reason: str) -> InputError:
    """Return the error of a run whose folder cannot be written."""
    step = "Make it writable; a sweep can also have another --output"
    return InputError(Problem(str(run_dir), f"results cannot be written to this folder ({reason})", "", step))


def check_writable(run_dir: Location) -> None:
    """Check without writing that the folder of a run can be made, or written; addresses in a store pass.

    Raises:
        InputError: a file is in its way, or this process may not write there.
    """
    if closed := closed_folder(run_dir):
        raise unwritable(run_dir, f"{closed} is not writable")


def closed_folder(run_dir: Location) -> Path | None:
    """Return the folder in which a run would be written, and this process may not write; None where it may.

    Raises:
        InputError: a file is in the run's way.
    """
    if not isinstance(run_dir, Path):
        return None
    place = next(place for place in (run_dir, *run_dir.parents) if os.path.lexists(place))
    if not place.is_dir():
        raise unwritable(run_dir, f"{place} is not a folder")
    return None if os.access(place, os.W_OK | os.X_OK) else place


@contextmanager
def _leased(run_dir: RemotePath) -> Iterator[Held]:
    storage.check_reachable(run_dir)
    held = _Lease(run_dir)
    try:
        held.acquire()
    except OSError as error:
        raise unwritable(run_dir, str(error)) from error
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
        step = "This sweep lost contact with the storage and has stopped. Wait for the other one"
        raise _refused(run_dir, held.taken_by, step)


class _Lease(Held):
    """The object that names the driver of a run.

    Attributes:
        ended: set when the lease is no longer renewed.
    """

    def __init__(self, run_dir: RemotePath) -> None:
        self.run_dir = run_dir
        self.object = run_dir / LEASE
        self.holder = _holder()
        self.ended = threading.Event()

    def acquire(self) -> None:
        """Write the lease.

        Raises:
            InputError: another driver holds it.
        """
        holder = self._read()
        if holder is not None and not has_ended(holder) and (left := self._seconds_left()) > 0:
            step = f"Wait for it; if it has died, its lease expires in {left:.0f} s"
            raise _refused(self.run_dir, holder, step)
        self._write()
        time.sleep(SETTLE_S)
        found = self._read() or {}
        if found.get("token") != self.holder["token"]:
            raise _refused(self.run_dir, found, "It started at the same time: wait for it")

    def _seconds_left(self) -> float:
        """Return the seconds until the present lease expires, by the store's clock, which a new file shows."""
        probe = self.run_dir / f"{LEASE}.{self.holder['token']}"
        storage.write_bytes(probe, b"{}")
        try:
            age_s = (storage.written_ns(probe) - storage.written_ns(self.object)) / 1e9
        except FileNotFoundError:
            return 0.0  # released just now
        finally:
            storage.remove(probe)
        return EXPIRE_S - age_s

    def _read(self) -> dict[str, Any] | None:
        """Return the holder; None without a lease, and empty when its content stays unreadable."""
        for tries in range(1 + REREADS):
            if tries:  # read while it was replaced, or a fault of the transport: not yet another driver's
                time.sleep(REREAD_AFTER_S)
            try:
                holder = _parsed(storage.read_bytes(self.object, patience_s=0))
            except FileNotFoundError:
                return None
            if holder:
                return holder
        return {}

    def _write(self) -> None:
        storage.write_bytes(self.object, json.dumps(self.holder).encode(), patience_s=0)

    def keep(self) -> None:
        """Renew the lease until `ended`; if another driver has taken over, interrupt the main thread."""
        while not self.ended.wait(RENEW_S):
            try:
                found = self._read()
                if found is None or found.get("token") == self.holder["token"]:
                    self._write()
                    continue
            except OSError as error:  # other drivers cannot write either
                logger.warning("the lease of %s could not be renewed: %s", self.run_dir, error)
                continue
            self.taken_by = found
            _interrupt()
            return

    def release(self) -> None:
        """Remove the lease if this driver still holds it; one that cannot be removed expires."""
        try:
            if (self._read() or {}).get("token") == self.holder["token"]:
                storage.remove(self.object)
        except OSError as error:
            logger.warning("the lease of %s could not be removed: %s", self.run_dir, error)
