"""A sweep on a cluster that is reached through Ray's client."""

import contextlib
import signal
import socket
import subprocess

import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.results import files
from fcdd_sweep.results.tree import RunPaths
from tests.runners.test_ray_cluster import command

pytestmark = pytest.mark.ray


@pytest.fixture
def address():
    """Of a head with a core."""
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = {"num_cpus": 1, "include_dashboard": False, "ray_client_server_port": port}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield f"ray://127.0.0.1:{port}"
    made.shutdown()


@pytest.mark.long
def test_the_command_runs_on_the_head_stops_there_and_continues_there(address, tmp_path):
    run = tmp_path / "results" / "small"
    first = command(tmp_path, address, "--set", "training.epochs=500", "--set", "seeds=1")
    with subprocess.Popen(first, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as started:
        said = []
        for line in started.stdout:
            said.append(line)
            if line.startswith("machines: "):  # the first trial starts, and would take a minute
                started.send_signal(signal.SIGINT)
                break
        rest, _ = started.communicate(timeout=240)
    output = "".join(said) + rest
    assert started.returncode == 130 and "stopping: running trials save themselves" in output, output
    assert "0 of 2 trials done" in output
    ended = subprocess.run(command(tmp_path, address, "--set", "seeds=1"), capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0 and "2 of 2 trials done" in ended.stdout, ended.stdout + ended.stderr
    assert {row["status"] for row in files.read_table(RunPaths(run).index).to_pylist()} == {"done"}


def test_an_address_where_no_cluster_answers_is_reported(tmp_path):
    ended = subprocess.run(command(tmp_path, "ray://127.0.0.1:1"), capture_output=True, text=True, timeout=240)
    assert ended.returncode == 2
    assert "no Ray cluster answers at 'ray://127.0.0.1:1'" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize(("aborted", "tries", "fails"), [(2, 3, False), (3, 3, True)])
def test_a_head_that_is_too_busy_at_first_is_asked_again(monkeypatch, aborted, tries, fails):
    from fcdd_sweep.runners import ray_client

    asked = []

    def init(address, **settings):
        asked.append(address)
        if len(asked) <= aborted:
            raise ConnectionAbortedError("Starting Ray client server failed")

    monkeypatch.setattr(ray_client, "check_answers", lambda address: None)
    monkeypatch.setattr(ray_client.ray, "init", init)
    with pytest.raises(InputError, match="server failed") if fails else contextlib.nullcontext():
        ray_client._connect("ray://head:10001")
    assert len(asked) == tries
