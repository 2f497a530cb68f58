"""Sweeps whose workers, machines and driver are killed at random times end like an undisturbed one, bit for bit.

`FCDD_FAULT_SEED=N` plays the kills of a seed again; the seed and every kill are printed.
"""

import os
import random
import subprocess
import sys
import time
import uuid
from collections import Counter

import pytest

from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.config.locations import parse_location
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.results import files, storage
from fcdd_sweep.results.tree import RunPaths
from tests.faults.same import assert_same, assert_whole
from tests.faults.schedule import Kill, schedule
from tests.faults.site import site, waited_for
from tests.s3 import served
from tests.specs import small_experiment

EXPERIMENT = small_experiment(
    """
training: {passes_per_epoch: 10, threads: 1}
resources: {device: cpu}
keep: {pictures: none}
faults: {retries: 50, checkpoint_every: 4 epochs}
"""
)
LONG = {"training.epochs": 50, "seeds": 6}
SHORT = {"training.epochs": 16, "seeds": 1}


def arguments(folder, output, overrides):
    (folder / "small.yaml").write_text(EXPERIMENT)
    settings = [f"{key}={value}" for key, value in overrides.items()]
    return [
        str(folder / "small.yaml"),
        "--output",
        str(output),
        *(word for text in settings for word in ("--set", text)),
    ]


def undisturbed(folder, overrides, *more):
    """The run that nothing happens to."""
    command = [sys.executable, "-m", "fcdd_sweep", *arguments(folder, folder / "undisturbed", overrides), *more]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    print(f"\nundisturbed: {time.monotonic() - began:.0f} s")
    return folder / "undisturbed" / "small"


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    return undisturbed(tmp_path_factory.mktemp("long"), LONG)


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    return undisturbed(tmp_path_factory.mktemp("short"), SHORT, "--local")


@pytest.fixture
def store():
    """A folder of an S3 server of our own."""
    with served() as server:
        yield parse_location(server.address(uuid.uuid4().hex))


def killed(folder, output, overrides, counts, longest_s, setenv, seed=None):
    """The run that all the kills happened to. `seed`: unless the environment names one; None: drawn."""
    seed = int(os.environ.get("FCDD_FAULT_SEED") or seed or random.SystemRandom().randrange(10**6))
    kills = schedule(seed, counts, longest_s)
    print(f"\nFCDD_FAULT_SEED={seed}, {len(kills)} kills")
    given, began = arguments(folder, output, overrides), time.monotonic()
    loaded = load_experiment(given[0], [f"output={output}", *given[4::2]])
    with site(folder / "drivers", given, setenv) as there:
        there.start_driver()
        for number, kill in enumerate(kills, start=1):
            waited_for(lambda: there.workers() or there.driver.poll() is not None, 300, "a trial to run")
            time.sleep(kill.after_s)
            assert there.driver.poll() is None, f"ended before kill {number} of {len(kills)}:\n{there.outputs[-1]}"
            there.kill(kill)
            print(f"  {time.monotonic() - began:6.1f} s, kill {number}: {kill}")
        code = there.driver.wait(timeout=1800)
        counted = {victim: there.made.count(victim) for victim in sorted(set(there.made))}
        print(f"  {time.monotonic() - began:6.1f} s: all done after {counted}")
        assert code == 0, there.outputs[-1]
    assert_whole(loaded.run_dir, plan(loaded).specs)
    return loaded.run_dir


def print_failures(run):
    """Print what the drivers recorded; the kill of a driver, and kills before it reports them, leave no row."""
    path = RunPaths(run).failures
    rows = files.read_table(path).to_pylist() if storage.is_file(path) else []
    print(f"  failures.parquet: {dict(Counter(row['kind'] for row in rows))}")


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.parametrize("where", ["folder", pytest.param("store", marks=pytest.mark.faults)])
def test_a_kill_of_each_kind(tmp_path, short_run, request, monkeypatch, where):
    output = tmp_path / "results" if where == "folder" else request.getfixturevalue("store")
    counts = {"worker": 1, "machine": 1, "driver": 1}
    run = killed(tmp_path, output, SHORT, counts, 2.0, monkeypatch.setenv, seed=3)
    print_failures(run)
    assert_same(run, short_run)


@pytest.mark.faults
def test_a_machine_that_dies_while_the_driver_looks_at_it_is_left_out(tmp_path, monkeypatch):
    given = arguments(tmp_path, tmp_path / "results", {"training.epochs": 1, "seeds": 1})
    with site(tmp_path / "drivers", given, monkeypatch.setenv) as there:
        there.start_driver()
        waited_for(lambda: "checking the machines" in there.outputs[-1], 300, "the driver")
        there.kill(Kill(0.0, "raylet", 0))
        assert there.driver.wait(timeout=900) == 0, there.outputs[-1]


@pytest.mark.faults
def test_many_kills(tmp_path, long_run, monkeypatch):
    counts = {"worker": 12, "machine": 4, "raylet": 2, "driver": 6}
    run = killed(tmp_path, tmp_path / "results", LONG, counts, 4.0, monkeypatch.setenv)
    print_failures(run)
    assert_same(run, long_run)


@pytest.mark.faults
def test_many_kills_with_results_in_an_object_store(tmp_path, long_run, store, monkeypatch):
    counts = {"worker": 12, "machine": 4, "raylet": 2, "driver": 6}
    run = killed(tmp_path, store, LONG, counts, 4.0, monkeypatch.setenv)
    print_failures(run)
    assert_same(run, long_run)
