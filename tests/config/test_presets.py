"""Every experiment of the paper: planned from its file as it is, and trained for two steps on files in its formats."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torchvision

from fcdd_sweep import cli
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.data.corpus import split_for
from fcdd_sweep.data.registry import MVTEC_CLASSES
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.results import files
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners.trial_data import corpus_of
from fcdd_sweep.sweep.sweep import run_sweep
from tests import imagenet_trees, trees
from tests.formats import (
    numbered,
    write_batch,
    write_cifar10,
    write_cifar100,
    write_emnist,
    write_idx,
    write_mnist,
    write_voc,
)

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
BUILT_IN = {"digits", "textures", "demo", "solar", "folder"}
EXPOSED = "anomalies.source={{dataset: {name}, root: {root}}}"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Each data set in its own format, small."""
    root = tmp_path_factory.mktemp("data")
    write_mnist(root, "FashionMNIST")
    write_idx(root / "FashionMNIST" / "raw", "train", numbered(12), [*range(10), 0, 1])  # plans want every class
    write_emnist(root)
    write_cifar10(root)
    write_batch(root / "cifar-10-batches-py" / "data_batch_1", numbered(10, (3072,)), range(10))
    write_cifar100(root)
    write_voc(root / "voc")
    trees.write_mvtec(root / "mvtec", classes=MVTEC_CLASSES, train=4, test=2)
    imagenet_trees.write_ilsvrc(root / "imagenet")
    imagenet_trees.write_tars(
        root / "imagenet22k", {wnid: imagenet_trees.training_images(2)[wnid] for wnid in imagenet_trees.OTHERS}
    )
    trees.write_class_first(root / "custom")
    trees.write_one_vs_rest(root / "custom_ovr")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with the names and shapes of ImageNet's weights of VGG11's convolutions."""
    path = tmp_path_factory.mktemp("weights") / "vgg11_bn.pth"
    features = torchvision.models.vgg11_bn(weights=None).features.state_dict()
    torch.save({f"features.{name}": tensor for name, tensor in features.items()}, path)
    return path


PAPER = {
    "fmnist": ("", "cifar100", ["dataset.classes=[0]"]),
    "fmnist_emnist": ("", "emnist", ["dataset.classes=[0]"]),
    "cifar10": ("", "cifar100", ["dataset.classes=[0]"]),
    "cifar10_limit8": ("", "cifar100", ["dataset.classes=[0]"]),
    "cifar10_hsc": ("", "cifar100", ["dataset.classes=[0]"]),
    "cifar10_ae": ("", "", ["dataset.classes=[0]"]),
    "imagenet": ("imagenet", "imagenet22k", ["dataset.classes=[acorn]"]),
    "mvtec": ("mvtec", "", ["dataset.classes=[bottle]"]),
    "mvtec_semi": ("mvtec", "", ["dataset.classes=[bottle]"]),
    "pascalvoc": ("voc", "imagenet", []),
    "custom": ("custom", "imagenet22k", ["dataset.classes=[bolt]"]),
    "custom_ovr": ("custom_ovr", "imagenet22k", ["dataset.classes=[cat]"]),
    "custom_other": ("custom", "", ["dataset.classes=[bolt]"]),
}
"""Folder of the data, data set of the outlier exposure, and which class is trained here."""
PRETRAINED = {"mvtec", "mvtec_semi", "custom", "custom_ovr", "custom_other"}


def placed(name, data, weights):
    """Overrides that say where data and weights are."""
    folder, exposed, _ = PAPER[name]
    overrides = [f"dataset.root={data / folder}"]
    if exposed:
        place = data if exposed in ("cifar100", "emnist") else data / exposed
        overrides.append(EXPOSED.format(name=exposed, root=place))
    return [*overrides, f"network.weights={weights}"] if name in PRETRAINED else overrides


SEARCHES = {
    "search_digits": ("", "", "6 trials per config (3 classes x 2 seeds)"),
    "search_cifar10": ("", "cifar100", "6 trials per config (3 classes x 2 seeds)"),
    "search_mvtec": ("mvtec", "", "15 trials per config (15 classes x 1 seed)"),
}
"""Folder of the data, data set of the outlier exposure, and what configs are evaluated by."""


def test_every_experiment_file_is_tested():
    assert {path.stem for path in EXPERIMENTS.glob("*.yaml")} == BUILT_IN | PAPER.keys() | SEARCHES.keys()


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.slow
def test_searches_can_be_planned(name, data, weights, capsys):
    folder, exposed, selection = SEARCHES[name]
    overrides = [f"dataset.root={data / folder}"] if name != "search_digits" else []
    overrides += [EXPOSED.format(name=exposed, root=data)] if exposed else []
    overrides += [f"network.weights={weights}"] if name == "search_mvtec" else []
    given = [word for text in overrides for word in ("--set", text)]
    assert cli.main([str(EXPERIMENTS / f"{name}.yaml"), *given, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{name}: a search of at most ") and selection in out and "training.learning_rate" in out


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_experiments_can_be_planned(name, data, weights, capsys):
    overrides = [word for text in placed(name, data, weights) for word in ("--set", text)]
    assert cli.main([str(EXPERIMENTS / f"{name}.yaml"), *overrides, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{name}: ") and " x 5 seeds" in out


FORMATS = ("fmnist", "mvtec_semi")
"""An experiment on small images and one on photographs with maps; `make test-long` trains all."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FORMATS else pytest.mark.long) for name in PAPER]
)
@pytest.mark.slow
def test_the_papers_experiments_train_two_steps_on_data_in_their_formats(name, data, weights, tmp_path):
    """One class, one seed, one pass in two batches; photographs are small, everything else is as in the file."""
    path = EXPERIMENTS / f"{name}.yaml"
    raw = 64 if name == "pascalvoc" else 72
    overrides = [
        f"output={tmp_path}",
        "seeds=1",
        "training.epochs=1",
        "training.passes_per_epoch=1",
        *placed(name, data, weights),
        *PAPER[name][2],
        *([f"images.load_size={raw}", "images.size=64"] if load_experiment(path).images.size == 224 else []),
    ]
    count = n_training(path, overrides)
    experiment = load_experiment(path, [*overrides, f"training.batch_size={max(2, count // 2)}"])
    result = run_sweep(experiment, local=True)
    assert (result.done, result.failed) == (1, 0)
    (row,) = files.read_table(RunPaths(experiment.run_dir).trials).to_pylist()
    assert math.isfinite(row["final_loss"]) and row["n_train"] == count
    assert row["image_auroc"] is not None
    assert (row["pixel_auroc"] is not None) == name.startswith("mvtec")


def n_training(path, overrides):
    """Nominal training images of the class that is trained."""
    (spec,) = plan(load_experiment(path, overrides)).specs
    return len(split_for(corpus_of(spec.settings), spec.normal_class).train_nominal)


def test_the_papers_numbers_are_in_the_files():
    """Section by section of the paper's appendix: network, batch, epochs, optimizer, rate, decay, quantile, std."""
    found = {}
    for name in ("fmnist", "cifar10", "mvtec", "imagenet", "pascalvoc", "custom"):
        settings = load_experiment(EXPERIMENTS / f"{name}.yaml")
        training, drawn = settings.training, settings.heatmaps
        found[name] = (
            settings.network.name.removeprefix("FCDD_"),
            training.batch_size,
            training.epochs * training.passes_per_epoch,
            training.optimizer,
            training.learning_rate,
            training.weight_decay,
            settings.preprocessing,
            drawn.color_quantile,
            drawn.kernel_std_px,
        )
    assert found == {
        "fmnist": ("CNN28_W", 128, 400, "sgd", 1e-2, 1e-6, "lcnaug1", 0.85, 1.2),
        "cifar10": ("CNN32_LW3K", 200, 600, "adam", 1e-3, 1e-6, "aug1", 0.85, 1.2),
        "mvtec": ("CNN224_VGG_F", 128, 2000, "sgd", 1e-3, 1e-4, "lcnaug1", 0.99, 12),
        "imagenet": ("CNN224_VGG_NOPT", 200, 600, "adam", 1e-3, 1e-6, "aug1", 0.97, 8),
        "pascalvoc": ("CNN224_VGG_NOPT", 200, 600, "adam", 1e-3, 1e-6, "aug1", 0.99, 8),
        "custom": ("CNN224_VGG_F", 128, 200, "sgd", 1e-3, 1e-6, "aug1", 0.97, 10),
    }
