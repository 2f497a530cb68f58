"""What networks draw in training, by counted draws as on a GPU."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from fcdd_sweep.anomalies.draws import CounterDraws
from fcdd_sweep.training.dropout import CountedDropout


def counted(key=5):
    return CountedDropout(CounterDraws(torch.tensor(key)))


def test_dropout_drops_the_share_it_should_and_scales_the_rest():
    values = torch.full((40, 1000), 2.0, requires_grad=True)
    before = torch.get_rng_state()
    with counted():
        kept = nn.Dropout(0.25)(values)
    assert torch.equal(torch.get_rng_state(), before)
    assert kept.unique().tolist() == pytest.approx([0.0, 2.0 / 0.75])
    assert abs((kept == 0).float().mean().item() - 0.25) < 0.01
    kept.sum().backward()
    assert torch.allclose(values.grad, kept.detach() / 2)


def test_two_layers_draw_apart_and_a_step_repeats_its_draws():
    values = torch.ones(8, 50)
    with counted():
        first, second = functional.dropout(values), functional.dropout(values)
    with counted():
        again = functional.dropout(values)
    with counted(6):
        other = functional.dropout(values)
    assert torch.equal(first, again) and not torch.equal(first, second) and not torch.equal(first, other)


def test_stochastic_depth_leaves_out_whole_samples():
    with counted():
        kept = StochasticDepth(0.4, "row")(torch.ones(2000, 3, 2, 2)).flatten(1)
    assert torch.equal(kept.amin(1), kept.amax(1))
    assert abs((kept[:, 0] == 0).float().mean().item() - 0.4) < 0.04
    assert torch.allclose(kept[kept > 0], torch.tensor(1 / 0.6))


def test_nothing_is_dropped_while_scoring():
    values = torch.ones(4, 5)
    with counted():
        assert torch.equal(nn.Dropout(0.5).eval()(values), values)
        assert torch.equal(functional.dropout(values, 0.0), values)
