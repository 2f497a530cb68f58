"""Tables of predictions: written row by row into files, and kept for the terminal."""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow.csv
import pyarrow.parquet as pq

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.data.decoding.folders import Folder, no_folder
from fcdd_sweep.prediction.pictures import HEATMAPS
from fcdd_sweep.report.text import score_text
from fcdd_sweep.results import files
from fcdd_sweep.results import prediction_schemas as schemas
from fcdd_sweep.training.prediction import ImagePrediction

PREDICTIONS, PREDICTIONS_CSV = "predictions.parquet", "predictions.csv"
ROWS_TOGETHER = 1024
"""Rows of a group of `predictions.parquet`, which are in memory before they are written."""
MOST_SHOWN = 40
"""Rows of the table in the terminal."""


def row_of(prediction: ImagePrediction, **more: Any) -> dict[str, Any]:
    """Return a row of `predictions.parquet`.

    Args:
        prediction: of one image.
        more: the columns `normal_class`, `heatmap` and `given_label`.
    """
    decision = prediction.decision._asdict()
    del decision["mask"]
    return {"path": prediction.name, "score": prediction.score, **decision, **more}


class PredictionFiles:
    """Writer of `predictions.parquet` and `predictions.csv`, in memory that does not grow with the number of rows.

    Both appear when it is closed; after an error nothing is left of them. A `live` one writes each row into the CSV
    file at once, and leaves that.
    """

    def __init__(self, output: Path, *, live: bool = False) -> None:
        self.output = output
        self._live = live
        mark = uuid.uuid4().hex[:8]
        self._unfinished = {name: output / f".{mark}-{name}" for name in (PREDICTIONS, PREDICTIONS_CSV)}
        if live:
            self._unfinished[PREDICTIONS_CSV] = output / PREDICTIONS_CSV
        self._rows: list[dict[str, Any]] = []
        self._parquet = pq.ParquetWriter(self._unfinished[PREDICTIONS], schemas.PREDICTIONS, compression="zstd")
        self._csv = pyarrow.csv.CSVWriter(self._unfinished[PREDICTIONS_CSV], schemas.PREDICTIONS)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        self._rows.append(dict(row))
        if self._live:
            self._csv.write_table(files.table_from_rows([row], schemas.PREDICTIONS))
        if len(self._rows) >= ROWS_TOGETHER:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            table = files.table_from_rows(self._rows, schemas.PREDICTIONS)
            self._parquet.write_table(table)
            if not self._live:
                self._csv.write_table(table)
            self._rows = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._flush()
            self._parquet.close()
            self._csv.close()
            if kind is None:
                for name, path in self._unfinished.items():
                    path.replace(self.output / name)
        finally:
            for path in self._unfinished.values():
                if path.name.startswith("."):
                    path.unlink(missing_ok=True)


def check_output(output: Path, sources: Iterable[Path]) -> None:
    """Raise an `InputError` where new files would take the place of others, or pictures would be read as images.

    Args:
        output: folder for predictions.
        sources: images, and folders that are searched for images.
    """
    step = f"Choose another --output, or remove {PREDICTIONS}, {PREDICTIONS_CSV} and {HEATMAPS} from it"
    for name in (PREDICTIONS_CSV, PREDICTIONS):
        if (output / name).exists():
            what = "holds predictions already, which would be lost"
            raise InputError(Problem(str(output / name), what, next_step=step))
    for source in sources:
        if _would_be_read(output, source):
            what = f"pictures in it would be read as images of {source}"
            raise InputError(
                Problem(str(output), what, next_step="Choose an --output outside of the folders of images")
            )


def _would_be_read(output: Path, source: Path) -> bool:
    """Return whether an output folder is in a source, also through links, or its pictures are beside the source's."""
    above = {output.resolve(), *output.resolve().parents}
    if not no_folder(source) and any(folder.path.resolve() in above for folder in Folder(source).below):
        return True
    return (output / HEATMAPS).resolve() in (source.resolve(), *source.resolve().parents)


def make_folder(folder: Path) -> None:
    """Make a folder for predictions; raise an `InputError` where that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot write predictions ({error.strerror})"
        raise InputError(Problem(str(folder), what, next_step="Choose another --output")) from error


@dataclass
class ShownRows:
    """The rows of the table in the terminal: all of up to 40 images, or the 40 with the highest scores."""

    count: int = 0
    _kept: list[tuple[float, int, tuple[str, ...]]] = field(default_factory=list)

    def add(self, prediction: ImagePrediction) -> None:
        """Take a prediction into account."""
        entry = (prediction.score, -self.count, cells_of(prediction))
        self.count += 1
        if len(self._kept) < MOST_SHOWN:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heappushpop(self._kept, entry)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The rows: in the order of the images where all are shown, otherwise by falling score."""
        if self.count <= MOST_SHOWN:
            return [cells for *_, cells in sorted(self._kept, key=lambda entry: -entry[1])]
        return [cells for *_, cells in sorted(self._kept, reverse=True)]


TITLES = ("image", "decision", "heatmap", "score", "threshold", "regions", "area")
"""Titles of the columns in the terminal; the first three hold text."""


def cells_of(prediction: ImagePrediction) -> tuple[str, ...]:
    """Return a prediction as the cells of a row in the terminal."""
    share = "" if prediction.agreement is None else f" ({prediction.agreement:.0%} of seeds)"
    heatmap = "" if prediction.has_region is None else "region" if prediction.has_region else "clear"
    return (
        prediction.name,
        f"{prediction.label_text}{share}",
        f"{heatmap}, disagrees" if prediction.agrees is False else heatmap,
        score_text(prediction.score),
        "" if prediction.threshold is None else score_text(prediction.threshold),
        "" if prediction.n_regions is None else str(prediction.n_regions),
        "" if prediction.region_area is None else f"{prediction.region_area:.2%}",
    )
