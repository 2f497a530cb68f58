"""ELPV: electroluminescence images of solar cells, 300x300 gray, each graded by experts with a defect probability.

Grades are 0, 1/3, 2/3 and 1. A cell is nominal when its grade is 0 and anomalous when it is above the option
`threshold`; those in between are left out. Split, by a digest of the file name: 30% of the nominal cells are test
images and the others train; 20% of the anomalous cells belong to the training split, which only mode `other` uses, and
80% are test images. The defect's type is the grade: `possible` (1/3), `likely` (2/3), `certain` (1).

Source: Deitsch et al., Solar Energy 185 (2019), https://github.com/zae-bayern/elpv-dataset.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.names import name_share
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.decoding.files import file_record
from fcdd_sweep.data.records import DatasetScan, Record, wanted_classes
from fcdd_sweep.data.registry import info

TEST_SHARE_NOMINAL = 0.3
TEST_SHARE_ANOMALOUS = 0.8
_GRADES = {"0.0": "", "0.3333333333333333": "possible", "0.6666666666666666": "likely", "1.0": "certain"}


class Cell(NamedTuple):
    """One line of `labels.csv`."""

    file: str
    probability: float
    grade: str
    kind: str


def scan(dataset: Dataset, images: Images) -> DatasetScan:
    """Return the cells of the wanted kinds, in the order of `labels.csv`."""
    folder = _folder()
    if folder is None:
        what = "'solar' needs the package elpv-dataset, which is not installed"
        return DatasetScan(problems=(Problem("dataset.name", what, next_step=info("solar").get),))
    known = info("solar")
    threshold = float(dataset.options.get("threshold", known.options["threshold"].default))
    kinds = wanted_classes(dataset, known.classes or ())
    cells = [cell for cell in _cells(folder) if cell.kind in kinds]
    used = [cell for cell in cells if cell.probability == 0 or cell.probability > threshold]
    records = tuple(_record(folder, cell) for cell in used)
    return DatasetScan(records, notes=_notes(threshold, len(cells) - len(used)))


def _folder() -> Path | None:
    spec = find_spec("elpv_dataset")  # the package's own function reads all images: only its files are used
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "data"


def _cells(folder: Path) -> list[Cell]:
    lines = (folder / "labels.csv").read_text(encoding="utf-8").split("\n")
    rows = [line.split() for line in lines if line.strip()]
    return [Cell(file, float(grade), _GRADES[grade], kind) for file, grade, kind in rows]


def _record(folder: Path, cell: Cell) -> Record:
    share = TEST_SHARE_ANOMALOUS if cell.grade else TEST_SHARE_NOMINAL
    is_test = name_share(Path(cell.file).name) < share
    return file_record(folder, folder / cell.file, class_name=cell.kind, is_test=is_test, defect=cell.grade)


def _notes(threshold: float, left_out: int) -> tuple[str, ...]:
    return (
        f"Solar cells: nominal means defect probability 0, anomalous above {threshold:g}; {left_out} cells in between "
        "are left out.",
        f"Solar cells: fixed split by file name; {TEST_SHARE_NOMINAL:.0%} of the nominal and "
        f"{TEST_SHARE_ANOMALOUS:.0%} of the anomalous cells are test images, the other anomalous cells serve mode "
        "`other` alone. Which module a cell was cut from is not published: cells of one module may be in both splits.",
    )
