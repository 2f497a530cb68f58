"""Optimizers and schedules against torch's own, bit for bit, and what they import."""

import subprocess
import sys

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR, MultiStepLR

from fcdd_sweep.config.training_schema import Training
from fcdd_sweep.training.optimizers import RateSchedule, make_optimizer
from fcdd_sweep.training.state import copied_to_cpu
from tests.specs import SETTINGS

DECAY = 1e-3
SETTINGS_OF = {
    "SGD": {"optimizer": "sgd", "momentum": 0.9},
    "SGD without momentum": {"optimizer": "sgd", "momentum": 0.0},
    "Adam": {"optimizer": "adam"},
}
SCHEDULES = {
    "exponential": {"type": "exponential", "factor": 0.985},
    "milestones": {"type": "milestones", "milestones": [2, 3], "factor": 0.1},
}


def training(kind="SGD", schedule="exponential"):
    options = {**SETTINGS["training"], **SETTINGS_OF[kind], "weight_decay": DECAY, "schedule": SCHEDULES[schedule]}
    return Training.model_validate(options)


def parameters(count=3):
    draws = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(4, 5, generator=draws)) for _ in range(count)]


def torchs(values, chosen):
    if chosen.optimizer == "adam":
        return torch.optim.Adam(values, lr=chosen.learning_rate, weight_decay=DECAY)
    momentum = chosen.momentum
    return torch.optim.SGD(
        values, lr=chosen.learning_rate, momentum=momentum, nesterov=momentum > 0, weight_decay=DECAY
    )


def step(optimizer, values, number):
    """Make one step with the gradients of that number; the last parameter has one in every second step alone."""
    optimizer.zero_grad()
    draws = torch.Generator().manual_seed(number)
    for place, value in enumerate(values):
        gradient = torch.randn(value.shape, generator=draws)
        if number % 2 or place < len(values) - 1:
            value.grad = gradient
    optimizer.step()


@pytest.mark.parametrize("kind", SETTINGS_OF)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_parameters_and_learning_rates_equal_those_of_torch_bit_for_bit(kind, schedule):
    chosen = training(kind, schedule)
    ours, theirs = parameters(), parameters()
    optimizer, expected = make_optimizer(ours, chosen), torchs(theirs, chosen)
    plan = chosen.schedule
    is_exponential = schedule == "exponential"
    other = (
        ExponentialLR(expected, plan.factor) if is_exponential else MultiStepLR(expected, plan.milestones, plan.factor)
    )
    schedules = RateSchedule(optimizer, plan), other
    for number in range(12):
        step(optimizer, ours, number)
        step(expected, theirs, number)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        if number % 3 == 2:
            for each in schedules:
                each.step()
            assert optimizer.learning_rate == expected.param_groups[0]["lr"]
    assert optimizer.learning_rate < chosen.learning_rate


@pytest.mark.parametrize("kind", SETTINGS_OF)
def test_training_continues_from_a_state_of_torchs_own_optimizer(kind):
    chosen = training(kind)
    ours, theirs = parameters(), parameters()
    optimizer, expected = make_optimizer(ours, chosen), torchs(theirs, chosen)
    schedule = ExponentialLR(expected, 0.5)
    for number in range(3):
        step(expected, theirs, number)
    schedule.step()
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            mine.copy_(other)
    optimizer.load_state_dict(copied_to_cpu(expected.state_dict()))
    resumed = RateSchedule(optimizer, chosen.schedule)
    resumed.load_state_dict(schedule.state_dict())
    assert optimizer.learning_rate == chosen.learning_rate / 2 and resumed.state_dict() == {"last_epoch": 1}
    step(optimizer, ours, 3)
    step(expected, theirs, 3)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_state_of_other_parameters_is_refused():
    optimizer = make_optimizer(parameters(), training())
    values = parameters(2)
    other = make_optimizer(values, training())
    step(other, values, 1)
    with pytest.raises(ValueError, match="not one of 3 parameters"):
        optimizer.load_state_dict(other.state_dict())
    state = other.state_dict() | {"param_groups": optimizer.state_dict()["param_groups"]}
    state["state"] = {0: {"momentum_buffer": torch.zeros(7)}}
    with pytest.raises(ValueError, match=r"momentum_buffer of parameter 0 has shape \(7,\)"):
        optimizer.load_state_dict(state)


def test_frozen_parameters_are_no_part_of_it():
    values = parameters()
    values[0].requires_grad_(False)
    optimizer = make_optimizer(values, training())
    assert optimizer.state_dict()["param_groups"][0]["params"] == [0, 1]


@pytest.mark.slow
def test_training_imports_no_compiler():
    program = """
import sys, torch
from tests.specs import defects_corpus, spec
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.trainer import train
train(spec(training={"epochs": 1}), TrialData(defects_corpus()))
print([name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
