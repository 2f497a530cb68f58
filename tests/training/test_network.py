"""Every network has what training asks of one, whatever method it is for."""

from __future__ import annotations

import pytest
import torch

from fcdd_sweep.config.schema import Network
from fcdd_sweep.networks.build import network_of
from fcdd_sweep.networks.registry import NETWORKS
from fcdd_sweep.training.network import DetectionNetwork

MEMBERS = [name for name in dir(DetectionNetwork) if not name.startswith("_")]
SMALL = [name for name in NETWORKS if name.endswith(("28", "28_W"))]


@pytest.mark.parametrize("name", SMALL)
def test_a_network_maps_images_to_what_its_method_trains(name):
    network: DetectionNetwork = network_of(Network(name=name), NETWORKS[name].method, (1, 28, 28), 0)
    assert [member for member in MEMBERS if not hasattr(network, member)] == []
    with torch.no_grad():
        outputs = network.eval()(torch.zeros(2, 1, 28, 28))
    cells = network.receptive_field.width
    if network.method == "fcdd":
        assert outputs.shape == (2, 1, cells, cells) and network.upsample(outputs).shape == (2, 1, 28, 28)
    else:
        assert outputs.shape == (2, 1, 28, 28) if network.method == "ae" else outputs.shape[0] == 2 == outputs.ndim


def test_networks_of_all_three_methods_are_among_them():
    assert {NETWORKS[name].method for name in SMALL} == {"fcdd", "hsc", "ae"}
