"""A sweep on a Ray cluster of several machines, all of them on this one."""

import subprocess
import sys
import time

import pytest

from fcdd_sweep.results import files
from fcdd_sweep.results.tree import RunPaths
from tests.specs import small_experiment

pytestmark = pytest.mark.ray
EXPERIMENT = small_experiment(
    """
training: {epochs: 2, passes_per_epoch: 1, threads: 1}
keep: {pictures: none}
seeds: 2
"""
)


@pytest.fixture
def cluster():
    """A head that runs no trials and two machines with a core each, behind a token."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    machines = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made, machines
    made.shutdown()


def command(tmp_path, address, *more):
    (tmp_path / "small.yaml").write_text(EXPERIMENT)
    where = ["--address", address, "--output", str(tmp_path / "results")]
    return [sys.executable, "-m", "fcdd_sweep", str(tmp_path / "small.yaml"), *where, *more]


@pytest.mark.long
def test_a_sweep_on_a_cluster_loses_a_machine_and_ends_whole(cluster, tmp_path):
    made, machines = cluster
    with subprocess.Popen(
        command(tmp_path, made.address), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as started:
        attempts = RunPaths(tmp_path / "results" / "small").attempts
        until = time.monotonic() + 120
        while not list(attempts.glob("*/*/leaf")) and time.monotonic() < until and started.poll() is None:
            time.sleep(0.05)
        made.remove_node(machines[0], allow_graceful=False)
        output, _ = started.communicate(timeout=240)
    assert started.returncode == 0, output
    assert "checking the machines of the cluster" in output and "4 of 4 trials done" in output
    index = files.read_table(RunPaths(tmp_path / "results" / "small").index).to_pylist()
    assert len(index) == 4 and {row["status"] for row in index} == {"done"}


def test_a_missing_cluster_is_reported(tmp_path):
    ended = subprocess.run(command(tmp_path, "127.0.0.1:1"), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert "no Ray cluster answers at '127.0.0.1:1'" in ended.stderr and "Traceback" not in ended.stderr
