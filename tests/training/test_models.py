"""Networks have the memory layout of the settings, built or loaded; files do not depend on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fcdd_sweep.training.batches import Batch
from fcdd_sweep.training.detector import load_detector
from fcdd_sweep.training.models import make_network
from fcdd_sweep.training.network import outputs_of
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.tiling import detect_in_tiles
from fcdd_sweep.training.trainer import sample_losses, train
from tests.specs import defects_corpus, settings, spec

CPU = torch.device("cpu")
RGB = {"images": {"color": "rgb"}, "network": {"name": "FCDD_CNN28_W"}, "preprocessing": "none"}


def kernels(network):
    """The weights whose layout can be told: of several channels in and several pixels."""
    return [each for each in network.parameters() if each.ndim == 4 and each.shape[1] > 1 and each.shape[2] > 1]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_weights_lie_as_the_settings_say_when_built_and_when_loaded(layout, tmp_path):
    corpus = defects_corpus(channels=3)
    result = train(spec(**RGB, training={"layout": layout, "learning_rate": 0.001}), TrialData(corpus))
    assert all(tensor.is_contiguous() for tensor in result.snapshot["network"].values())
    assert (result.metrics["training_layout"], result.metrics["training_precision"]) == (layout, "fp32")
    torch.save(result.snapshot, tmp_path / "snapshot.pt")
    loaded = load_detector(tmp_path / "snapshot.pt", "cpu")
    assert kernels(loaded.network)
    for kernel in kernels(loaded.network):
        assert kernel.is_contiguous(memory_format=loaded.network.layout)
        assert kernel.is_contiguous() == (layout == "contiguous")
    again = loaded.detect(corpus.images[corpus.is_test]).scores.numpy()
    assert again.tolist() == result.scores["score"][-len(again) :]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("method", ["fcdd", "hsc", "ae"])
def test_how_images_lie_changes_no_bit(method, layout):
    names = {"fcdd": "FCDD_CNN28_W", "hsc": "CNN28", "ae": "AE28"}
    chosen = settings(
        method=method,
        network={"name": names[method]},
        images={"color": "rgb"},
        training={"layout": layout, "supervision": "labels"},
    )
    network = make_network(chosen, CPU, 0)
    rows = torch.rand(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    pixels = rows.contiguous(memory_format=torch.channels_last)
    assert torch.equal(outputs_of(network.eval(), rows), outputs_of(network, pixels))
    labels = torch.tensor([0, 1, 0, 1])
    losses = [sample_losses(network, Batch(inputs, labels, None), chosen) for inputs in (rows, pixels)]
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0)


def test_both_layouts_compute_the_same_numbers_up_to_rounding_whole_and_in_tiles(tmp_path):
    corpus = defects_corpus(channels=3)
    trained = train(spec(**RGB, training={"layout": "contiguous", "learning_rate": 0.001}), TrialData(corpus))
    snapshot = trained.snapshot
    torch.save(snapshot, tmp_path / "contiguous.pt")
    snapshot["settings"]["training"]["layout"] = "channels_last"
    torch.save(snapshot, tmp_path / "channels_last.pt")
    one, other = (load_detector(tmp_path / f"{name}.pt", "cpu") for name in ("contiguous", "channels_last"))
    assert one.network.layout != other.network.layout
    images = corpus.images[corpus.is_test]
    torch.testing.assert_close(one.detect(images).maps, other.detect(images).maps, rtol=1e-4, atol=1e-6)
    tiled = [detect_in_tiles(each, images[0], tile=8).score for each in (one, other)]
    assert tiled[0] == pytest.approx(tiled[1], rel=1e-5)
    assert tiled[0] == pytest.approx(float(one.detect(images[:1]).scores[0]), rel=1e-5)


def test_half_precision_leaves_statistics_losses_moments_and_scores_in_float32():
    corpus = defects_corpus(channels=3)
    results = {
        name: train(spec(**RGB, training={"precision": name, "learning_rate": 0.001}), TrialData(corpus))
        for name in ("fp32", "bf16")
    }
    assert [results[name].metrics["training_precision"] for name in results] == ["fp32", "bf16"]
    full, half = (results[name].snapshot for name in results)
    floats = [tensor.dtype for tensor in half["network"].values() if tensor.is_floating_point()]
    moments = [kept["momentum_buffer"].dtype for kept in half["optimizer"]["state"].values()]
    assert {*floats, *moments} == {torch.float32}
    assert not torch.equal(full["network"]["layers.0.weight"], half["network"]["layers.0.weight"])
    for name in ("layers.1.running_mean", "layers.1.running_var"):  # sums of 12,544 values in bfloat16 would be far off
        torch.testing.assert_close(half["network"][name], full["network"][name], rtol=0.02, atol=0.01)
    assert np.allclose(results["fp32"].scores["score"], results["bf16"].scores["score"], rtol=0.2)
