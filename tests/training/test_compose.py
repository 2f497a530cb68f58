"""Batches of fixed shapes, as a GPU makes them, beside those of the CPU."""

import dataclasses

import numpy as np
import pytest
import torch

from fcdd_sweep.data.pools import ArrayPool
from fcdd_sweep.training import anomaly_pools
from tests.prepared import FOLDER, batches_of, made, pixels, plan_of, typed

POOLS = {
    "exposure": {"anomalies": FOLDER},
    "offline": {"anomalies": {"mode": "malformed_normal_gt", "source": "confetti", "online": False}},
    "real with maps": {
        "anomalies": {"mode": "noise", "source": "mvtec_gt", "limit": 2},
        "evaluation": {"reserved_anomalies": 2},
    },
    "label 1": {"anomalies": FOLDER, "images": {"nominal_label": 1}},
    "unsupervised": {"anomalies": {"mode": "unsupervised", "source": None}},
}


def fixed(found):
    """The same data with a composer as on a GPU."""
    batches = dataclasses.replace(found.batches)
    batches.__dict__["composer"] = dataclasses.replace(found.batches.composer, fixed=True)
    return dataclasses.replace(found, batches=batches)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("sections", POOLS.values(), ids=POOLS.keys())
def test_without_draws_of_the_device_fixed_shapes_give_the_same_bits(sections, streamed, monkeypatch):
    monkeypatch.setattr(anomaly_pools, "RESIDENT_BYTES", 1000 if streamed else 2**30)
    found = made(typed(), ArrayPool(pixels()), **sections)
    preprocessor = found.batches.preprocessor
    crops_and_flips = dataclasses.replace(preprocessor, recipe=dataclasses.replace(preprocessor.recipe, kind="small"))
    found = dataclasses.replace(found, batches=dataclasses.replace(found.batches, preprocessor=crops_and_flips))
    for plain, batch in zip(batches_of(found), batches_of(fixed(found)), strict=True):
        assert torch.equal(plain.inputs, batch.inputs) and torch.equal(plain.labels, batch.labels)
        assert torch.equal(plain.gt_maps, batch.gt_maps)


@pytest.mark.parametrize("mode", ["malformed_normal_gt", "malformed_normal", "noise"])
@pytest.mark.parametrize("nominal_label", [0, 1])
def test_rendered_anomalies_take_the_places_of_the_replaced_samples(mode, nominal_label):
    sections = {"anomalies": {"mode": mode, "source": "chips"}, "images": {"nominal_label": nominal_label, "size": 32}}
    found = made(preprocessing="none", **sections)
    row = found.batches.planner.row(np.arange(40), 1, 0)
    replaced = plan_of(row).replaced
    assert 10 < replaced.sum() < 30
    for each in (found, fixed(found)):
        batch = each.batches.compose(row)
        clean = found.batches.preprocessor.test(found.batches.nominal)
        changed = (batch.inputs != clean).any(dim=1, keepdim=True)
        assert torch.equal(changed.flatten(1).any(dim=1), replaced)
        assert torch.equal(batch.labels, (replaced ^ bool(nominal_label)).long())
        if mode == "malformed_normal_gt" and not nominal_label:
            assert torch.equal(batch.gt_maps.bool(), changed)
        else:
            assert torch.equal(batch.gt_maps.flatten(1).amin(1), batch.labels.to(torch.uint8))


def test_fixed_batches_repeat_their_bits_and_differ_between_steps():
    found = fixed(made(preprocessing="aug1"))
    one, again, later = (found.batches.batch(np.arange(40), 1, step).inputs for step in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, later)
