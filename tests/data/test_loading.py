"""The data sets that ship with a library: their splits never move."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

import numpy as np
import pytest

from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.corpus import Corpus, split_for
from fcdd_sweep.data.loading import load_corpus
from fcdd_sweep.data.records import DatasetScan
from fcdd_sweep.data.registry import info

GRAY = Images(load_size=16, size=16, color="gray")


def split_digest(scan: DatasetScan) -> str:
    """A digest of which image is in which split and what it is."""
    rows = "\n".join(f"{r.path} {r.class_name} {r.is_test} {r.defect}" for r in scan.records)
    return hashlib.sha256(rows.encode()).hexdigest()[:12]


def scan_of(name: str, **options: float) -> DatasetScan:
    module = importlib.import_module(info(name).module)
    scan = module.scan(Dataset(name=name, options=options), GRAY)
    assert not scan.problems
    return scan


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus(Dataset(name="digits"), GRAY, tmp_path_factory.mktemp("cache"))


def test_the_split_of_digits_is_fixed() -> None:
    assert split_digest(scan_of("digits")) == "56bb1a385489"


def test_digits_are_split_by_class_and_every_other_class_is_anomalous(digits: Corpus) -> None:
    for number, name in enumerate(digits.classes):
        own = digits.class_index == number
        assert digits.is_test[own].sum() == own.sum() // 3
        split = split_for(digits, name)
        assert (digits.class_index[split.train_nominal] == number).all()
        assert not np.intersect1d(split.test, np.union1d(split.train_nominal, split.train_anomalous)).size
        assert set(split.test_defect) == {"", *digits.classes} - {name}


def test_digits_span_the_gray_levels_and_are_smooth(digits: Corpus) -> None:
    from sklearn.datasets import load_digits

    assert digits.images.shape == (1797, 1, 16, 16)
    assert digits.images.min() == 0 and digits.images.max() == 255
    means = digits.images.reshape(1797, 8, 2, 8, 2).mean((2, 4))
    correlation = np.corrcoef(means.ravel(), load_digits().images.ravel())[0, 1]
    assert correlation > 0.98


def test_a_class_of_digits_counts_the_others_in_its_fingerprint(digits: Corpus) -> None:
    assert len(set(digits.fingerprints.values())) == 10


@pytest.fixture
def elpv() -> None:
    pytest.importorskip("elpv_dataset", reason="the extra [solar] is not installed")


@pytest.mark.usefixtures("elpv")
def test_the_split_of_the_solar_cells_is_fixed() -> None:
    assert split_digest(scan_of("solar")) == "fbfb7095966f"


@pytest.mark.usefixtures("elpv")
def test_solar_cells_divide_as_documented() -> None:
    scan = scan_of("solar")
    nominal = [r.is_test for r in scan.records if not r.is_anomalous]
    anomalous = [r.is_test for r in scan.records if r.is_anomalous]
    assert (len(nominal), len(anomalous)) == (588 + 920, 56 + 313 + 50 + 402)
    assert np.mean(nominal) == pytest.approx(0.3, abs=0.03)
    assert np.mean(anomalous) == pytest.approx(0.8, abs=0.03)
    assert {r.defect for r in scan.records} == {"", "likely", "certain"}
    assert any("295 cells in between are left out" in note for note in scan.notes)


@pytest.mark.usefixtures("elpv")
def test_a_lower_threshold_takes_in_more_cells_and_moves_none() -> None:
    strict, loose = scan_of("solar", threshold=0.9), scan_of("solar", threshold=0.1)
    assert {r.defect for r in loose.records} == {"", "possible", "likely", "certain"}
    split = {r.path: r.is_test for r in loose.records}
    assert all(split[r.path] == r.is_test for r in strict.records) and len(strict.records) < len(loose.records)


@pytest.mark.usefixtures("elpv")
def test_solar_cells_of_one_kind_can_be_asked_for(tmp_path: Path) -> None:
    corpus = load_corpus(Dataset(name="solar", classes=["poly"]), GRAY, tmp_path)
    assert corpus.classes == ("poly",) and len(corpus.images) == 920 + 50 + 402
    assert corpus.protocol == "defects" and (corpus.original_size == 300).all()
