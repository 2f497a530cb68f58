"""Random numbers: torch's own where a generator gives them, and the same on every device where they are counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from fcdd_sweep.anomalies import render
from fcdd_sweep.anomalies.draws import CountedGenerator, CounterDraws, GeneratorDraws, numbered
from fcdd_sweep.anomalies.registry import SOURCES


def counted(key=1234567, first=0):
    return CounterDraws(torch.tensor(key), first)


def seeded():
    return torch.Generator().manual_seed(3)


def test_counted_draws_are_the_outputs_of_splitmix64():
    """The first outputs for seed 1234567, as the published program prints them."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [bits % 2**64 for bits in counted()._bits(1, 4)[0].tolist()] == published


def test_the_host_counts_as_the_device_does():
    wanted = [bits % 2**64 for bits in counted()._bits(1, 9)[0].tolist()]
    assert numbered(1234567, np.arange(9, dtype=np.uint64)).tolist() == wanted


def test_decisions_of_the_host_are_the_draws_of_the_device():
    for first, key in ((0, 5), (3, 2**63 - 1), (10**7, 0)):
        host, device = CountedGenerator(key, first), counted(key, first)
        np.testing.assert_array_equal(host.random(9), device.uniform(9))
        np.testing.assert_array_equal(host.integers(-3, 11, 9), device.integers(-3, 11, 9))
        np.testing.assert_array_equal(host.uniform(-1, 1, (9, 4)), 2 * device.uniform(9, 4).double() - 1)
        np.testing.assert_array_equal(host.integers(0, 2**30, 5), device.integers(0, 2**30, 5))  # fewer samples
        np.testing.assert_array_equal(host.random(12)[8:], device.uniform(12)[8:])  # and more of them


@pytest.mark.parametrize("draw", [CounterDraws.uniform, CounterDraws.normal, lambda d, *n: d.integers(-9, 90, *n)])
def test_a_sample_draws_the_same_in_any_batch(draw):
    draws, alone = counted(), counted(first=3)
    for shape in ((2, 5), (4,)):
        batch = draw(draws, 7, *shape)
        assert torch.equal(batch[3:5], draw(alone, 2, *shape))
        assert len({float(value) for value in batch.flatten()}) > len(batch.flatten()) / 2


def test_draws_of_a_sample_follow_each_other_however_they_are_taken():
    one, other = counted(), counted()
    whole = one.uniform(4, 6)
    assert torch.equal(torch.cat([other.uniform(4, 2), other.uniform(4, 4)], dim=1), whole)


def test_other_keys_give_other_draws():
    assert not (counted(1).uniform(50, 50) == counted(2).uniform(50, 50)).any()


def test_counted_draws_have_their_distributions():
    uniform, normal = counted(5).uniform(300, 1001).double(), counted(6).normal(300, 1001).double()
    assert 0 <= uniform.min() < 1e-4 and 1 - 1e-4 < uniform.max() < 1
    assert stats.kstest(uniform.flatten().numpy(), "uniform").pvalue > 0.001
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 0.001
    whole = counted(7).integers(-256, 0, 300, 1001)
    assert (whole.min(), whole.max()) == (-256, -1)
    assert stats.chisquare(np.bincount(whole.flatten().numpy() + 256)).pvalue > 0.001
    for values in (uniform, normal):  # neighbors in a sample, of two samples, and the two numbers of one draw
        for one, other in (
            (values[:, 1:], values[:, :-1]),
            (values[1:], values[:-1]),
            (values[:, 501:], values[:, :500]),
        ):
            size = min(one.shape[1], other.shape[1])
            correlation = np.corrcoef(one[:, :size].flatten().numpy(), other[:, :size].flatten().numpy())[0, 1]
            assert abs(correlation) < 4 / np.sqrt(one[:, :size].numel())


def test_a_generator_gives_what_torch_draws_from_it():
    draws, plain = GeneratorDraws(seeded()), seeded()
    assert torch.equal(draws.uniform(3, 2), torch.rand(3, 2, generator=plain))
    assert torch.equal(draws.integers(0, 9, 3, dtype=torch.int16), torch.randint(0, 9, (3,), generator=plain).short())
    assert torch.equal(draws.normal(3, 2), torch.randn(3, 2, generator=plain))


@pytest.mark.parametrize("source", SOURCES)
def test_a_rendered_anomaly_is_the_same_alone_and_in_a_batch(source):
    batch, alone = (render(source, n, (3, 40, 32), counted(9, first)) for n, first in ((6, 0), (1, 4)))
    assert batch.dtype == torch.int16 and torch.equal(batch[4:5], alone)
    assert batch.flatten(1).any(dim=1).all()  # whatever is rendered, it is not empty
    assert not torch.equal(batch[3], batch[4])


@pytest.mark.parametrize("source", SOURCES)
def test_counted_anomalies_look_like_those_of_a_generator(source):
    """Mean, spread and share of changed values by image; the largest of three differences in standard errors."""
    samples = [
        render(source, 300, (3, 64, 64), draws).float().flatten(1) for draws in (counted(8), GeneratorDraws(seeded()))
    ]
    for figure in (lambda x: x.mean(1), lambda x: x.std(1), lambda x: (x != 0).float().mean(1)):
        one, two = (figure(images).double().numpy() for images in samples)
        assert abs(one.mean() - two.mean()) <= 3.5 * np.hypot(stats.sem(one), stats.sem(two)) + 1e-9
