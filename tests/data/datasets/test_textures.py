"""The built-in textures: regions apart, crops and defects that never change, exact maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.datasets import textures
from fcdd_sweep.data.datasets.textures import (
    AREA,
    CROP_SIDE,
    DEFECT_DRAWINGS,
    VISIBLE_CONTRAST,
    corner,
    foreign_corner,
    photograph,
    regions,
    render_defect,
    scan,
)
from fcdd_sweep.data.loading import load_corpus
from fcdd_sweep.data.records import DecodedImage, Record

CLASSES = ("brick", "grass", "gravel")
CHOICES = ("reporting", "selection")
IMAGES = Images(load_size=CROP_SIDE, size=CROP_SIDE, color="gray")


def records_of(which: str, *classes: str) -> tuple[Record, ...]:
    wanted = list(classes) if classes else "all"
    return scan(Dataset(name="textures", classes=wanted, options={"regions": which}), IMAGES).records


def place(record: Record, which: str) -> tuple[slice, slice]:
    kind = record.defect or ("good" if record.is_test else "train")
    top, left = corner(record.class_name, which, kind, int(record.path[-3:]))
    return slice(top, top + CROP_SIDE), slice(left, left + CROP_SIDE)


def used(records: list[Record], which: str) -> np.ndarray:
    """(512, 512) bool: the photograph's pixels that any of these crops holds."""
    pixels = np.zeros((512, 512), dtype=bool)
    for record in records:
        pixels[place(record, which)] = True
    return pixels


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Record, DecodedImage, np.ndarray]]:
    """Every anomalous record of the reporting regions, its picture, and the crop that it was drawn into."""
    records = [record for record in records_of("reporting") if record.is_anomalous]
    return [(r, r.load(), photograph(r.class_name)[place(r, "reporting")]) for r in records]


@pytest.mark.parametrize("which", CHOICES)
@pytest.mark.parametrize("class_name", CLASSES)
def test_training_and_test_crops_share_no_pixel(class_name: str, which: str) -> None:
    records = records_of(which, class_name)
    train = used([r for r in records if not r.is_test], which)
    test = used([r for r in records if r.is_test], which)
    assert not (train & test).any()
    assert train.mean() > 0.3
    assert test.mean() > 0.2


@pytest.mark.parametrize("class_name", CLASSES)
def test_selection_uses_the_reporting_training_region_alone(class_name: str) -> None:
    allowed = np.zeros((512, 512), dtype=bool)
    for top, left, height, width in regions("reporting").train:
        allowed[top : top + height, left : left + width] = True
    assert not used(list(records_of("selection", class_name)), "selection")[~allowed].any()


@pytest.mark.parametrize("which", CHOICES)
def test_nominal_pictures_are_the_photographs_pixels(which: str) -> None:
    for record in records_of(which, "grass")[::37]:
        if not record.is_anomalous:
            assert np.array_equal(record.load().image, photograph("grass")[place(record, which)])


@pytest.mark.parametrize("which", CHOICES)
def test_foreign_patches_come_from_test_regions_of_other_classes(which: str) -> None:
    for class_name in CLASSES:
        sources = [foreign_corner(class_name, which, index) for index in range(40)]
        assert {name for name, _ in sources} == set(CLASSES) - {class_name}
        for _, (top, left) in sources:
            assert any(
                p.top <= top
                and top + CROP_SIDE <= p.top + p.height
                and p.left <= left
                and left + CROP_SIDE <= p.left + p.width
                for p in regions(which).test
            )


@pytest.mark.slow
def test_a_foreign_patch_shows_the_other_material(drawn: list[tuple[Record, DecodedImage, np.ndarray]]) -> None:
    for record, picture, _ in drawn:
        if record.defect == "foreign_patch":
            other, (top, left) = foreign_corner(record.class_name, "reporting", int(record.path[-3:]))
            same = picture.image == photograph(other)[top : top + CROP_SIDE, left : left + CROP_SIDE]
            assert same[picture.mask].mean() > 0.4


def test_outside_its_map_a_defect_changes_nothing(drawn: list[tuple[Record, DecodedImage, np.ndarray]]) -> None:
    for record, picture, crop in drawn:
        assert picture.mask is not None
        assert np.array_equal(picture.image[~picture.mask], crop[~picture.mask]), record.path


def test_inside_its_map_a_defect_can_be_seen(drawn: list[tuple[Record, DecodedImage, np.ndarray]]) -> None:
    for record, picture, crop in drawn:
        change = np.abs(picture.image.astype(int) - crop)[picture.mask]
        assert np.mean(change >= VISIBLE_CONTRAST) >= 0.5, record.path
        assert change.mean() > 5, record.path


def test_maps_take_between_1_and_15_percent(drawn: list[tuple[Record, DecodedImage, np.ndarray]]) -> None:
    shares = np.array([picture.mask.mean() for _, picture, _ in drawn if picture.mask is not None])
    assert len(shares) == 3 * 6 * 16
    assert shares.min() >= AREA[0]
    assert shares.max() <= AREA[1]


def test_the_renderer_is_the_one_that_was_fixed(drawn: list[tuple[Record, DecodedImage, np.ndarray]]) -> None:
    """Mean share of the map and mean change in it, in gray levels; a little apart where scipy rounds differently."""
    fixed = {
        "scratch": (0.0237, 42.66),
        "thread": (0.0424, 42.46),
        "hole": (0.0449, 62.78),
        "stain": (0.0839, 42.50),
        "foreign_patch": (0.0939, 37.64),
        "blur": (0.0839, 13.08),
    }
    for name, (share, change) in fixed.items():
        own = [(p.mask.mean(), np.abs(p.image.astype(int) - c)[p.mask].mean()) for r, p, c in drawn if r.defect == name]
        assert np.mean(own, axis=0) == pytest.approx((share, change), rel=0.01), name


def test_pictures_are_the_same_in_any_order(drawn: list[tuple[Record, DecodedImage, np.ndarray]]) -> None:
    for record, before, _ in reversed(drawn[::5]):
        again = record.load()
        assert np.array_equal(again.image, before.image)
        assert np.array_equal(again.mask, before.mask)


def test_pictures_do_not_depend_on_how_many_there_are(
    monkeypatch: pytest.MonkeyPatch, drawn: list[tuple[Record, DecodedImage, np.ndarray]]
) -> None:
    all_paths = {record.path: picture for record, picture, _ in drawn}
    places = {r.path: place(r, "reporting") for r in records_of("reporting")}
    for name, count in {"TRAIN_CROPS": 5, "TEST_CROPS": 4, "DEFECT_CROPS": 3}.items():
        monkeypatch.setattr(textures, name, count)
    few = records_of("reporting", "gravel")
    assert len(few) == 5 + 4 + 3 * 6
    for record in few:
        assert place(record, "reporting") == places[record.path]
        if record.is_anomalous:
            assert np.array_equal(record.load().image, all_paths[record.path].image)


def test_defects_differ_from_one_another(drawn: list[tuple[Record, DecodedImage, np.ndarray]]) -> None:
    assert len({picture.mask.tobytes() for _, picture, _ in drawn if picture.mask is not None}) == len(drawn)


def test_reporting_and_selection_draw_other_defects() -> None:
    ours, theirs = (next(r for r in records_of(which, "brick") if r.defect == "hole").load() for which in CHOICES)
    assert not np.array_equal(ours.mask, theirs.mask)


@pytest.mark.parametrize("which", CHOICES)
def test_notes_count_the_crops_that_share_no_pixel(which: str) -> None:
    first, second, _ = scan(Dataset(name="textures", options={"regions": which}), IMAGES).notes
    independent, size = {"reporting": (10, "1 region of 192x512"), "selection": (4, "2 regions of 150x192")}[which]
    assert "one photograph" in first
    assert "156 test images (60 nominal, 16 of each of 6 defect types)" in first
    assert f"crops of {size} pixels, in which only {independent} non-overlapping crops exist" in first
    assert f"with {independent} non-overlapping crops" in second


def test_a_defect_that_cannot_be_seen_is_refused() -> None:
    even = np.full((CROP_SIDE, CROP_SIDE), 120, dtype=np.uint8)
    with pytest.raises(RuntimeError, match="no visible 'blur'"):
        render_defect("blur", even, even, np.random.default_rng(0))


@pytest.mark.slow
def test_the_corpus_holds_every_class_with_maps_of_all_defects(tmp_path: Path) -> None:
    corpus = load_corpus(Dataset(name="textures", classes=["grass", "gravel"]), IMAGES, cache_dir=tmp_path)
    assert corpus.protocol == "defects"
    assert corpus.classes == ("grass", "gravel")
    assert corpus.images.shape == (2 * (200 + 60 + 96), 1, CROP_SIDE, CROP_SIDE)
    assert set(corpus.defect) == {"", *DEFECT_DRAWINGS}
    assert np.array_equal(corpus.mask_index >= 0, corpus.is_anomalous)
    assert not corpus.is_anomalous[~corpus.is_test].any()
    last = records_of("reporting", "gravel")[-1]
    assert corpus.path[-1] == last.path
    assert np.array_equal(corpus.images[-1, 0], last.load().image)
    assert np.array_equal(corpus.mask(len(corpus.path) - 1), last.load().mask)
