"""Which processes a Ray of our own starts, and which of them run trials."""

import os
import time
from pathlib import Path

import pytest
import ray
from packaging.version import Version

from fcdd_sweep.config.schema import Faults, Resources
from fcdd_sweep.runners import ray_losses
from fcdd_sweep.runners.ray_runner import RayRunner
from fcdd_sweep.runners.ray_session import connected
from fcdd_sweep.runners.ray_start import EarlyWorkers, workers_of_a_cluster
from fcdd_sweep.runners.stop_signal import StopSignal
from tests import works
from tests.events import Recorder
from tests.specs import spec

NEEDLESS = ("monitor.py", "log_monitor.py", "dashboard.py")
"""Processes that Ray starts, and a sweep does not use."""


def children_of(pid):
    """Return the command lines of the processes that a process has started, by id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it has ended
    return found


def workers_of(raylet):
    names = ("ray::IDLE", "default_worker")
    return [pid for pid, command in children_of(raylet).items() if any(name in command for name in names)]


@pytest.mark.ray
@pytest.mark.slow
def test_early_workers_run_the_first_trials_at_the_sweep_s_own_priority_and_no_needless_process_starts(tmp_path):
    specs, recorder = [spec(seed=seed) for seed in range(2)], Recorder()
    with connected(None, lambda text: None, EarlyWorkers(("colorsys",), 1)) as scratch:
        services, raylet = children_of(os.getpid()), ray_losses._raylet_pid()
        while not workers_of(raylet):
            time.sleep(0.1)
        (early,) = workers_of(raylet)
        run = RayRunner(Resources(device="cpu", cpus=1), Faults(), scratch=scratch)
        run(specs, tmp_path, recorder, works.naming_its_process, StopSignal())
    assert any("gcs_server" in command for command in services.values())
    assert not [command for command in services.values() for name in NEEDLESS if name in command]
    hosts = [recorder.ended[each.trial_id].host.split() for each in specs]
    assert {imported for _, _, imported, _ in hosts} == {"True"}
    assert {niceness for _, niceness, _, _ in hosts} == {str(os.nice(0))}
    assert {memory for _, _, _, memory in hosts} == {"glibc.malloc.hugetlb=1"}
    if Version(ray.__version__) >= Version("2.50"):  # Ray 2.49 starts workers of its own, which takes longer
        assert str(early) in [pid for pid, _, _, _ in hosts]


@pytest.mark.parametrize(("own", "inherited"), [({}, "glibc.malloc.hugetlb=1"), ({"GLIBC_TUNABLES": "a=b"}, "a=b")])
def test_workers_on_all_machines_of_a_cluster_take_memory_in_huge_pages(own, inherited, monkeypatch):
    from ray.tune.execution.class_cache import _ActorClassCache

    for name, value in own.items():
        monkeypatch.setenv(name, value)
    with workers_of_a_cluster():
        actor = _ActorClassCache().get(type("Trainable", (), {}))
    assert actor._default_options["runtime_env"]["env_vars"]["GLIBC_TUNABLES"] == inherited
    after = _ActorClassCache().get(type("Trainable", (), {}))
    assert "GLIBC_TUNABLES" not in after._default_options["runtime_env"]["env_vars"]
