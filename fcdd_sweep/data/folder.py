"""The user's own images, in the layout that the folders show.

`defects`, each class with its own anomalies; NORMAL is `normal`, `nominal` or `good`:

    ROOT/CLASS/{train,test}/{NORMAL,anomalous}/IMAGES       class first
    ROOT/{train,test}/CLASS/{NORMAL,anomalous}/IMAGES       split first
    ROOT/{train,test}/{NORMAL,anomalous}/IMAGES             a single class, called like ROOT

`one_vs_rest`, where all other classes are the anomalies:

    ROOT/{train,test}/CLASS/IMAGES
    ROOT/CLASS/IMAGES       fixed split: an image is in the test set when the SHA-256 of CLASS/NAME, as a share of its
                            range, is below a third; other files have no say in it

All of it may also lie in `ROOT/custom`. Images may lie in folders below; a folder below `anomalous` names the type of
the defects in it (otherwise the type is `anomalous`). `train`, `test`, NORMAL and `anomalous` are found in upper case
too. Training anomalies are optional, and so is the test half.

Maps are optional, for any of the images. Beside each `train` or `test` a folder `train_maps` or `test_maps` mirrors
it: the map of `test/CLASS/anomalous/crack/7.jpg` is `test_maps/CLASS/anomalous/crack/7.png`, with the same name before
the ending, any format, 255 where anomalous and 0 elsewhere, at the size of its image. Maps of normal images are not
read. Without a `train`/`test` level there are no maps.

`dataset.protocol: one_vs_rest` reads folders called `normal` and `anomalous` as classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fcdd_sweep.config.errors import DataError, Problem, closest
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.files import file_record, image_files, images_directly_in, name_share, normal_form, visible_folders
from fcdd_sweep.data.layouts import LABELS, LABELS_SHOWN, Place, find_layout, images_below, is_normal
from fcdd_sweep.data.records import Discovery, Record, Scan, wanted_classes

TEST_SHARE = 1 / 3


def discover(dataset: Dataset) -> Discovery:
    """Protocol and classes, whether there are maps, and whether training anomalies.

    Raises:
        DataError: the folders follow none of the layouts.
    """
    layout = find_layout(_root(dataset), dataset.protocol)
    if layout.problems:
        raise DataError(layout.problems)
    training = [place for place in layout.places if place.is_test is not True]
    anomalies = (label for place in training for label in visible_folders(place.folder) if not is_normal(label))
    return Discovery(
        protocol=layout.protocol,
        classes=layout.classes,
        maps=any(images_below(place.maps) for place in layout.places),
        trains_with_anomalies=any(images_below(label) for label in anomalies)
        if layout.protocol == "defects"
        else len(layout.classes) > 1,
    )


def scan(dataset: Dataset, images: Images) -> Scan:
    """The images of the wanted classes (of all classes in `one_vs_rest`), in the order of the folders."""
    root = _root(dataset)
    layout = find_layout(root, dataset.protocol)
    if layout.problems:
        return Scan(problems=layout.problems)
    wanted = wanted_classes(dataset, layout.classes)
    labelled = layout.protocol == "defects"
    places = [place for place in layout.places if not labelled or place.class_name in wanted]
    problems = [problem for place in places for problem in _place_problems(place, labelled=labelled)]
    records = tuple(record for place in places for record in _records(root, place, labelled=labelled))
    problems += _untrained(root, records, wanted)
    return Scan(records, tuple(problems), layout.notes, _gaps(layout.protocol, records, wanted))


def _root(dataset: Dataset) -> Path:
    assert dataset.root is not None  # the loader has checked it
    return dataset.root


def _place_problems(place: Place, *, labelled: bool) -> list[Problem]:
    return [*(_label_problems(place.folder) if labelled else []), *_map_problems(place)]


def _label_problems(folder: Path) -> list[Problem]:
    strange = [
        child for child in visible_folders(folder) if child.name.casefold() not in LABELS and images_below(child)
    ]
    problems = [
        Problem(str(child), "is neither normal nor anomalous", LABELS_SHOWN, closest(child.name, sorted(LABELS)))
        for child in strange
    ]
    if images_directly_in(folder):
        what = f"{len(images_directly_in(folder))} images are neither in normal nor in anomalous"
        problems.append(Problem(str(folder), what, LABELS_SHOWN, "Move them into one of the two"))
    return problems


def _map_problems(place: Place) -> list[Problem]:
    by_key: dict[str, list[Path]] = {}
    for image in image_files(place.folder):
        by_key.setdefault(_key(image, place.folder), []).append(image)
    problems, seen = [], set()
    for path in images_below(place.maps):
        key = _key(path, place.maps)
        images = by_key.get(key, [])
        if not images:
            problems.append(Problem(str(path), "the map has no image", f"an image below {place.folder} with this name"))
        elif len(images) > 1 or key in seen:
            what = f"it is not clear which map belongs to which image ({', '.join(image.name for image in images)})"
            problems.append(Problem(str(path), what, "one image and one map of a name", "Rename the files"))
        seen.add(key)
    return problems


def _records(root: Path, place: Place, *, labelled: bool) -> Iterable[Record]:
    maps = {_key(path, place.maps): path for path in images_below(place.maps)}
    for path in image_files(place.folder):
        defect = _defect(path.relative_to(place.folder)) if labelled else ""
        yield file_record(
            root,
            path,
            class_name=place.class_name,
            is_test=_is_test(place, path) if place.is_test is None else place.is_test,
            defect=defect,
            mask=maps.get(_key(path, place.folder)) if defect or not labelled else None,
        )


def _defect(path: Path) -> str:
    """The defect's type of `anomalous/TYPE/.../NAME` or `anomalous/NAME`; empty for `normal/NAME`."""
    if not path.parts[0].casefold() == "anomalous":
        return ""
    return normal_form(path.parts[1]) if len(path.parts) > 2 else "anomalous"


def _is_test(place: Place, path: Path) -> bool:
    return name_share(f"{place.class_name}/{path.relative_to(place.folder).as_posix()}") < TEST_SHARE


def _untrained(root: Path, records: tuple[Record, ...], wanted: tuple[str, ...]) -> list[Problem]:
    trained = {record.class_name for record in records if not record.is_test and not record.is_anomalous}
    next_step = "Add normal images to its training half, or leave the class out of dataset.classes"
    return [
        Problem(str(root), f"class '{name}' has no normal training image", next_step=next_step)
        for name in wanted
        if name not in trained
    ]


def _gaps(protocol: str, records: tuple[Record, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """What the wanted classes' test halves lack: metrics that need it are undefined."""
    nominal = Counter(record.class_name for record in records if record.is_test and not record.is_anomalous)
    anomalous = Counter(record.class_name for record in records if record.is_test and record.is_anomalous)
    if protocol == "one_vs_rest":
        anomalous = Counter({name: nominal.total() - nominal[name] for name in wanted})
    missing = (("nominal test images", nominal), ("test anomalies", anomalous))
    return tuple(f"Class '{name}' has no {what}." for name in wanted for what, count in missing if not count[name])


def _key(path: Path, folder: Path | None) -> str:
    """What an image and its map have in common: the path below the mirrored folder, without the ending."""
    assert folder is not None
    return normal_form(path.relative_to(folder).with_suffix("").as_posix())
