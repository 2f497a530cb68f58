"""MVTec LOCO AD as its authors publish it: defects with saturation areas, the data of sPRO.

    CLASS/train/good/*.png
    CLASS/validation/good/*.png                                            not read: `evaluation.validation` holds out
    CLASS/test/{good,logical_anomalies,structural_anomalies}/*.png
    CLASS/ground_truth/{logical_anomalies,structural_anomalies}/NAME/*.png      a map for each defect of the image NAME
    CLASS/defects_config.json         what each value in these maps means, and from which area on a defect is found

A map has one value besides 0, which names the kind of defect; defects may overlap. A pixel of several counts as one of
the first, by the name of its map.

Source: Bergmann et al., IJCV 130 (2022).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.decoding.files import file_record, file_stamp
from fcdd_sweep.data.decoding.folders import Folder, problems_of_faults
from fcdd_sweep.data.decoding.pixels import PLAIN, Decoding, read_map, read_picture
from fcdd_sweep.data.records import DatasetScan, DecodedImage, DefectMap, Record, wanted_classes
from fcdd_sweep.data.registry import LOCO_CLASSES, info

DEFECTS_CONFIG = "defects_config.json"
KINDS = ("logical_anomalies", "structural_anomalies")
_GOOD = "good"
_AGAIN = "Unpack the class again"
Areas = Mapping[int, Mapping[str, Any]]
"""Entries of `defects_config.json` by the value of their maps."""


def scan(dataset: Dataset, images: Images) -> DatasetScan:
    """Return the images of the wanted classes: training images, nominal test images, then anomalies by kind."""
    assert dataset.root is not None  # the loader has checked it
    wanted = wanted_classes(dataset, LOCO_CLASSES)
    if not any((dataset.root / name).is_dir() for name in wanted):
        what = f"{dataset.root} holds none of the folders {', '.join(wanted)}"
        return DatasetScan(problems=(Problem("dataset.root", what, next_step=info("mvtec_loco").get),))
    records: list[Record] = []
    problems: list[Problem] = []
    for name in wanted:
        found = _scan_class(dataset.root, name, problems)
        records += found
    return DatasetScan(tuple(records), tuple(problems))


def _scan_class(root: Path, name: str, problems: list[Problem]) -> list[Record]:
    folder = root / name
    if not folder.is_dir():
        step = "Unpack the class there, or leave it out of dataset.classes"
        problems.append(Problem(str(folder), f"class '{name}' has no folder", next_step=step))
        return []
    read = [Folder(folder / half) for half in ("train", "test", "ground_truth")]
    problems += problems_of_faults([fault for half in read for fault in half.all_faults])
    good = {half: Folder(folder / half / _GOOD) for half in ("train", "test")}
    for each in good.values():
        if not each.all_images:
            what = "the folder holds no images" if each.path.is_dir() else "the folder is missing"
            problems.append(Problem(str(each.path), what, next_step=_AGAIN))
    areas = _read_areas(folder / DEFECTS_CONFIG, problems)
    records = [
        file_record(root, path, class_name=name, is_test=half == "test")
        for half, each in good.items()
        for path in each.all_images
    ]
    for kind in KINDS:
        for path in Folder(folder / "test" / kind).all_images:
            maps = tuple(Folder(folder / "ground_truth" / kind / path.stem).images)
            if not maps:
                where = folder / "ground_truth" / kind / path.stem
                problems.append(Problem(str(where), f"the ground-truth maps of {path} are missing", next_step=_AGAIN))
                continue
            record = file_record(root, path, class_name=name, is_test=True, defect=kind, masks=maps)
            stamp = f"{record.stamp}+{file_stamp(folder / DEFECTS_CONFIG)}" if areas else record.stamp
            records.append(replace(record, stamp=stamp, load=partial(_read, path, maps, areas)))
    return records


def _read_areas(path: Path, problems: list[Problem]) -> Areas:
    """Return the entries of `defects_config.json`; empty, with a problem, where it is not as published."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        found = {int(entry["pixel_value"]): entry for entry in entries}
        for entry in entries:
            limit = entry["saturation_threshold"]
            if not (0 < limit <= 1 if entry["relative_saturation"] else limit >= 1):
                raise ValueError(f"saturation_threshold {limit} of '{entry.get('defect_name', '')}' is out of range")
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"cannot be read: {error if isinstance(error, ValueError) else type(error).__name__}"
        allowed = "a list of objects with pixel_value, saturation_threshold and relative_saturation"
        problems.append(Problem(str(path), what, allowed, _AGAIN))
        return {}
    return found


def _read(path: Path, maps: tuple[Path, ...], areas: Areas, decoding: Decoding = PLAIN) -> DecodedImage:
    """Return an image with the union of its maps, and each defect with the area from which on it is found.

    Raises:
        DataError: a file does not decode, or a map does not have one known value besides 0.
    """
    decoded = read_picture(path, maps, decoding)
    assert decoded.mask is not None
    defects = []
    union = np.zeros(decoded.mask.shape, np.bool_)
    for map_path in maps:
        values = np.asarray(read_map(map_path, decoding.max_megapixels)[0].codes)
        kinds = np.unique(values[values > 0]).tolist()
        if len(kinds) != 1 or kinds[0] not in areas:
            what = f"has the values {', '.join(map(str, kinds)) or 'none'} besides 0"
            allowed = f"one value of {DEFECTS_CONFIG}: {', '.join(map(str, areas))}"
            raise DataError(Problem(str(map_path), what, allowed, _AGAIN))
        mask = values > 0
        defects.append(DefectMap(mask, saturation_area(areas[kinds[0]], int(mask.sum()))))
        union |= mask
    return decoded._replace(mask=union, defects=tuple(defects))


def saturation_area(entry: Mapping[str, Any], area: int) -> float:
    """Return the pixels of a defect that count as all of it: at least 1, at most its area.

    Args:
        entry: of `defects_config.json`.
        area: of the defect in pixels.
    """
    limit = entry["saturation_threshold"]
    return float(max(1, min(int(limit * area) if entry["relative_saturation"] else int(limit), area)))
