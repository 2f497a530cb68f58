"""Machines that join a cluster while a sweep runs there."""

import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.results import files
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners.events import Message, TrialStarted
from fcdd_sweep.sweep.sweep import run_sweep
from tests import other_machines
from tests.events import Recorder
from tests.other_machines import OTHER_CODE
from tests.runners.test_ray_cluster import EXPERIMENT
from tests.trees import write_one_vs_rest

pytestmark = pytest.mark.ray


@pytest.fixture
def cluster():
    """A head that runs no trials, behind a token."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


class Joining(Recorder):
    """Records events; a machine joins when the first trial has started."""

    def __init__(self, join):
        super().__init__()
        self._join = join

    def handle(self, event):
        super().handle(event)
        if isinstance(event, TrialStarted) and self._join:
            join, self._join = self._join, None
            join()


def load(tmp_path, *overrides):
    (tmp_path / "small.yaml").write_text(EXPERIMENT)
    return load_experiment(tmp_path / "small.yaml", [f"output={tmp_path / 'results'}", *overrides])


@pytest.mark.long
def test_a_machine_with_other_code_that_joins_later_gets_no_trials(cluster, tmp_path):
    cluster.add_node(num_cpus=1)
    joined = {OTHER_CODE: str(tmp_path / "results" / "joined")}
    progress = Joining(lambda: cluster.add_node(num_cpus=1, env_vars=joined))
    experiment = load(tmp_path, "training.epochs=1", "faults.retries=0")
    result = run_sweep(
        experiment, address=cluster.address, progress=progress, work=other_machines.trial_when_it_has_joined
    )
    assert (result.planned, result.done, result.failed) == (4, 4, 0)
    rows = files.read_table(RunPaths(experiment.run_dir).failures).to_pylist()
    assert rows and {row["kind"] for row in rows} == {"node_unfit"}
    assert len({row["trial_id"] for row in rows}) == len(rows)  # the same machine never twice
    assert all("found source another" in row["error"] and "Install the same" in row["error"] for row in rows)
    messages = [text for text in progress.messages if "a machine cannot run trials" in text]
    assert len(messages) == 1 and "found source another" in messages[0]
    assert not (experiment.run_dir / ".machines").exists()


def test_a_sweep_ends_in_words_when_only_machines_that_cannot_run_trials_are_left(monkeypatch):
    from fcdd_sweep.runners import ray_nodes

    nodes = ray_nodes.ClusterNodes(None, [], None)
    there = {"ab": "good", "cd": "bad"}
    monkeypatch.setattr(nodes, "_present", lambda: there)
    assert nodes.rule_out("cd", "bad: torch is older there.") and not nodes.rule_out("cd", "again")
    nodes.require_usable()
    nodes._last_alive -= ray_nodes.NO_USABLE_NODE_S + 1
    with pytest.raises(InputError, match="no machine of the cluster runs trials: bad: torch is older there"):
        nodes.require_usable()
    del there["cd"]
    nodes.require_usable()


@pytest.mark.long
def test_machines_without_the_data_get_it_from_the_driver(cluster, tmp_path):
    cluster.add_node(num_cpus=1, env_vars={"FCDD_SWEEP_CACHE": str(tmp_path / "its cache")})
    root = write_one_vs_rest(tmp_path / "own", classes=("cat", "dog"))

    class Unmounting:
        def handle(self, event):
            if isinstance(event, Message) and "checking the machines" in event.text:  # the driver has decoded it all
                root.rename(tmp_path / "away")

    experiment = load(
        tmp_path,
        f"dataset={{name: folder, root: '{root}', classes: [cat]}}",
        *("anomalies={mode: unsupervised}", "training.epochs=1", "seeds=1"),
    )
    result = run_sweep(experiment, address=cluster.address, progress=Unmounting())
    assert (result.planned, result.done) == (1, 1)
    (brought,) = (tmp_path / "its cache").glob("folder-*/images.npy")
    assert brought.stat().st_size > 0
