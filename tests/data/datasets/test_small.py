"""MNIST's idx files and CIFAR's pickles: the images in them, and what is said of broken ones."""

from __future__ import annotations

import gzip
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.corpus import split_for
from fcdd_sweep.data.datasets import cifar
from fcdd_sweep.data.loading import load_corpus
from fcdd_sweep.data.scanning import check_dataset, dataset_facts
from tests.formats import (
    batch_bytes,
    idx_bytes,
    numbered,
    write_batch,
    write_cifar10,
    write_cifar100,
    write_emnist,
    write_idx,
    write_mnist,
)
from tests.trees import truncate

GRAY = Images(load_size=28, size=28, color="gray")
RGB = Images(load_size=32, size=32)
RAW, BATCHES = "MNIST/raw", "cifar-10-batches-py"
PICTURES, LABELS = f"{RAW}/train-images-idx3-ubyte", f"{RAW}/train-labels-idx1-ubyte"


def fashion(root: Path) -> Path:
    return write_mnist(root, "FashionMNIST")


@pytest.mark.parametrize("compressed", [False, True])
def test_idx_files_give_their_images_in_order(tmp_path: Path, compressed: bool) -> None:
    dataset = Dataset(name="mnist", root=write_mnist(tmp_path / "data", compressed=compressed))
    corpus = load_corpus(dataset, GRAY, tmp_path / "cache")
    np.testing.assert_array_equal(corpus.images[:, 0], np.concatenate([numbered(6, seed=0), numbered(4, seed=1)]))
    assert corpus.class_index.tolist() == [0, 1, 2, 0, 1, 0, 2, 1, 0, 0]
    assert corpus.is_test.tolist() == [False] * 6 + [True] * 4
    split = split_for(corpus, "1")
    assert split.train_nominal.tolist() == [1, 4] and split.train_anomalous.tolist() == [0, 2, 3, 5]
    assert split.test_defect == ("2", "", "0", "0")
    facts = dataset_facts(dataset)
    assert facts.trains_with_anomalies and not facts.maps and len(facts.classes) == 10


@pytest.mark.parametrize(("write", "name"), [(write_mnist, "mnist"), (fashion, "fmnist"), (write_emnist, "emnist")])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_root_may_be_any_of_the_folders(
    write: Callable[[Path], Path], name: str, depth: int, tmp_path: Path
) -> None:
    raw = next(write(tmp_path).glob("*/raw"))
    root = [tmp_path, raw.parent, raw][depth]
    assert len(load_corpus(Dataset(name=name, root=root), GRAY, tmp_path / "cache").images) == 10


@pytest.mark.parametrize("depth", [0, 1])
def test_a_sister_data_set_is_not_taken_for_the_one_asked_for(depth: int, tmp_path: Path) -> None:
    raw = write_mnist(tmp_path) / "MNIST" / "raw"
    (problem,) = check_dataset(Dataset(name="fmnist", root=[raw, raw.parent][depth]), GRAY)
    assert "files of 'fmnist' are missing in" in str(problem)


def test_letters_stand_upright_and_begin_at_one(tmp_path: Path) -> None:
    dataset = Dataset(name="emnist", root=write_emnist(tmp_path / "data"))
    corpus = load_corpus(dataset, GRAY, tmp_path / "cache")
    np.testing.assert_array_equal(corpus.images[:6, 0], numbered(6, seed=0).transpose(0, 2, 1))
    assert [corpus.classes[i] for i in corpus.class_index[:3]] == ["a", "b", "c"] and len(corpus.classes) == 26


def test_clothes_have_their_names() -> None:
    names = dataset_facts(Dataset(name="fmnist", root="/")).classes
    assert names[0] == "t-shirt/top" and names[-1] == "ankle boot" and len(names) == 10


def test_a_plain_file_goes_before_a_compressed_one(tmp_path: Path) -> None:
    root = write_mnist(tmp_path / "data")
    (root / f"{PICTURES}.gz").write_bytes(b"broken")
    assert check_dataset(Dataset(name="mnist", root=root), GRAY) == []


@pytest.mark.parametrize(("write", "name"), [(write_cifar10, "cifar10"), (write_cifar100, "cifar100")])
def test_cifar_gives_its_images_and_fine_labels(write: Callable[[Path], Path], name: str, tmp_path: Path) -> None:
    dataset = Dataset(name=name, root=write(tmp_path / "data"))
    corpus = load_corpus(dataset, RGB, tmp_path / "cache")
    count = 3 if name == "cifar10" else 4
    np.testing.assert_array_equal(corpus.images[:count], numbered(count, (3072,)).reshape(-1, 3, 32, 32))
    assert corpus.is_test.sum() == count
    (inside,) = (tmp_path / "data").iterdir()
    again = load_corpus(Dataset(name=name, root=inside), RGB, tmp_path / "cache")
    assert again.fingerprints == corpus.fingerprints


def test_the_classes_of_cifar_are_numbered_as_its_authors_do() -> None:
    hundred = dataset_facts(Dataset(name="cifar100", root="/")).classes
    assert len(hundred) == 100 and list(hundred) == sorted(hundred) and len(set(hundred)) == 100
    assert dataset_facts(Dataset(name="cifar10", root="/")).classes[3] == "cat"


def test_a_batch_pickled_again_by_python_3_is_read(tmp_path: Path) -> None:
    root = write_cifar10(tmp_path)
    content = {"data": numbered(3, (3072,)), "labels": [2, 1, 0]}
    (root / BATCHES / "test_batch").write_bytes(pickle.dumps(content, protocol=4))
    assert load_corpus(Dataset(name="cifar10", root=root), RGB, tmp_path / "cache").class_index[-3:].tolist() == [
        2,
        1,
        0,
    ]


@pytest.mark.slow
def test_looking_at_sixty_thousand_images_decodes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(60_000) % 10
    for stem in ("train", "t10k"):
        write_idx(tmp_path / RAW, stem, np.zeros((60_000, 28, 28), np.uint8), labels.tolist())
    monkeypatch.setattr("fcdd_sweep.data.datasets.idx._PICTURES", None)
    start = time.perf_counter()
    assert check_dataset(Dataset(name="mnist", root=tmp_path), GRAY) == []
    assert time.perf_counter() - start < 10  # about 0.5 s on a quiet core


def test_batches_are_unpickled_once_a_process_and_kept_without_their_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_cifar10(tmp_path)
    read: list[Path] = []
    original = cifar.read_batch
    monkeypatch.setattr(cifar, "read_batch", lambda path: read.append(path) or original(path))
    for _ in range(2):
        assert check_dataset(Dataset(name="cifar10", root=root), RGB) == []
    assert len(read) == 6
    assert cifar._LABELS(root / BATCHES / "test_batch").data.strides == (0, 0)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    root = write_cifar10(tmp_path / "data")
    dataset = Dataset(name="cifar10", root=root)
    first = load_corpus(dataset, RGB, tmp_path / "cache").fingerprints
    write_batch(root / BATCHES / "data_batch_1", numbered(3, (3072,), seed=9), [0, 1, 2])
    os.utime(root / BATCHES / "data_batch_1", ns=(1, 1))
    assert load_corpus(dataset, RGB, tmp_path / "cache").fingerprints != first


class Evil:
    """A pickle of this calls a program."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch '{self.mark}'",)


def test_a_pickle_that_calls_a_program_is_refused_and_calls_nothing(tmp_path: Path) -> None:
    root, mark = write_cifar10(tmp_path), tmp_path / "called"
    for protocol in (0, 2, 4):
        content = pickle.dumps({"data": Evil(mark), "labels": []}, protocol)
        (root / BATCHES / "data_batch_2").write_bytes(content)
        (problem,) = check_dataset(Dataset(name="cifar10", root=root), RGB)
        assert f"{BATCHES}/data_batch_2: is not a batch of CIFAR" in str(problem)
        assert f"it asks for {os.system.__module__}.system, which no batch holds" in str(problem)
    assert not mark.exists()


def put(path: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / path).write_bytes(content)


DATA = numbered(3, (3072,))
BROKEN: dict[str, tuple[str, Callable[[Path], Path], Callable[[Path], object], str]] = {
    "nothing there": (
        "mnist",
        lambda root: root.mkdir() or root,
        lambda root: None,
        "dataset.root: files of 'mnist' are missing in ROOT/MNIST/raw: train-images-idx3-ubyte[.gz], "
        "train-labels-idx1-ubyte[.gz], t10k-images-idx3-ubyte[.gz], t10k-labels-idx1-ubyte[.gz]. "
        "Place them there, or set dataset.download: true.",
    ),
    "a file is missing": (
        "mnist",
        write_mnist,
        lambda root: (root / LABELS).unlink(),
        "are missing in ROOT/MNIST/raw: train-labels-idx1-ubyte[.gz]. Place",
    ),
    "wrong magic number": (
        "mnist",
        write_mnist,
        put(PICTURES, idx_bytes(numbered(6), magic=0x0D03)),
        f"ROOT/{PICTURES}: is not an idx file of 3 axes: "
        "it begins with the magic number 0x00000d03. Allowed: 0x00000803.",
    ),
    "labels in place of images": (
        "mnist",
        write_mnist,
        put(PICTURES, idx_bytes(np.zeros(60))),
        "is not an idx file of 3 axes: it begins with the magic number 0x00000801. Allowed: 0x00000803.",
    ),
    "empty file": ("mnist", write_mnist, put(PICTURES, b""), "is not an idx file of 3 axes: it is too short."),
    "truncated images": (
        "mnist",
        write_mnist,
        lambda root: truncate(root / PICTURES),
        f"ROOT/{PICTURES}: is 2360 bytes long, but its header 6 x 28 x 28 needs 4720. Delete the file and place it",
    ),
    "bytes left over": (
        "mnist",
        write_mnist,
        put(LABELS, idx_bytes(np.zeros(6)) + b"x"),
        f"ROOT/{LABELS}: is 15 bytes long, but its header 6 needs 14.",
    ),
    "images of another size": (
        "mnist",
        write_mnist,
        put(PICTURES, idx_bytes(numbered(6, (32, 30)))),
        f"ROOT/{PICTURES}: holds images of 30x32 pixels. Allowed: 28x28.",
    ),
    "labels of other images": (
        "mnist",
        write_mnist,
        put(LABELS, idx_bytes(np.zeros(5))),
        f"ROOT/{LABELS}: holds 5 labels, but train-images-idx3-ubyte 6 images. Allowed: one label per image.",
    ),
    "labels of no class": (
        "mnist",
        write_mnist,
        put(LABELS, idx_bytes(np.array([0, 1, 2, 0, 10, 0]))),
        f"ROOT/{LABELS}: holds labels from 0 to 10. Allowed: 0 to 9.",
    ),
    "letters from zero": (
        "emnist",
        write_emnist,
        put("EMNIST/raw/emnist-letters-train-labels-idx1-ubyte", idx_bytes(np.zeros(6))),
        "holds labels from 0 to 0. Allowed: 1 to 26.",
    ),
    "no gzip": ("mnist", lambda root: write_mnist(root, compressed=True), put(f"{PICTURES}.gz", b"x" * 99), "be read"),
    "truncated gzip": (
        "mnist",
        lambda root: write_mnist(root, compressed=True),
        lambda root: truncate(root / f"{PICTURES}.gz"),
        f"ROOT/{PICTURES}.gz: is ",
    ),
    "no batches": (
        "cifar10",
        lambda root: root.mkdir() or root,
        lambda root: None,
        f"dataset.root: files of 'cifar10' are missing in ROOT/{BATCHES}: data_batch_1, data_batch_2, data_batch_3, "
        "data_batch_4, data_batch_5, test_batch. Place them there, or set dataset.download: true.",
    ),
    "missing batch": (
        "cifar10",
        write_cifar10,
        lambda root: (root / BATCHES / "data_batch_4").unlink(),
        f"are missing in ROOT/{BATCHES}: data_batch_4. Place",
    ),
    "no pickle": ("cifar10", write_cifar10, put(f"{BATCHES}/data_batch_1", b"x" * 99), "is not a batch of CIFAR"),
    "truncated batch": (
        "cifar10",
        write_cifar10,
        lambda root: truncate(root / BATCHES / "data_batch_1"),
        f"ROOT/{BATCHES}/data_batch_1: is not a batch of CIFAR (UnpicklingError: pickle data was truncated).",
    ),
    "no dictionary": ("cifar10", write_cifar10, put(f"{BATCHES}/test_batch", pickle.dumps([1])), "data is NoneType"),
    "data of another shape": (
        "cifar10",
        write_cifar10,
        put(f"{BATCHES}/test_batch", batch_bytes(numbered(3, (784,)), [0, 1, 2])),
        f"ROOT/{BATCHES}/test_batch: its data is uint8 (3, 784). Allowed: uint8 (images, 3072).",
    ),
    "data of another type": (
        "cifar10",
        write_cifar10,
        put(f"{BATCHES}/test_batch", batch_bytes(DATA.astype(np.int16), [0, 1, 2])),
        "its data is int16 (3, 3072).",
    ),
    "a batch of the other data set": (
        "cifar10",
        write_cifar10,
        put(f"{BATCHES}/test_batch", batch_bytes(DATA, [0, 1, 2], "fine_labels")),
        "holds no 'labels'. Allowed: the keys data and labels.",
    ),
    "too few labels": (
        "cifar10",
        write_cifar10,
        put(f"{BATCHES}/test_batch", batch_bytes(DATA, [0, 1])),
        "holds 2 labels for 3 images. Allowed: one label per image.",
    ),
    "a label of no class": (
        "cifar10",
        write_cifar10,
        put(f"{BATCHES}/test_batch", batch_bytes(DATA, [0, 10, 1])),
        "holds the label 10. Allowed: whole numbers from 0 to 9.",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_reported_without_decoding(case: str, tmp_path: Path) -> None:
    name, write, damage, message = BROKEN[case]
    root = write(tmp_path / "data")
    damage(root)
    dataset = Dataset(name=name, root=root)
    (problem,) = check_dataset(dataset, RGB)
    assert message.replace("ROOT", str(root)) in str(problem)
    with pytest.raises(DataError):
        load_corpus(dataset, RGB, tmp_path / "cache")


def test_a_compressed_file_that_is_damaged_inside_is_reported_once_for_all_its_images(tmp_path: Path) -> None:
    root = write_mnist(tmp_path / "data", compressed=True)
    path = root / f"{PICTURES}.gz"
    content = bytearray(gzip.compress(idx_bytes(numbered(6)), 0))
    content[1000] ^= 1
    path.write_bytes(content)
    dataset = Dataset(name="mnist", root=root)
    assert check_dataset(dataset, GRAY) == []
    with pytest.raises(DataError) as caught:
        load_corpus(dataset, GRAY, tmp_path / "cache")
    assert len(caught.value.problems) == 1 and f"{path}: cannot be read (CRC check failed" in str(caught.value)
