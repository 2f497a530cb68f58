"""MVTec-AD as its authors publish it.

    CLASS/train/good/*.png
    CLASS/test/{good,DEFECT}/*.png
    CLASS/ground_truth/DEFECT/NAME_mask.png        one for every anomalous test image

If folders of classes are missing, `CLASS.tar.xz` or `mvtec_anomaly_detection.tar.xz` in the root is unpacked before the
first trial; with `dataset.download: true` the latter is downloaded.

Source: Bergmann et al., CVPR 2019.
"""

from __future__ import annotations

from pathlib import Path

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data import fetching
from fcdd_sweep.data.decoding.files import file_record
from fcdd_sweep.data.decoding.folders import Folder, Reason, problems_of_faults
from fcdd_sweep.data.fetching import failed
from fcdd_sweep.data.records import DatasetScan, Record, Say, wanted_classes
from fcdd_sweep.data.registry import MVTEC_CLASSES, info

ARCHIVE = "mvtec_anomaly_detection.tar.xz"
URL = f"https://www.mydrive.ch/shares/38536/3830184030e49fe74747669442f0f282/download/420938113-1629952094/{ARCHIVE}"
SHA256 = "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d"
"""Of the archive behind `URL`, 5,264,982,680 bytes; anomalib publishes the same one."""
_GOOD = "good"
_HALVES = ("train", "test", "ground_truth")
_AGAIN = "Unpack the class again"


def scan(dataset: Dataset, images: Images) -> DatasetScan:
    """Return the images of the wanted classes: training images, nominal test images, then defects by name."""
    assert dataset.root is not None  # the loader has checked it
    wanted = wanted_classes(dataset, MVTEC_CLASSES)
    inside = _root_inside(dataset.root, wanted)
    missing = [] if inside else _missing_classes(dataset)
    if missing and (archives_here := _archives(dataset.root, missing)):
        names = ", ".join(path.name for path in archives_here)
        return DatasetScan(to_fetch=f"MVTec-AD: {names} will be unpacked in {dataset.root}.")
    if missing and dataset.download:
        return DatasetScan(to_fetch=f"MVTec-AD will be downloaded (5.3 GB) and unpacked in {dataset.root}.")
    if not any((dataset.root / name).is_dir() for name in wanted):
        return DatasetScan(problems=(_wrong_root(dataset.root, wanted, inside),))
    found = [_scan_class(dataset.root, name) for name in wanted]
    return DatasetScan(
        tuple(record for scan in found for record in scan.records),
        tuple(problem for scan in found for problem in scan.problems),
        gaps=tuple(gap for scan in found for gap in scan.gaps),
    )


def fetch(dataset: Dataset, say: Say) -> None:
    """Unpack the archives in the root, preferring those of single classes; download the whole archive if needed."""
    assert dataset.root is not None  # the loader has checked it
    found = _archives(dataset.root, _missing_classes(dataset))
    if found:
        for archive in found:
            fetching.unpack(archive, dataset.root, say)
        return
    archive = dataset.root / ARCHIVE
    try:
        fetching.download(URL, archive, SHA256, say)
    except fetching.DownloadError as error:
        raise failed(dataset, error) from error
    fetching.unpack(archive, dataset.root, say)
    archive.unlink()  # it is as large as the images, and the user did not place it


def _missing_classes(dataset: Dataset) -> list[str]:
    assert dataset.root is not None  # the loader has checked it
    return [name for name in wanted_classes(dataset, MVTEC_CLASSES) if not (dataset.root / name).is_dir()]


def _archives(root: Path, missing: list[str]) -> list[Path]:
    """Return the archives in the root that contain the missing classes; empty unless they contain all of them."""
    single = [root / f"{name}.tar.xz" for name in missing]
    if all(path.is_file() for path in single):
        return single
    whole = root / ARCHIVE
    return [whole] if whole.is_file() else []


def _root_inside(root: Path, wanted: tuple[str, ...]) -> Path | None:
    """Return the likely root, one level below, if it has class folders and `root` has none; else None."""
    if any((root / name).is_dir() for name in wanted):
        return None
    children = (child.path for child in Folder(root).folders)
    below = (folder for folder in children if any((folder / name).is_dir() for name in wanted))
    return next(below, None)


def _wrong_root(root: Path, wanted: tuple[str, ...], inside: Path | None) -> Problem:
    next_step = f"Set dataset.root to {inside}" if inside else info("mvtec").get
    return Problem("dataset.root", f"{root} holds none of the folders {', '.join(wanted)}", next_step=next_step)


def _scan_class(root: Path, name: str) -> DatasetScan:
    folder = root / name
    if not folder.is_dir():
        next_step = "Unpack the class there, place its archive beside, or leave it out of dataset.classes"
        return DatasetScan(problems=(Problem(str(folder), f"class '{name}' has no folder", next_step=next_step),))
    whole = Folder(folder)
    halves = [child for child in whole.folders if child.name in _HALVES]
    faults = [*whole.faults, *(fault for half in halves for fault in half.all_faults)]
    if any(fault.kind is Reason.FOLDER for fault in faults):
        return DatasetScan(problems=tuple(problems_of_faults(faults)))
    defects = [kind.path for kind in Folder(folder / "test").folders if kind.name != _GOOD]
    problems = [
        *_missing_images(folder / "train" / _GOOD),
        *_missing_images(folder / "test" / _GOOD),
        *(problem for kind in defects for problem in _missing_images(kind)),
        *(problem for kind in defects if _images(kind) for problem in _map_problems(kind)),
    ]
    if not defects:
        problems.append(Problem(str(folder / "test"), "holds no folder of a defect", next_step=_AGAIN))
    unreadable = {str(fault.path) for fault in faults}
    problems = [each for each in problems if unreadable.isdisjoint(map(str, (each.where, *Path(each.where).parents)))]
    records = _records(root, name, defects)
    not_read = tuple(sentence for half in halves for sentence in half.not_read())
    return DatasetScan(tuple(records), (*problems_of_faults(faults), *problems), gaps=not_read)


def _records(root: Path, name: str, defects: list[Path]) -> list[Record]:
    folder = root / name
    train, test = _images(folder / "train" / _GOOD), _images(folder / "test" / _GOOD)
    return [
        *(file_record(root, path, class_name=name, is_test=False) for path in train),
        *(file_record(root, path, class_name=name, is_test=True) for path in test),
        *(
            file_record(root, path, class_name=name, is_test=True, defect=kind.name, masks=(mask,))
            for kind in defects
            for path in _images(kind)
            if (mask := _map_path(path)).is_file()
        ),
    ]


def _images(folder: Path) -> list[Path]:
    return Folder(folder).all_images


def _missing_images(folder: Path) -> list[Problem]:
    if _images(folder):
        return []
    what = "the folder holds no images" if folder.is_dir() else "the folder is missing"
    return [Problem(str(folder), what, next_step=_AGAIN)]


def _map_path(image: Path) -> Path:
    """Return `CLASS/ground_truth/DEFECT/NAME_mask.png` for `CLASS/test/DEFECT/NAME.png`."""
    defect = image.parent
    return defect.parent.parent / "ground_truth" / defect.name / f"{image.stem}_mask.png"


def _map_problems(defect: Path) -> list[Problem]:
    folder = defect.parent.parent / "ground_truth" / defect.name
    if not folder.is_dir():
        return [Problem(str(folder), f"the folder with the ground-truth maps of {defect} is missing", next_step=_AGAIN)]
    expected = {_map_path(image): image for image in _images(defect)}
    maps = set(_images(folder))
    missing = [
        Problem(str(path), f"the ground-truth map of {image} is missing", next_step=_AGAIN)
        for path, image in expected.items()
        if path not in maps
    ]
    left_over = [
        Problem(
            str(path), "the map has no image", f"one map per image of {defect}", "Restore the image or remove the map"
        )
        for path in sorted(maps - expected.keys())
    ]
    return missing + left_over
