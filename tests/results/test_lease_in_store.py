"""The lease of a run in an object store: a real S3 server, and drivers that die or lose touch."""

import json
import os
import platform
import subprocess
import sys
import time

import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.results import lease, storage

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def soon_settled(monkeypatch):
    monkeypatch.setattr(lease, "SETTLE_S", 0.1)


def write_holder(store, **changes):
    holder = lease._holder() | changes
    storage.write_bytes(store / lease.LEASE, json.dumps(holder).encode())


def test_the_second_driver_of_a_run_in_a_store_learns_who_the_first_is(store):
    named = rf"another sweep is writing to this run \(host {platform.node()}, process {os.getpid()}, since 20"
    with lease.lease(store), pytest.raises(InputError, match=named), lease.lease(store):
        pass
    with lease.lease(store):
        assert storage.is_file(store / lease.LEASE)
    assert storage.children(store) == []


def test_a_lease_runs_out_when_its_holder_is_gone(store, monkeypatch):
    monkeypatch.setattr(lease, "EXPIRE_S", 3.0)
    write_holder(store, host="elsewhere")
    with pytest.raises(InputError, match=r"host elsewhere.*if it has died, its lease expires in [123] s"):
        with lease.lease(store):
            pass
    time.sleep(3.2)
    with lease.lease(store):
        pass


def test_a_dead_process_of_this_machine_holds_nothing(store):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write_holder(store, pid=ended.pid)
    with lease.lease(store):
        pass
    write_holder(store, started="1")  # an earlier process that had the number of this one
    with lease.lease(store):
        pass


def test_a_driver_that_was_out_of_touch_stops_when_another_has_taken_over(store, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_S", 0.2)
    with pytest.raises(InputError, match=r"host elsewhere.*This sweep lost contact with the storage and has stopped"):
        with lease.lease(store):
            for _ in range(100):  # again and again, as one that lives does
                write_holder(store, host="elsewhere")
                time.sleep(0.1)
    assert storage.is_file(store / lease.LEASE)  # it is the other's


def test_a_lease_is_renewed(store, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_S", 0.2)
    with lease.lease(store):
        before = storage.written_ns(store / lease.LEASE)
        deadline = time.monotonic() + 10
        while storage.written_ns(store / lease.LEASE) == before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
