"""Random streams: keyed by name, epoch and step, and by nothing else."""

from __future__ import annotations

import hashlib
from typing import get_args

import numpy as np
import pytest
import torch

from fcdd_sweep.training.streams import _NUMBER, Stream, Streams


def test_streams_depend_on_seed_class_name_and_key_alone():
    first, again = Streams(3, "bottle"), Streams(3, "bottle")
    again.numpy("order", 1).random(100)
    draw = first.numpy("order", 2, 1).random()
    assert again.numpy("order", 2, 1).random() == draw
    others = [
        Streams(4, "bottle").numpy("order", 2, 1),
        Streams(3, "cable").numpy("order", 2, 1),
        first.numpy("limit", 2, 1),
        first.numpy("order", 1, 2),
    ]
    assert len({draw, *(other.random() for other in others)}) == 5


def test_every_stream_has_a_number_of_its_own():
    assert _NUMBER.keys() == set(get_args(Stream))
    assert sorted(_NUMBER.values()) == list(range(len(_NUMBER)))


@pytest.mark.parametrize(
    ("stream", "key", "value"),
    [("weights", (), 7515622180856848257), ("dropout", (3, 5), 950224669025901469)],
)
def test_draws_stay_those_of_published_results(stream, key, value):
    """A change here changes every result: raise NUMERICS_VERSION with it."""
    assert Streams(3, "bottle").integer(stream, *key) == value


def test_torch_generators_are_seeded_by_the_same_key():
    streams = Streams(0, "plain")
    generator = streams.torch("offline", 1, 2)
    assert generator.initial_seed() == streams.integer("offline", 1, 2) < 2**63
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=streams.torch("offline", 1, 2)))


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32, 2**70 + 5])
def test_streams_are_children_of_numpy_s_seed_sequence(seed):
    words = np.frombuffer(hashlib.sha256(b"plain").digest()[:16], dtype="<u4").tolist()
    child = np.random.SeedSequence([seed, *words], spawn_key=(3, 5, 8))  # stream 3 is `anomalies`
    wanted = np.random.default_rng(child).integers(2**62, size=4)
    assert Streams(seed, "plain").numpy("anomalies", 5, 8).integers(2**62, size=4).tolist() == wanted.tolist()


def test_keys_of_counted_draws_depend_on_nothing_that_came_before():
    names = [(stream, epoch) for stream in ("anomalies", "dropout") for epoch in (1, 2)]
    streams = Streams(0, "plain")
    keys = [key for name in names for key in streams.keys(*name, range(9)).tolist()]
    assert keys == [int(streams.keys(*name, range(step, step + 1))[0]) for name in names for step in range(9)]
    assert len(set(keys)) == 9 * len(names) and all(0 <= key < 2**63 for key in keys)
    assert set(keys).isdisjoint(key for name in names for key in Streams(1, "plain").keys(*name, range(9)).tolist())


def test_counted_decisions_depend_on_seed_class_stream_epoch_and_sample_alone():
    whole = Streams(3, "bottle").counted("anomalies", 2).random(40)
    np.testing.assert_array_equal(Streams(3, "bottle").counted("anomalies", 2, 15).random(9), whole[15:24])
    others = [
        Streams(4, "bottle").counted("anomalies", 2),
        Streams(3, "cable").counted("anomalies", 2),
        Streams(3, "bottle").counted("augmentation", 2),
        Streams(3, "bottle").counted("anomalies", 3),
    ]
    assert all(set(whole).isdisjoint(other.random(40)) for other in others)


def test_decisions_of_the_host_share_no_draw_with_the_keys_of_the_device():
    streams = Streams(0, "plain")
    bits = streams.counted("augmentation", 1).integers(0, 2**30, (5, 50))
    assert set(streams.keys("augmentation", 1, range(50)) >> 33).isdisjoint(bits.flatten().tolist())
