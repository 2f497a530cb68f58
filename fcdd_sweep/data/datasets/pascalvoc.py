"""Pascal VOC 2007, the part for training and validation.

    ROOT/VOCdevkit/VOC2007/Annotations/NAME.xml          the objects in an image
    ROOT/VOCdevkit/VOC2007/JPEGImages/NAME.jpg
    ROOT/VOCdevkit/VOC2007/ImageSets/Main/{train,val}.txt     one name per line: training and test images

ROOT may also be `VOCdevkit` or `VOC2007`. An image belongs to the class of every object in it, including difficult and
truncated ones; as an anomaly it is reported under the class of its first object.

Source: Everingham et al., IJCV 2010, http://host.robots.ox.ac.uk/pascal/VOC/voc2007.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.decoding.files import file_stamp
from fcdd_sweep.data.decoding.pixels import read_picture
from fcdd_sweep.data.decoding.store import name_list
from fcdd_sweep.data.fetching import files_missing, through_torchvision
from fcdd_sweep.data.records import DatasetScan, Record, Say, one_vs_rest_record
from fcdd_sweep.data.registry import info

_NEEDED = ("Annotations", "JPEGImages", "ImageSets/Main/train.txt", "ImageSets/Main/val.txt")
_NAME = re.compile(r"\w[\w-]*")
_LARGEST_XML = 1 << 20
_AGAIN = "Unpack VOCtrainval_06-Nov-2007.tar again"


class _Images(NamedTuple):
    """The names in `train.txt` or `val.txt`."""

    path: Path
    names: list[str]


def scan(dataset: Dataset, images: Images) -> DatasetScan:
    """Return the images of `train.txt`, then the images of `val.txt`, in the order of the files."""
    assert dataset.root is not None  # the loader has checked it
    folder = _folder(dataset.root)
    if missing := [name for name in _NEEDED if not (folder / name).exists()]:
        return files_missing(dataset, folder, missing)
    lists = [_listed(folder, split) for split in ("train", "val")]
    problems = [problem for each in lists for problem in _list_problems(folder, each)]
    if twice := sorted(set(lists[0].names) & set(lists[1].names)):
        what = f"{len(twice)} images are also in train.txt: {name_list(twice)}"
        problems.append(Problem(str(lists[1].path), what, "an image is in one of the two", _AGAIN))
    if problems:
        return DatasetScan(problems=tuple(problems))
    records: list[Record] = []
    for each in lists:
        for name in each.names:
            try:
                records.append(_record(folder, name, is_test=each is lists[1]))
            except DataError as error:
                problems += error.problems
    return DatasetScan(tuple(records), tuple(problems))


def fetch(dataset: Dataset, say: Say) -> None:
    """Let torchvision download, check and unpack the archive."""

    def download(datasets: object, root: str) -> None:
        getattr(datasets, "VOCDetection")(root, year="2007", image_set="train", download=True)  # noqa: B009

    through_torchvision(dataset, say, download)


def _folder(root: Path) -> Path:
    """Return the folder `VOC2007`, or its usual path if it does not exist."""
    places = (root / "VOCdevkit" / "VOC2007", root / "VOC2007", root)
    return next((place for place in places if any((place / name).exists() for name in _NEEDED)), places[0])


def _listed(folder: Path, split: str) -> _Images:
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return _Images(path, list(dict.fromkeys(line.strip() for line in lines if line.strip())))


def _list_problems(folder: Path, images: _Images) -> list[Problem]:
    """Return what is wrong with a list or with the files that it names."""
    if not images.names:
        return [Problem(str(images.path), "names no image", next_step=_AGAIN)]
    if strange := [name for name in images.names if not _NAME.fullmatch(name)]:
        what = f"{strange[0]!r} is not the name of an image"
        return [Problem(str(images.path), what, "one name per line, without folder and suffix", _AGAIN)]
    problems = []
    for place, ending in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        missing = [name + ending for name in images.names if not (folder / place / f"{name}{ending}").is_file()]
        if missing:
            what = f"{len(missing)} files that {images.path.name} names are missing: {name_list(missing)}"
            problems.append(Problem(str(folder / place), what, next_step=_AGAIN))
    return problems


def _record(folder: Path, name: str, *, is_test: bool) -> Record:
    picture, annotation = folder / "JPEGImages" / f"{name}.jpg", folder / "Annotations" / f"{name}.xml"
    first, *others = objects_in(annotation)
    record = one_vs_rest_record(
        f"VOC2007/JPEGImages/{name}.jpg",
        first,
        is_test=is_test,
        stamp=f"{file_stamp(picture)}+{file_stamp(annotation)}",
        load=partial(read_picture, picture, ()),
        also=tuple(others),
    )
    return replace(record, file=picture)


def objects_in(annotation: Path) -> list[str]:
    """Return the classes of the objects in an image, each once, in the order of the file; never empty.

    Raises:
        DataError: the file is not an annotation, or names no object or an unknown one.
    """
    size = annotation.stat().st_size
    if size > _LARGEST_XML:
        raise _wrong(annotation, f"is {size} bytes long, which no annotation is", f"up to {_LARGEST_XML} bytes")
    try:
        # No document type, no entities: nothing in the file can expand or refer to other files.
        tree = ElementTree.fromstring(annotation.read_bytes(), ElementTree.XMLParser(target=_NoDocumentType()))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise _wrong(annotation, f"is not well-formed XML ({error})") from error
    classes = info("pascalvoc").classes or ()
    found = list(dict.fromkeys((node.findtext("name") or "").strip() for node in tree.iter("object")))
    if not found:
        raise _wrong(annotation, "names no object", "at least one <object> with its <name>")
    if unknown := [name for name in found if name not in classes]:
        raise _wrong(annotation, f"names an object '{unknown[0]}'", ", ".join(classes))
    return found


class _NoDocumentType(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ElementTree.ParseError("it declares a document type, which no annotation does")


def _wrong(path: Path, what: str, allowed: str = "") -> DataError:
    return DataError(Problem(str(path), what, allowed, _AGAIN))
