"""Data from the driver for a machine that has none: decoded images and weights."""

from dataclasses import fields

import numpy as np
import pytest

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.schema import Network
from fcdd_sweep.networks.describe import imagenet_of
from fcdd_sweep.runners import data_transfer
from fcdd_sweep.runners.data_transfer import TransferableData, weights_files
from fcdd_sweep.runners.node_check import transferable_data
from fcdd_sweep.runners.trial_data import corpus_of, exposure_of, fingerprint_of, forget_data
from tests.specs import spec
from tests.trees import write_images, write_mvtec, write_one_vs_rest


class Travel:
    """Brings files a few bytes at a time, and counts them."""

    def __init__(self):
        self.files = []

    def __call__(self, path, size):
        content = path.read_bytes()
        assert len(content) == size
        self.files.append(path.name)
        yield from (content[start : start + 1000] for start in range(0, size, 1000))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Moves this process to another machine: a cache of its own, and none of the data."""

    def move(*folders):
        for folder in folders:
            folder.rename(folder.with_name(f"{folder.name}-at-the-driver"))
        monkeypatch.setenv("FCDD_SWEEP_CACHE", str(tmp_path / "its cache"))
        forget_data()

    monkeypatch.setenv("FCDD_SWEEP_CACHE", str(tmp_path / "the driver's cache"))
    forget_data()
    yield move
    forget_data()


def same(one, other):
    return type(one) is type(other) and all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)
    )


def test_a_data_set_is_read_as_the_driver_reads_it_and_travels_once(tmp_path, machine):
    root = write_mvtec(tmp_path / "mvtec")
    trial = spec(normal_class="bottle", dataset={"name": "mvtec", "root": root, "classes": ["bottle"]})
    there, fingerprint, sent = corpus_of(trial.settings), fingerprint_of(trial), transferable_data([trial])
    machine(root)
    with pytest.raises(DataError, match="there is no folder"):
        corpus_of(trial.settings)
    travel = Travel()
    for _ in range(2):  # the second worker of the machine finds the files
        sent.receive(travel)
        assert same(corpus_of(trial.settings), there) and fingerprint_of(trial) == fingerprint
        forget_data()
    assert sorted(travel.files) == ["images.npy", "masks.bin", "meta.json", "tables.npz"]


@pytest.mark.parametrize("kind", ["folder", "data set"])
def test_outlier_exposure_travels_too(tmp_path, machine, kind):
    root, others = write_mvtec(tmp_path / "mvtec"), tmp_path / "others"
    if kind == "folder":
        write_images(others, 3)
        source = {"folder": others}
    else:
        write_one_vs_rest(others)
        source = {"dataset": "folder", "root": others}
    trial = spec(
        normal_class="bottle",
        dataset={"name": "mvtec", "root": root, "classes": ["bottle"]},
        anomalies={"mode": "malformed_normal", "source": source},
        training={"supervision": "labels"},
    )
    there, fingerprint, sent = exposure_of(trial.settings), fingerprint_of(trial), transferable_data([trial])
    machine(root, others)
    sent.receive(Travel())
    assert len(there) and same(exposure_of(trial.settings), there) and fingerprint_of(trial) == fingerprint


def test_a_machine_with_the_folder_reads_its_own_files(tmp_path, machine):
    root = write_mvtec(tmp_path / "mvtec")
    trial = spec(normal_class="bottle", dataset={"name": "mvtec", "root": root, "classes": ["bottle"]})
    sent = transferable_data([trial])
    machine()
    travel = Travel()
    sent.receive(travel)
    assert corpus_of(trial.settings).classes[:1] == ("bottle",) and not travel.files


def test_data_above_the_limit_is_an_error_and_not_sent(tmp_path, machine, monkeypatch):
    root = write_mvtec(tmp_path / "mvtec")
    sent = transferable_data(
        [spec(normal_class="bottle", dataset={"name": "mvtec", "root": root, "classes": ["bottle"]})]
    )
    machine(root)
    monkeypatch.setattr(data_transfer, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match=r"mvtec: the folder does not exist, and its 0\.\d GB of decoded images exceed"):
        sent.receive(Travel())


@pytest.mark.slow
def test_data_that_is_rendered_needs_no_transfer(machine):
    assert transferable_data([spec(normal_class="brick")]) == TransferableData()


def test_weights_of_imagenet_travel_to_where_torch_looks_for_them(tmp_path, monkeypatch):
    network = Network(name="FCDD_CNN224_VGG_F")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "driver"))
    assert weights_files([network]) == ()
    file = imagenet_of(network).file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"w" * 2500)
    sent = TransferableData(weights=weights_files([network, Network(name="FCDD_CNN28")]))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "machine"))
    travel = Travel()
    for _ in range(2):
        sent.receive(travel)
    here = imagenet_of(network).file
    assert here != file and here.read_bytes() == b"w" * 2500 and travel.files == [file.name]
