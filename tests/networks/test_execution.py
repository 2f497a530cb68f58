"""What `auto` means for layout and precision is fixed by network."""

from __future__ import annotations

import pytest

from fcdd_sweep.networks import execution
from fcdd_sweep.networks.registry import NETWORKS
from tests.specs import settings


def computed(name, **training):
    return execution.computed(settings(network={"name": name}, training=training))


def test_tables_name_networks_that_exist():
    assert execution._CONTIGUOUS | execution._BF16 <= NETWORKS.keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_auto_is_what_the_tables_say(name):
    expected = {
        "layout": "contiguous" if name in execution._CONTIGUOUS else "channels_last",
        "precision": "bf16" if name in execution._BF16 else "fp32",
    }
    assert computed(name, layout="auto", precision="auto") == expected


def test_what_is_written_stands_whatever_the_network():
    for layout in ("contiguous", "channels_last"):
        for precision in ("fp32", "bf16"):
            wanted = {"layout": layout, "precision": precision}
            assert all(computed(name, **wanted) == wanted for name in NETWORKS)
