"""What `auto` means for layout and precision is fixed by network."""

from __future__ import annotations

import pytest

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.networks import execution
from fcdd_sweep.networks.registry import NETWORKS
from fcdd_sweep.planning.describe import describe
from fcdd_sweep.planning.plan import plan_file
from tests.broken import HEAD
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


def test_auto_layout_and_precision_are_filled_in_by_network_and_are_part_of_what_a_trial_is(tmp_path, monkeypatch):
    path = tmp_path / "x.yaml"
    path.write_text(HEAD)

    def planned(*overrides):
        experiment, found = plan_file(path, ["seeds=1", *overrides])
        return found.specs[0], describe(found, experiment)

    by_default, text = planned()
    training = by_default.settings.training
    assert (training.layout, training.precision) == ("channels_last", "fp32") and "fp32, channels last" in text
    assert by_default.trial_id == planned("training.layout=channels_last", "training.precision=fp32")[0].trial_id
    others = [planned(f"training.{key}")[0] for key in ("layout=contiguous", "precision=bf16")]
    assert len({spec.trial_id for spec in (by_default, *others)}) == 3
    name = by_default.settings.network.name
    monkeypatch.setattr(execution, "_CONTIGUOUS", frozenset({name}))
    monkeypatch.setattr(execution, "_BF16", frozenset({name}))
    assert planned()[0].trial_id == others[0].trial_id  # a change of the table gives new ids where it changes numbers
    assert planned("training.precision=auto", "training.layout=channels_last")[0].trial_id == others[1].trial_id
    with pytest.raises(ExperimentError, match=r"are the same.*auto means contiguous or channels_last here"):
        plan_file(path, ["grid={training.layout: [auto, contiguous]}"])
