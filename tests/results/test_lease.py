"""The lease of a run in an object store: when another driver's claim is believed. The store is a dictionary here."""

import json
import time

import pytest

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.locations import RemotePath, StorageError
from fcdd_sweep.results import lease

RUN = RemotePath("s3://bucket", "run", "")


class Store:
    """One object in memory.

    Attributes:
        content: of the lease; None without one.
        replies: what the next reads return instead, in order.
        reads: how often it was read.
    """

    def __init__(self):
        self.content, self.replies, self.reads = None, [], 0

    def read_bytes(self, place, patience_s=None):
        self.reads += 1
        content = self.replies.pop(0) if self.replies else self.content
        if content is None:
            raise FileNotFoundError(place)
        return content

    def write_bytes(self, place, content, patience_s=None):
        self.content = content

    def remove(self, place):
        self.content = None


@pytest.fixture
def store(monkeypatch):
    store = Store()
    for name in ("read_bytes", "write_bytes", "remove"):
        monkeypatch.setattr(lease.storage, name, getattr(store, name))
    monkeypatch.setattr(lease, "REREAD_AFTER_S", 0.0)
    monkeypatch.setattr(lease, "SETTLE_S", 0.0)
    monkeypatch.setattr(lease, "RENEW_S", 0.0)
    return store


class Renewals:
    """Stands in for the event that ends the renewing: ends it after a number of renewals."""

    def __init__(self, number):
        self.left = number

    def wait(self, seconds):
        self.left -= 1
        return self.left < 0


def renewed(store, renewals):
    """A lease that was acquired and then renewed so often; the signal to the main thread is noted."""
    held = lease._Lease(RUN)
    held.acquire()
    held.ended = Renewals(renewals)
    held.keep()
    return held


@pytest.fixture
def signals(monkeypatch):
    sent = []
    monkeypatch.setattr(lease.signal, "pthread_kill", lambda thread, number: sent.append(number))
    return sent


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"{}"])
def test_a_lease_that_cannot_be_read_once_is_read_again_and_not_taken_for_another_driver_s(store, signals, content):
    held = lease._Lease(RUN)
    held.acquire()
    store.replies = [content] * lease.REREADS
    held.ended = Renewals(1)
    held.keep()
    assert (held.taken_by, signals, held.lost) == (None, [], False)
    assert json.loads(store.content)["token"] == held.holder["token"]


def test_a_lease_that_stays_unreadable_is_another_driver_s(store, signals):
    held = lease._Lease(RUN)
    held.acquire()
    store.content, store.reads = b"not ours", 0
    held.ended = Renewals(5)
    held.keep()
    assert held.lost and len(signals) == 1 and store.reads == 1 + lease.REREADS
    assert store.content == b"not ours"


def test_a_readable_lease_of_another_driver_is_believed_at_once(store, signals):
    held = lease._Lease(RUN)
    held.acquire()
    store.content, store.reads = json.dumps({"token": "other", "host": "elsewhere"}).encode(), 0
    held.ended = Renewals(5)
    held.keep()
    assert held.taken_by["host"] == "elsewhere" and len(signals) == 1 and store.reads == 1


def test_an_unreadable_lease_of_a_moment_does_not_refuse_the_driver_that_wrote_it(store):
    held = lease._Lease(RUN)
    store.replies = [None, b"{"]  # none before, then unreadable when it is read back
    held.acquire()
    assert json.loads(store.content)["token"] == held.holder["token"]


def test_an_unreadable_lease_is_given_back_when_it_can_be_read_again(store):
    held = renewed(store, renewals=2)
    store.replies = [b""]
    held.release()
    assert store.content is None


def test_a_lease_of_another_driver_refuses(store, monkeypatch):
    monkeypatch.setattr(lease._Lease, "_seconds_left", lambda self: 30.0)
    store.content = json.dumps({"token": "other", "host": "elsewhere", "pid": 7, "since": "today"}).encode()
    named = r"another sweep is writing to this run \(host elsewhere, process 7, since today\)"
    with pytest.raises(InputError, match=named):
        lease._Lease(RUN).acquire()


def test_a_lock_file_of_garbage_is_no_reason_not_to_start_or_not_to_refuse(tmp_path):
    lock = tmp_path / lease.LOCK
    lock.write_bytes(bytes(range(256)))
    with lease.lease(tmp_path):
        lock.write_bytes(bytes(range(256)))
        with pytest.raises(InputError, match="another sweep is writing to this run"), lease.lease(tmp_path):
            pass


def _moved(run):
    run.rename(run.with_name("moved"))


def _replaced(run):
    _moved(run)
    run.mkdir()
    (run / lease.LOCK).write_text(json.dumps({"token": "another"}))


@pytest.mark.parametrize("spoil", [_moved, _replaced, lambda run: (run / lease.LOCK).unlink()])
@pytest.mark.parametrize("error", [None, InputError(Problem("x", "no run"))])
def test_a_run_that_goes_away_is_lost_and_the_error_says_so_whatever_else_failed(tmp_path, signals, spoil, error):
    with pytest.raises(StorageError, match="was moved or removed while the sweep ran"):
        with lease.lease(tmp_path / "run") as held:
            assert not held.lost
            spoil(tmp_path / "run")
            assert held.lost
            if error:
                raise error


def test_a_wait_ends_when_the_run_goes_away(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "LOOK_S", 0.05)
    began = time.monotonic()
    with pytest.raises(StorageError, match="Bring the folder back"), lease.lease(tmp_path / "run"):
        _moved(tmp_path / "run")
        time.sleep(30)
    assert time.monotonic() - began < 20


def test_a_lock_that_cannot_be_understood_is_not_lost(tmp_path, signals):
    with lease.lease(tmp_path) as held:
        (tmp_path / lease.LOCK).write_bytes(b"\x80{")
        assert not held.lost


def test_a_folder_that_cannot_be_written_is_found_without_writing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"results cannot be written to this folder \(.*file is not a folder\)"):
        lease.check_writable(tmp_path / "file" / "runs" / "x")
    lease.check_writable(tmp_path / "new" / "x")
    lease.check_writable(RUN)
    monkeypatch.setattr(lease.os, "access", lambda place, mode: False)  # root may write anywhere
    with pytest.raises(InputError, match="is not writable"):
        lease.check_writable(tmp_path / "new" / "x")
    assert lease.closed_folder(tmp_path / "new" / "x") == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
