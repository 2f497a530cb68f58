"""MVTec LOCO AD from its directory layout, up to sPRO."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcdd_sweep.config.errors import DataError, InputError
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.corpus import split_for
from fcdd_sweep.data.datasets.mvtec_loco import saturation_area
from fcdd_sweep.data.loading import load_corpus
from fcdd_sweep.metrics.pixel_columns import PixelResult
from fcdd_sweep.training.pixel_images import pixel_images
from tests.trees import write_images

IMAGES = Images(load_size=16, size=16, resize="nearest")
SIZE = (16, 16)
CONFIG = [
    {"defect_name": "missing_pin", "pixel_value": 255, "saturation_threshold": 10, "relative_saturation": False},
    {"defect_name": "two_pins", "pixel_value": 254, "saturation_threshold": 0.5, "relative_saturation": True},
    {"defect_name": "bent", "pixel_value": 7, "saturation_threshold": 4000, "relative_saturation": False},
]


def write_map(path: Path, value: int, rows: slice, columns: slice) -> None:
    values = np.zeros(SIZE, np.uint8)
    values[rows, columns] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One class: a logical anomaly with two defects, and a structural one."""
    folder = tmp_path / "data" / "pushpins"
    for seed, (name, count) in enumerate({"train/good": 3, "validation/good": 2, "test/good": 2}.items()):
        write_images(folder / name, count, SIZE, seed=seed)
    for seed, kind in enumerate(("logical_anomalies", "structural_anomalies"), 5):
        write_images(folder / "test" / kind, 1, SIZE, seed=seed)
    truth = folder / "ground_truth"
    write_map(truth / "logical_anomalies/000/000.png", 255, slice(0, 4), slice(0, 10))
    write_map(truth / "logical_anomalies/000/001.png", 254, slice(3, 7), slice(8, 16))
    write_map(truth / "structural_anomalies/000/000.png", 7, slice(10, 12), slice(2, 5))
    (folder / "defects_config.json").write_text(json.dumps(CONFIG))
    return tmp_path / "data"


def loco(root: Path) -> Dataset:
    return Dataset(name="mvtec_loco", root=root, classes=["pushpins"])


def test_each_defect_has_its_map_and_its_saturation_area(root: Path, tmp_path: Path) -> None:
    for _ in range(2):  # decoded, then from the cache
        corpus = load_corpus(loco(root), IMAGES, tmp_path / "cache")
        split = split_for(corpus, "pushpins")
        assert len(split.train_nominal) == 3
        assert split.test_defect == ("", "", "logical_anomalies", "structural_anomalies")
        logical, structural = split.test[2:]
        labels, areas = corpus.single_defects(logical)
        assert areas.tolist() == [10, int(0.5 * 32)] and (labels == 1).sum() == 40
        assert (labels == 2).sum() == 32 - 2  # two pixels are of both, and belong to the first
        np.testing.assert_array_equal(labels > 0, corpus.mask(logical))
        assert corpus.single_defects(structural)[1].tolist() == [6]  # no more than its area
        assert corpus.single_defects(split.test[0]) is None and corpus.mask(split.test[0]) is None


def test_spro_saturates_where_the_data_set_says(root: Path, tmp_path: Path) -> None:
    corpus = load_corpus(loco(root), IMAGES, tmp_path / "cache")
    split = split_for(corpus, "pushpins")
    pixels = pixel_images(corpus, split, 16)
    assert pixels is not None and pixels.truth.has_saturation
    heat = np.zeros((4, 16, 16), np.float32)
    heat[2, 0, :10] = 1.0  # 10 of the first defect's 40 pixels: all that is needed
    heat[2, 5, 8:16] = 1.0  # 8 of the second's 32, of which 16 are needed
    heat[3, 10, 2:5] = 1.0  # 3 of 6, of which 6 are needed
    found = PixelResult.of(heat.reshape(4, -1), pixels.truth).metrics()
    # found at a false-positive rate of 0; from there a straight line to 1 at a rate of 1, over which all rest is found
    logical, structural = (1 + 8 / 16) / 2, 3 / 6

    def area(start: float, limit: float) -> float:
        return start + (1 - start) * limit / 2

    assert found["pixel_spro_05"] == pytest.approx((area(logical, 0.05) + area(structural, 0.05)) / 2, abs=0.02)
    assert found["pixel_aupro_05"] < found["pixel_spro_05"]


def test_saturation_areas_are_those_of_the_authors_code() -> None:
    absolute, relative, large = CONFIG
    assert [saturation_area(absolute, area) for area in (5, 10, 50)] == [5, 10, 10]
    assert [saturation_area(relative, area) for area in (1, 7, 40)] == [1, 3, 20]
    assert saturation_area(large, 50) == 50


def test_all_that_is_missing_or_wrong_is_told_at_once(root: Path, tmp_path: Path) -> None:
    folder = root / "pushpins"
    for path in (folder / "ground_truth/structural_anomalies/000").iterdir():
        path.unlink()
    (folder / "defects_config.json").write_text(json.dumps([{"pixel_value": 255}]))
    for path in (folder / "test/good").iterdir():
        path.unlink()
    with pytest.raises(InputError) as error:
        load_corpus(loco(root), IMAGES, tmp_path / "cache")
    text = str(error.value)
    assert "ground-truth maps of" in text and "pixel_value, saturation_threshold" in text and "holds no images" in text


def test_a_map_of_an_unknown_value_is_an_error(root: Path, tmp_path: Path) -> None:
    write_map(root / "pushpins/ground_truth/logical_anomalies/000/001.png", 9, slice(0, 2), slice(0, 2))
    with pytest.raises(DataError, match="has the values 9 besides 0.*one value of defects_config.json: 255, 254, 7"):
        load_corpus(loco(root), IMAGES, tmp_path / "cache")
