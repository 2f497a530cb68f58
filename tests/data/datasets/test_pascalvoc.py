"""Pascal VOC: images of several classes, and what is said of broken trees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.corpus import Corpus, split_for
from fcdd_sweep.data.datasets.pascalvoc import objects_in
from fcdd_sweep.data.loading import load_corpus
from fcdd_sweep.data.scanning import check_dataset, dataset_facts
from tests.formats import annotation, write_voc
from tests.trees import corrupt

IMAGES = Images(load_size=16, size=16)
FOLDER = "VOCdevkit/VOC2007"


def voc(root: Path) -> Dataset:
    return Dataset(name="pascalvoc", root=root)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return load_corpus(voc(write_voc(tmp_path / "data")), IMAGES, tmp_path / "cache")


def names(corpus: Corpus, index: np.ndarray) -> list[str]:
    return [Path(corpus.path[i]).stem for i in index]


def test_an_image_belongs_to_the_class_of_any_of_its_objects(corpus: Corpus) -> None:
    split = split_for(corpus, "horse")
    assert names(corpus, split.train_nominal) == ["000012", "000017"]
    assert names(corpus, split.train_anomalous) == ["000023", "000026"]
    assert names(corpus, split.test) == ["000005", "000007", "000009"]
    assert split.test_label.tolist() == [1, 0, 0]


def test_an_anomalous_test_image_is_called_by_its_first_object(corpus: Corpus) -> None:
    assert split_for(corpus, "horse").test_defect == ("chair", "", "")
    assert split_for(corpus, "dog").test_defect == ("chair", "horse", "")
    assert split_for(corpus, "person").test_defect == ("chair", "horse", "")


def test_all_classes_and_facts_are_known_before_anything_is_read() -> None:
    dataset = voc(Path("/"))
    facts = dataset_facts(dataset)
    assert len(facts.classes) == 20 and list(facts.classes) == sorted(facts.classes)
    assert facts.protocol == "one_vs_rest" and facts.trains_with_anomalies


def test_sizes_before_decoding_are_kept(corpus: Corpus) -> None:
    assert corpus.images.shape == (7, 3, 16, 16) and (corpus.original_size == [20, 30]).all()


@pytest.mark.parametrize("root", [".", "VOCdevkit", FOLDER])
def test_the_root_may_be_any_of_the_folders(root: str, tmp_path: Path, corpus: Corpus) -> None:
    inside = load_corpus(voc(write_voc(tmp_path / "again") / root), IMAGES, tmp_path / "cache")
    assert inside.fingerprints == corpus.fingerprints


def test_another_second_object_is_other_data(tmp_path: Path, corpus: Corpus) -> None:
    root = write_voc(tmp_path / "again")
    (root / FOLDER / "Annotations" / "000012.xml").write_text(annotation(["horse", "sheep"]))
    changed = load_corpus(voc(root), IMAGES, tmp_path / "cache")
    assert changed.fingerprints["cat"] != corpus.fingerprints["cat"]
    assert names(changed, split_for(changed, "sheep").train_nominal) == ["000012"]


def test_objects_come_once_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(annotation(["dog", "person", "dog", "cat"]))
    assert objects_in(tmp_path / "a.xml") == ["dog", "person", "cat"]


def replace_xml(name: str, content: str | bytes) -> Callable[[Path], object]:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / "Annotations" / f"{name}.xml").write_bytes(raw)


def replace_list(split: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(content)


BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><annotation><object><name>&c;</name></object></annotation>'
THEFT = '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation><object><name>horse</name></object></annotation>'
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no validation list": (
        lambda folder: (folder / "ImageSets" / "Main" / "val.txt").unlink(),
        "dataset.root: files of 'pascalvoc' are missing in FOLDER: ImageSets/Main/val.txt. Place them there, or set "
        "dataset.download: true.",
    ),
    "missing image": (
        lambda folder: (folder / "JPEGImages" / "000012.jpg").unlink(),
        "FOLDER/JPEGImages: 1 files that train.txt names are missing: 000012.jpg. Unpack VOCtrainval",
    ),
    "missing annotations": (
        lambda folder: [path.unlink() for path in (folder / "Annotations").glob("00000*")],
        "FOLDER/Annotations: 3 files that val.txt names are missing: 000005.xml, 000007.xml, 000009.xml.",
    ),
    "malformed XML": (
        replace_xml("000012", annotation(["horse"])[:-20]),
        "FOLDER/Annotations/000012.xml: is not well-formed XML (",
    ),
    "empty annotation": (replace_xml("000012", b""), "000012.xml: is not well-formed XML (no element found"),
    "unknown encoding": (replace_xml("000012", b'<?xml version="1.0" encoding="klingon"?><a/>'), "000012.xml: is not"),
    "entities": (replace_xml("000012", BOMB), "000012.xml: is not well-formed XML (it declares a document type"),
    "entities in 16 bits": (replace_xml("000012", BOMB.encode("utf-16")), "(it declares a document type"),
    "external document type": (replace_xml("000012", THEFT), "(it declares a document type"),
    "enormous annotation": (replace_xml("000012", b" " * (1 << 20) + b"<a/>"), "bytes long, which no annotation is"),
    "no objects": (
        replace_xml("000012", annotation([])),
        "000012.xml: names no object. Allowed: at least one <object>",
    ),
    "unknown object": (replace_xml("000012", annotation(["hose"])), "000012.xml: names an object 'hose'. Allowed: aer"),
    "empty list": (replace_list("val", "\n"), "FOLDER/ImageSets/Main/val.txt: names no image."),
    "a list of another kind": (replace_list("train", "000012 -1\n"), "train.txt: '000012 -1' is not the name of an"),
    "a list that leads elsewhere": (replace_list("train", "../../secret\n"), "'../../secret' is not the name of an"),
    "a test image in training": (
        replace_list("val", "000005\n000012\n"),
        "FOLDER/ImageSets/Main/val.txt: 1 images are also in train.txt: 000012. Allowed: an image is in one",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_tree_is_reported_without_decoding(case: str, tmp_path: Path) -> None:
    damage, message = BROKEN[case]
    folder = write_voc(tmp_path) / FOLDER
    damage(folder)
    (problem,) = check_dataset(voc(tmp_path), IMAGES)
    assert message.replace("FOLDER", str(folder)) in str(problem)


def test_every_broken_annotation_is_named(tmp_path: Path) -> None:
    folder = write_voc(tmp_path) / FOLDER
    bad = [folder / "Annotations" / f"{name}.xml" for name in ("000017", "000009")]
    for path in bad:
        path.write_text("<annotation>")
    assert [problem.where for problem in check_dataset(voc(tmp_path), IMAGES)] == [str(path) for path in bad]


def test_an_image_that_does_not_decode_is_named(tmp_path: Path) -> None:
    bad = corrupt(write_voc(tmp_path / "data") / FOLDER / "JPEGImages" / "000023.jpg")
    with pytest.raises(DataError, match=f"{bad}: does not decode as an image"):
        load_corpus(voc(tmp_path / "data"), IMAGES, tmp_path / "cache")
