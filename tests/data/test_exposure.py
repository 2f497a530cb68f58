"""Outlier exposure that streams: which images it may show, and that reading them is safe."""

from __future__ import annotations

import logging
import shutil
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fcdd_sweep import cli
from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.fields import DatasetSource, FolderSource
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data import loading
from fcdd_sweep.data.datasets.synsets import IMAGENET30, voc_class
from fcdd_sweep.data.decoding.pixels import fit_image, read_image
from fcdd_sweep.data.loading import load_corpus, load_exposure
from fcdd_sweep.data.pools import ArrayPool, ImagePool
from fcdd_sweep.data.scanning import check_exposure
from fcdd_sweep.planning.plan import plan_file
from tests.imagenet_trees import (
    BROKEN,
    DEVKIT,
    OTHERS,
    VAL_TAR,
    WORDS,
    jpeg,
    level,
    training_images,
    write_extracted,
    write_folders,
    write_ilsvrc,
    write_tars,
    write_words,
)
from tests.trees import write_images

IMAGES = Images(load_size=16, size=16)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FCDD_SWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "DECODED_BYTES", 0)  # these few images would not be streamed
    return tmp_path / "cache"


def exposure(name: str, root: Path, target: str = "folder") -> ImagePool:
    return load_exposure(DatasetSource(dataset=name, root=root), Dataset(name=target), IMAGES)


def shown(pool: ImagePool) -> dict[str, int]:
    """How many images of each class a pool has, by their gray level."""
    pixels, readable = pool.read(np.arange(len(pool)))
    assert readable.all()
    names = {level(wnid): wnid for wnid in WORDS}
    found = [names[int(value)] for value in np.rint(pixels.mean((1, 2, 3)))]
    return {wnid: found.count(wnid) for wnid in found}


def all_but(*left_out: str, n: int = 2) -> dict[str, int]:
    return {wnid: n for wnid in WORDS if wnid not in left_out}


def everything(n: int = 3) -> dict[str, dict[str, bytes]]:
    return training_images(n)


def test_imagenet_exposes_the_validation_images_of_all_classes(tmp_path: Path) -> None:
    pool = exposure("imagenet", write_ilsvrc(tmp_path / "data"))
    assert shown(pool) == all_but() and pool.notes == ()


@pytest.mark.parametrize("write", [write_ilsvrc, write_extracted])
def test_imagenet_30_is_never_exposed_to_its_own_classes(tmp_path: Path, write) -> None:
    pool = exposure("imagenet", write(tmp_path / "data"), "imagenet")
    assert shown(pool) == all_but(*IMAGENET30.values())
    (note,) = pool.notes
    assert note.startswith("30 classes of 'imagenet' match classes of 'imagenet' and are left out: n01498041 stingray")
    assert all(wnid in note for wnid in IMAGENET30.values())


def test_pascal_voc_is_never_exposed_to_classes_with_its_names(tmp_path: Path) -> None:
    pool = exposure("imagenet", write_ilsvrc(tmp_path / "data"), "pascalvoc")
    assert shown(pool) == all_but("n02389026", "n04273569", "n02690373", "n07697537")
    assert pool.notes == (
        "4 classes of 'imagenet' match classes of 'pascalvoc' and are left out: n02389026 sorrel (horse), "
        "n02690373 airliner (aeroplane), n04273569 speedboat (boat), n07697537 hotdog (dog).",
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sorrel", "horse"),
        ("horse cart, horse-cart", "horse"),
        ("speedboat", "boat"),
        ("bicycle-built-for-two, tandem bicycle, tandem", "bicycle"),
        ("dining table, board", "diningtable"),
        ("television, television system", "tvmonitor"),
        ("Persian cat", "cat"),
        ("sports car, sport car", "car"),
        ("sheepdogs", "dog"),
        ("pot, flowerpot", "pottedplant"),
        ("birdhouse", None),
        ("scarf", None),
        ("polecat, fitch", None),
        ("cardigan", None),
        ("catamaran", None),
        ("hamster", None),
        ("table lamp", None),
        ("robin, American robin, Turdus migratorius", None),
    ],
)
def test_names_match_classes_of_pascal_voc_by_whole_words(words: str, expected: str | None) -> None:
    assert voc_class(words) == expected


@pytest.mark.parametrize("write", [write_folders, write_tars])
def test_imagenet22k_is_read_from_folders_or_tars(tmp_path: Path, write) -> None:
    root = write(tmp_path / "data", everything())
    assert shown(exposure("imagenet22k", root)) == all_but(n=3)
    assert shown(exposure("imagenet22k", root, "imagenet")) == all_but(*IMAGENET30.values(), n=3)


def test_a_folder_counts_where_there_is_a_tar_as_well(tmp_path: Path) -> None:
    root = write_tars(tmp_path / "data", everything())
    write_folders(root, {"n07753592": {"only.JPEG": jpeg("n07753592")}})
    assert shown(exposure("imagenet22k", root)) == all_but(n=3) | {"n07753592": 1}


def test_other_files_beside_the_images_are_passed_over(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", everything() | {"readme": {"x.JPEG": b""}})
    (root / "n07753592" / "urls.txt").write_text("http://...")
    (root / "notes.tar").write_bytes(b"no tar")
    assert shown(exposure("imagenet22k", root)) == all_but(n=3)


def test_pascal_voc_and_imagenet22k_go_by_words(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", everything())
    with pytest.raises(DataError, match=r"the classes of 'pascalvoc' are left out by name, and 34 have no name.*words"):
        exposure("imagenet22k", root, "pascalvoc")
    left = shown(exposure("imagenet22k", write_words(root), "pascalvoc"))
    assert left == all_but("n02389026", "n04273569", "n02690373", "n07697537", n=3)


def test_words_that_come_later_are_read(tmp_path: Path) -> None:
    root = write_extracted(tmp_path / "data")
    with pytest.raises(DataError, match="left out by name"):
        exposure("imagenet", root, "pascalvoc")
    assert "n02389026" not in shown(exposure("imagenet", write_words(root), "pascalvoc"))


def test_names_of_all_kinds_are_found(tmp_path: Path) -> None:
    names = ("a.JPEG", "Größe 1.jpg", "a much longer name.png", ".hidden.png")
    write_folders(tmp_path / "data", {"n07753592": dict.fromkeys(names, jpeg("n07753592"))})
    assert shown(exposure("imagenet22k", tmp_path / "data")) == {"n07753592": 3}


def test_numbers_do_not_depend_on_the_layout(tmp_path: Path) -> None:
    packed = exposure("imagenet", write_ilsvrc(tmp_path / "tars"), "imagenet")
    extracted = exposure("imagenet", write_extracted(tmp_path / "folders"), "imagenet")
    index = np.arange(len(packed))
    np.testing.assert_array_equal(packed.read(index)[0], extracted.read(index)[0])


def test_images_are_resized_as_everywhere(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (path,) = write_images(root / "n07753592", 1, (50, 31), ".jpeg")
    images = Images(load_size=20, size=20, color="gray", resize="area")
    pool = load_exposure(DatasetSource(dataset="imagenet22k", root=root), Dataset(name="folder"), images)
    np.testing.assert_array_equal(pool.read(np.array([0]))[0][0], fit_image(read_image(path), 20, "area", "gray"))


def test_the_same_numbers_give_the_same_pixels_in_any_order_and_thread(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for seed, wnid in enumerate(OTHERS):
        write_images(root / wnid, 9, seed=seed, suffix=".jpg")
    pool = exposure("imagenet22k", root)
    expected = pool.read(np.arange(len(pool)))[0]
    assert len(np.unique(expected.reshape(len(pool), -1), axis=0)) == 36
    draws = [np.random.default_rng(i).integers(0, len(pool), 20) for i in range(24)]
    with ThreadPoolExecutor(6) as threads:
        for index, (pixels, readable) in zip(draws, threads.map(pool.read, draws), strict=True):
            np.testing.assert_array_equal(pixels, expected[index])
            assert readable.all()


def test_numbers_outside_of_the_pool_are_refused_and_none_is_fine(tmp_path: Path) -> None:
    pool = exposure("imagenet22k", write_folders(tmp_path / "data", everything()))
    assert pool.read(np.zeros(0, np.int64))[0].shape == (0, 3, 16, 16)
    for wrong in (-1, len(pool)):
        with pytest.raises(IndexError, match=f"the pool has {len(pool)} images"):
            pool.read(np.array([0, wrong]))


@pytest.mark.parametrize("write", [write_folders, write_tars])
def test_unreadable_images_are_flagged_named_and_logged_once(
    tmp_path: Path, write, caplog: pytest.LogCaptureFixture
) -> None:
    groups = everything()
    groups["n07753592"]["n07753592_1.JPEG"] = BROKEN
    pool = exposure("imagenet22k", write(tmp_path / "data", groups))
    for _ in range(2):
        pixels, readable = pool.read(np.arange(len(pool)))
        assert (~readable).sum() == 1 and not pixels[~readable].any() and pixels[readable].min() > 30
    assert pool.names(np.flatnonzero(~readable)) == ["n07753592/n07753592_1.JPEG"]
    assert caplog.text.count("n07753592/n07753592_1.JPEG: does not decode") == 1


def test_many_unreadable_images_do_not_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = {"n07753592": {f"{i:02}.JPEG": BROKEN for i in range(30)}}
    pool = exposure("imagenet22k", write_folders(tmp_path / "data", broken))
    assert not pool.read(np.arange(30))[1].any()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 10 and sum("further ones are not logged" in w.getMessage() for w in warnings) == 1


def test_small_collections_are_decoded_once_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = everything()
    groups["n07753592"]["n07753592_1.JPEG"] = BROKEN
    root = write_tars(tmp_path / "data", groups)
    streamed = exposure("imagenet22k", root)
    monkeypatch.setattr(loading, "DECODED_BYTES", 2**20)
    decoded = exposure("imagenet22k", root)
    assert isinstance(decoded, ArrayPool) and len(decoded) == len(streamed) - 1
    pixels, readable = streamed.read(np.arange(len(streamed)))
    np.testing.assert_array_equal(decoded.images, pixels[readable])
    assert decoded.fingerprint == streamed.fingerprint
    assert "imagenet22k: 1 of 102 outlier-exposure images do not decode" in decoded.notes[-1]
    monkeypatch.setattr("fcdd_sweep.data.pools.decode_image", None)
    np.testing.assert_array_equal(exposure("imagenet22k", root).images, decoded.images)


def test_a_file_that_went_is_unreadable_and_a_folder_that_went_is_an_error(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", everything())
    pool = exposure("imagenet22k", root)
    next((root / "n01498041").iterdir()).unlink()
    assert pool.read(np.arange(3))[1].sum() == 2
    shutil.rmtree(root / "n01498041")
    with pytest.raises(DataError, match="n01498041: is gone; outlier exposure reads images from it"):
        pool.read(np.arange(3))


def test_the_index_is_made_once_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        "imagenet": write_ilsvrc(tmp_path / "ilsvrc"),
        "imagenet22k": write_tars(tmp_path / "tars", everything()),
    }
    heard: list[str] = []

    def load(name: str) -> ImagePool:
        source = DatasetSource(dataset=name, root=sources[name])
        return load_exposure(source, Dataset(name="folder"), IMAGES, say=heard.append)

    before = {name: load(name).fingerprint for name in sources}
    assert heard == [f"listing the images in {root}; the list is kept" for root in sources.values()]
    monkeypatch.setattr(tarfile, "open", lambda *args, **kwargs: pytest.fail("a tar is read again"))
    assert {name: load(name).fingerprint for name in sources} == before and len(heard) == 2


def test_files_that_come_or_go_are_other_data(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", everything())
    before = exposure("imagenet22k", root)
    (root / "n07753592" / "new.JPEG").write_bytes(jpeg("n07753592"))
    after = exposure("imagenet22k", root)
    assert len(after) == len(before) + 1 and after.fingerprint != before.fingerprint
    assert exposure("imagenet22k", root, "imagenet").fingerprint != after.fingerprint


def test_a_moved_collection_is_the_same_data(tmp_path: Path) -> None:
    before = exposure("imagenet22k", write_tars(tmp_path / "here", everything())).fingerprint
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert exposure("imagenet22k", tmp_path / "there").fingerprint == before


def test_other_data_sets_expose_their_training_images(tmp_path: Path) -> None:
    pool = load_exposure(DatasetSource(dataset="digits"), Dataset(name="folder"), IMAGES)
    corpus = load_corpus(Dataset(name="digits"), IMAGES)
    assert isinstance(pool, ArrayPool) and len(pool) == (~corpus.is_test).sum()
    assert pool.notes == corpus.notes
    np.testing.assert_array_equal(pool.read(np.arange(9))[0], corpus.images[~corpus.is_test][:9])


def test_a_folder_exposes_all_its_images_and_notes_those_left_out(tmp_path: Path) -> None:
    write_images(tmp_path / "pool" / "deep", 4)
    (tmp_path / "pool" / "bad.png").write_bytes(BROKEN)
    pool = load_exposure(FolderSource(folder=tmp_path / "pool"), Dataset(name="folder"), IMAGES)
    assert len(pool) == 4 and "1 of 5 images do not decode and are left out: bad.png" in pool.notes[0]


def root_of(tmp_path: Path, kind: str) -> Path | None:
    writers: Mapping[str, object] = {
        "absent": lambda: tmp_path / "absent",
        "empty": lambda: (tmp_path / "empty").mkdir() or tmp_path / "empty",
        "no kit": lambda: (write_ilsvrc(tmp_path / "kit") / DEVKIT).unlink() or tmp_path / "kit",
        "no validation": lambda: (write_ilsvrc(tmp_path / "val") / VAL_TAR).unlink() or tmp_path / "val",
        "ilsvrc": lambda: write_ilsvrc(tmp_path / "whole"),
        "extracted": lambda: write_extracted(tmp_path / "extracted"),
        "22k": lambda: write_folders(tmp_path / "all", everything(1)),
        "thirty": lambda: write_folders(tmp_path / "thirty", training_images(1, IMAGENET30.values())),
        "none": lambda: None,
    }
    return writers[kind]()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "kind", "target", "message"),
    [
        ("imagenet", "none", "folder", "anomalies.source.root: 'imagenet' needs a folder. Register at https://image"),
        ("imagenet", "absent", "folder", "anomalies.source.root: there is no folder ROOT. Register at"),
        ("imagenet", "empty", "folder", "ROOT: holds neither ILSVRC2012_img_val.tar nor val/n########. Register at"),
        ("imagenet", "no validation", "folder", "ROOT: holds neither ILSVRC2012_img_val.tar nor val/n########."),
        ("imagenet", "no kit", "folder", "ROOT: there is no ILSVRC2012_devkit_t12.tar.gz, which says what"),
        ("imagenet", "extracted", "pascalvoc", "ROOT: the classes of 'pascalvoc' are left out by name, and 34 have no"),
        ("imagenet22k", "none", "folder", "anomalies.source.root: 'imagenet22k' needs a folder. Register at https"),
        ("imagenet22k", "empty", "folder", "ROOT: holds neither folders n######## nor tars n########.tar. Place"),
        ("imagenet22k", "22k", "pascalvoc", "ROOT: the classes of 'pascalvoc' are left out by name, and 34 have no"),
    ],
)
def test_what_is_wrong_with_a_source_is_reported_before_and_when_it_is_opened(
    tmp_path: Path, name: str, kind: str, target: str, message: str
) -> None:
    root = root_of(tmp_path, kind)
    source = DatasetSource(dataset=name, root=root)
    (problem,) = check_exposure(source, target, IMAGES)
    assert message.replace("ROOT", str(root)) in str(problem)
    with pytest.raises(DataError) as caught:
        load_exposure(source, Dataset(name=target), IMAGES)
    assert caught.value.problems == (problem,)


def test_a_source_that_is_sound_has_no_problem_and_nothing_is_listed_for_that(tmp_path: Path, cache: Path) -> None:
    source = DatasetSource(dataset="imagenet22k", root=root_of(tmp_path, "22k"))
    assert check_exposure(source, "imagenet", IMAGES) == [] and not cache.exists()
    assert check_exposure(DatasetSource(dataset="imagenet", root=root_of(tmp_path, "ilsvrc")), None, IMAGES) == []


def test_a_collection_of_excluded_classes_alone_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="thirty: holds no image that may be an anomaly of 'imagenet'"):
        exposure("imagenet22k", root_of(tmp_path, "thirty"), "imagenet")  # type: ignore[arg-type]


def test_downloading_is_refused_with_what_to_place(tmp_path: Path) -> None:
    source = DatasetSource(dataset="imagenet22k", root=root_of(tmp_path, "22k"), download=True)
    (problem,) = check_exposure(source, "folder", IMAGES)
    assert str(problem).startswith("anomalies.source.download: 'imagenet22k' cannot be downloaded.")


HEAD = "schema: 2\nname: x\npreset: digits\n"


def problems_in(path: Path, text: str) -> list[str]:
    path.write_text(HEAD + text)
    with pytest.raises(DataError.__base__) as caught:
        plan_file(path)
    return [str(problem) for problem in caught.value.problems]


def test_imagenet22k_cannot_be_swept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "dataset: {name: imagenet22k, root: /tmp}\nanomalies: {mode: unsupervised, limit: all}\n"
    (problem,) = problems_in(tmp_path / "x.yaml", text)
    assert "dataset.name: 'imagenet22k' serves as outlier exposure only: it has no classes to train on" in problem
    assert "Name it in anomalies.source: {dataset: imagenet22k, root: DIR}" in problem
    assert cli.main(["list"]) == 0
    data_sets = capsys.readouterr().out.split("\n\n")[0].splitlines()
    listed = [line for line in data_sets if line.startswith("  imagenet")]
    assert ["outlier exposure only" in line for line in listed] == [False, True]


def test_a_plan_names_the_line_of_a_source_s_root(tmp_path: Path) -> None:
    text = "anomalies: {mode: noise, source: {dataset: imagenet, root: /no/such/folder}}\n"
    (problem,) = problems_in(tmp_path / "x.yaml", text)
    assert "x.yaml:4: anomalies.source.root: there is no folder /no/such/folder" in problem


def test_imagenet_may_be_exposed_to_its_own_folder(tmp_path: Path) -> None:
    root = write_ilsvrc(tmp_path / "data")
    (tmp_path / "x.yaml").write_text(
        HEAD + f"dataset: {{name: imagenet, root: {root}, classes: [acorn]}}\n"
        f"anomalies: {{mode: noise, limit: all, source: {{dataset: imagenet, root: {root}}}}}\n"
    )
    assert len(plan_file(tmp_path / "x.yaml")[1].specs) == 5
