"""`dataset.download`: nothing while planning, torchvision's downloaders in the run, and a plain word when they fail."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError

import pytest
from torchvision import datasets

from fcdd_sweep import cli
from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.loading import load_corpus
from fcdd_sweep.data.scanning import check_dataset, scan_dataset
from tests.formats import write_cifar10, write_cifar100, write_emnist, write_mnist, write_voc

IMAGES = Images(load_size=16, size=16)


def fashion(root: Path) -> Path:
    return write_mnist(root, "FashionMNIST")


DOWNLOADERS: dict[str, tuple[str, Callable[[Path], Path], list[dict[str, object]]]] = {
    "mnist": ("MNIST", write_mnist, [{"train": True}, {"train": False}]),
    "fmnist": ("FashionMNIST", fashion, [{"train": True}, {"train": False}]),
    "emnist": ("EMNIST", write_emnist, [{"split": "letters", "train": True}, {"split": "letters", "train": False}]),
    "cifar10": ("CIFAR10", write_cifar10, [{}]),
    "cifar100": ("CIFAR100", write_cifar100, [{}]),
    "pascalvoc": ("VOCDetection", write_voc, [{"year": "2007", "image_set": "train"}]),
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[dict[str, object]]]:
    """Puts a downloader in the place of torchvision's that writes its files; gives the calls."""

    def replace(name: str) -> list[dict[str, object]]:
        made, write, _ = DOWNLOADERS[name]
        calls: list[dict[str, object]] = []

        def downloader(root: str, **settings: object) -> None:
            assert settings.pop("download") is True
            calls.append(settings)
            write(Path(root))

        monkeypatch.setattr(datasets, made, downloader)
        return calls

    return replace


@pytest.mark.parametrize("name", DOWNLOADERS)
def test_torchvision_takes_what_it_is_given(name: str) -> None:
    made, _, calls = DOWNLOADERS[name]
    for settings in calls:
        # EMNIST hands what it does not know itself on to MNIST
        taken = {
            **inspect.signature(datasets.MNIST).parameters,
            **inspect.signature(getattr(datasets, made)).parameters,
        }
        assert {"root", "download", *settings} <= taken.keys()


@pytest.mark.parametrize("name", DOWNLOADERS)
def test_missing_files_are_fetched_by_the_run_and_not_by_a_look(
    name: str, tmp_path: Path, fake: Callable[[str], list[dict[str, object]]]
) -> None:
    calls = fake(name)
    dataset = Dataset(name=name, root=tmp_path / "root", download=True)
    assert check_dataset(dataset, IMAGES) == [] and calls == [] and not (tmp_path / "root").exists()
    note = scan_dataset(dataset, IMAGES).to_fetch
    assert note == f"'{name}' is not in {tmp_path / 'root'} and will be downloaded into that folder."
    said: list[str] = []
    corpus = load_corpus(dataset, IMAGES, tmp_path / "cache", say=said.append)
    assert len(corpus.images) > 5 and calls == DOWNLOADERS[name][2]
    assert said == [f"downloading '{name}' into {tmp_path / 'root'}"]
    load_corpus(dataset, IMAGES, tmp_path / "cache")
    assert len(calls) == len(DOWNLOADERS[name][2])


def test_of_two_that_need_the_files_one_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def slow(root: str, **settings: object) -> None:
        calls.append(root)
        time.sleep(0.3)
        write_cifar10(Path(root))

    monkeypatch.setattr(datasets, "CIFAR10", slow)
    dataset = Dataset(name="cifar10", root=tmp_path / "root", download=True)
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(load_corpus, dataset, IMAGES, tmp_path / "cache") for _ in range(2)]
        assert [len(each.result().images) for each in asked] == [18, 18]
    assert len(calls) == 1


def test_files_that_another_process_is_writing_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = tmp_path / "root" / "cifar-10-batches-py" / "test_batch"
    written = threading.Event()

    def slow(root: str, **settings: object) -> None:
        write_cifar10(Path(root))
        whole = half.read_bytes()
        half.write_bytes(whole[:100])
        written.set()
        time.sleep(0.3)
        half.write_bytes(whole)

    monkeypatch.setattr(datasets, "CIFAR10", slow)
    dataset = Dataset(name="cifar10", root=tmp_path / "root", download=True)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(load_corpus, dataset, IMAGES, tmp_path / "cache")
        assert written.wait(30)
        assert len(load_corpus(dataset, IMAGES, tmp_path / "cache").images) == len(first.result().images) == 18


@pytest.mark.parametrize(
    "error", [URLError("no route to host"), RuntimeError("File not found or corrupted."), OSError(28, "full")]
)
def test_a_download_that_fails_is_reported(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(root: str, **settings: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "CIFAR10", failing)
    with pytest.raises(DataError) as caught:
        load_corpus(Dataset(name="cifar10", root=tmp_path, download=True), IMAGES, tmp_path / "cache")
    (problem,) = caught.value.problems
    assert f"{tmp_path}: the download of 'cifar10' failed ({type(error).__name__}: " in str(problem)
    assert "Rerun the command, or place the files yourself. Set dataset.root to a folder that holds cifar" in str(
        problem
    )


def test_a_download_that_brings_nothing_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MNIST", lambda root, **settings: None)
    with pytest.raises(DataError, match="files of 'mnist' are still missing after they were fetched"):
        load_corpus(Dataset(name="mnist", root=tmp_path, download=True), IMAGES, tmp_path / "cache")


@pytest.mark.parametrize("name", ["folder", "mnist"])
def test_only_some_data_sets_can_be_downloaded_and_none_over_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    problems = check_dataset(Dataset(name=name, root=tmp_path / "file", download=True), IMAGES)
    reported = [str(problem) for problem in problems]
    assert any(f"there is no folder {tmp_path / 'file'}" in each for each in reported)
    assert any("dataset.download: 'folder' cannot be downloaded. Allowed: false." in each for each in reported) == (
        name == "folder"
    )


EXPERIMENT = """
schema: 2
name: x
preset: digits
dataset: {{name: cifar10, root: {root}, download: true, classes: [cat]}}
anomalies: {{mode: noise, limit: all, source: {{dataset: cifar100, root: {root}, download: {exposed}}}}}
"""


def test_a_dry_run_notes_every_download_and_starts_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(EXPERIMENT.format(root=tmp_path / "root", exposed="true"))
    assert cli.main([str(file), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for name in ("cifar10", "cifar100"):
        assert f"note: '{name}' is not in {tmp_path / 'root'} and will be downloaded into that folder." in printed
    assert not (tmp_path / "root").exists()


def test_a_source_that_is_missing_is_reported_in_the_keys_of_the_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, root = tmp_path / "x.yaml", tmp_path / "root"
    root.mkdir()
    file.write_text(EXPERIMENT.format(root=root, exposed="false"))
    assert cli.main([str(file), "--dry-run"]) == 2
    reported = capsys.readouterr().err
    assert "anomalies.source.root: files of 'cifar100' are missing" in reported
    assert "set anomalies.source.download: true" in reported and "dataset.download" not in reported
