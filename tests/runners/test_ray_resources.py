"""The resources that a trial takes on clusters of all kinds, and where it may run."""

import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.schema import Resources

pytestmark = pytest.mark.ray
HEAD, SMALL, LARGE = {"CPU": 0.0}, {"CPU": 4.0}, {"CPU": 64.0}
GPU, TWO_GPUS = {"CPU": 8.0, "GPU": 1.0}, {"CPU": 5.0, "GPU": 2.0}


@pytest.fixture
def resources(monkeypatch):
    import ray

    from fcdd_sweep.runners.ray_resources import TrialResources

    def of(machines, threads=2, sharing=lambda: 4, *, may_grow=True, **settings):
        nodes = [{"Alive": True, "Resources": machine} for machine in machines]
        monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": LARGE}])
        return TrialResources.of_cluster(Resources(**settings), threads, sharing, may_grow=may_grow)

    return of


def test_trials_run_on_all_machines_where_none_has_a_gpu(resources):
    found = resources([HEAD, SMALL, LARGE])
    assert (found.cpus, found.max_cpus, found.trials_per_gpu, found.slots) == (2.0, 64.0, 0, 34)
    assert found.device_text == "trials run on CPUs: Ray finds no GPU"
    assert found.fit_on(SMALL) and not found.fit_on(HEAD)


def test_beside_gpus_machines_without_one_run_nothing(resources):
    found = resources([HEAD, LARGE, GPU, TWO_GPUS], trials_per_gpu=2)
    assert found.device_text == "trials run on GPUs, 2 at once on each"
    assert found.slots == 2 + 2  # two share the one GPU; of the two others' four places two have their cores
    assert found.for_shares(1) == {"CPU": 2.0, "GPU": 0.5} and found.fit_on(GPU) and not found.fit_on(LARGE)


def test_gpus_are_left_alone_where_the_cpu_is_asked_for(resources):
    found = resources([HEAD, SMALL, GPU], device="cpu")
    assert (found.trials_per_gpu, found.slots) == (0, 6) and found.for_shares(1) == {"CPU": 2.0}


def test_cores_that_only_a_machine_without_gpu_has_are_refused(resources):
    with pytest.raises(InputError, match="a trial asks for 16 CPU cores, this machine has 8"):
        resources([LARGE, GPU], cpus=16.0)


def test_a_cluster_of_a_head_alone_waits_for_what_the_experiment_names(resources):
    assert resources([HEAD], device="cuda", trials_per_gpu=4).for_shares(1) == {"CPU": 2.0, "GPU": 0.25}
    with pytest.raises(InputError, match="found 'auto', but the cluster has no machine yet"):
        resources([HEAD])
    with pytest.raises(InputError, match="Ray finds no GPU"):
        resources([SMALL], device="cuda")


def test_machines_that_cannot_run_trials_are_avoided(resources):
    found = resources([SMALL])
    free, avoiding = found.placement(2, ()), found.placement(2, ("ab", "cd"))
    assert free.bundles == avoiding.bundles == [{"CPU": 4.0}] and free != avoiding
    assert avoiding._kwargs == {"bundle_label_selector": [{"ray.io/node-id": "!in(ab,cd)"}]}


def test_what_auto_means_for_a_gpu_is_asked_only_where_trials_run_on_gpus(resources):
    def unasked():
        raise AssertionError

    assert resources([GPU, TWO_GPUS], sharing=lambda: 3).trials_per_gpu == 3
    assert resources([GPU], sharing=unasked, trials_per_gpu=2).trials_per_gpu == 2
    assert resources([SMALL], sharing=unasked).trials_per_gpu == 0
    assert resources([GPU], sharing=unasked, device="cpu").trials_per_gpu == 0
