"""The step of training, for one trial and for several that share a program."""

from dataclasses import replace

import pytest
import torch

from fcdd_sweep.training import anomaly_pools
from fcdd_sweep.training.engine import EagerProgram, copy_rows
from fcdd_sweep.training.models import make_network
from fcdd_sweep.training.trainer import begin
from tests.prepared import FOLDER, Patchy, made, pixels


def started(seed, **training):
    batches = made(seed=seed, training=training).batches
    network = make_network(batches.settings, torch.device("cpu"), seed)
    network.train()
    return batches, begin(network, batches, 0.0).member


def steps(program, planners, count=3):
    for rows in list(zip(*(planner.rows(1) for planner in planners), strict=True))[:count]:
        program.step(rows)


def test_trials_that_share_a_program_get_the_bits_that_they_get_alone():
    trials = [(0, {"learning_rate": 0.01}), (3, {"learning_rate": 0.1}), (5, {"optimizer": "adam"})]
    together = [started(seed, **training) for seed, training in trials]
    steps(EagerProgram([member for _, member in together]), [batches.planner for batches, _ in together])
    for (seed, training), (_, shared) in zip(trials, together, strict=True):
        batches, alone = started(seed, **training)
        before = {name: value.clone() for name, value in alone.network.state_dict().items()}
        steps(EagerProgram([alone]), [batches.planner])
        for name, value in alone.network.state_dict().items():
            assert torch.equal(value, shared.network.state_dict()[name])
        assert torch.equal(alone.sums, shared.sums) and alone.sums[2:].sum() == 40
        assert any(not torch.equal(value, before[name]) for name, value in alone.network.state_dict().items())


def test_a_member_that_diverges_costs_the_others_nothing():
    batches, member = started(0)
    broken_batches, broken = started(1)
    poisoned = replace(broken, losses_of=lambda batch: broken.losses_of(batch) * torch.nan)
    steps(EagerProgram([member, poisoned]), [batches.planner, broken_batches.planner])
    _, alone = started(0)
    steps(EagerProgram([alone]), [batches.planner])
    assert torch.equal(member.sums, alone.sums) and poisoned.sums.isnan().any()


@pytest.mark.parametrize("streamed", [False, True])
def test_rows_of_several_trials_come_one_behind_the_other_in_one_copy(monkeypatch, streamed):
    if streamed:
        monkeypatch.setattr(anomaly_pools, "RESIDENT_BYTES", 1000)
    options = {"exposure": Patchy(pixels(9)), "anomalies": FOLDER, "training": {"batch_size": 15}}
    planners = [replace(made(seed=seed, **options).batches.planner, counted=True) for seed in range(3)]
    for rows in zip(*(planner.rows(1) for planner in planners), strict=True):  # the last ones have ten samples
        contents = torch.full((3 * rows[0].layout.size,), 7, dtype=torch.uint8)
        copy_rows(rows, contents)
        for row, content in zip(rows, contents.split(row_size := rows[0].layout.size), strict=True):
            assert torch.equal(content[: row.used], row.memory[: row.used]) and len(content) == row_size
            assert torch.equal(row.layout.tensors(content).pick, row.layout.tensors(row.memory).pick)
        alone = torch.full((row_size,), 7, dtype=torch.uint8)
        copy_rows(rows[1:2], alone)
        used = rows[1].used
        assert torch.equal(alone[:used], rows[1].memory[:used]) and (alone[used:] == 7).all()
