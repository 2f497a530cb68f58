"""A CSV or Parquet table that lists images: columns path and label, optionally class, split, mask and group.

`path` and `mask` are below the table's folder; several masks are separated by `;`. A label is a word for normal
(`good`, `OK`, 0) or for anomalous (`bad`, `NG`, 1), any other is a type of defect. `split` is train or test; where it
is empty, `split_rule` decides, by `group` if that is given. Without `class` there is one, named like the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.nearest import closest, nearest
from fcdd_sweep.data.datasets.folder_layout import class_name_of
from fcdd_sweep.data.datasets.folder_roles import role_of
from fcdd_sweep.data.datasets.part_trees import FoundImage, FoundImages
from fcdd_sweep.data.decoding.files import is_image
from fcdd_sweep.data.decoding.folders import Folder

_ENDINGS = frozenset({".csv", ".parquet"})
_COLUMNS = ("path", "label", "split", "mask", "group", "class")
_NEEDED = ("path", "label")
_SEPARATORS = ";\t|"
_CLOSE = 0.8
_NAMED = 20
_TableRow = Mapping[str, str]


def is_table(path: Path) -> bool:
    """Return whether a path is a file that `read_image_table` reads, by its ending."""
    return path.suffix.lower() in _ENDINGS and path.is_file()


def read_image_table(path: Path) -> FoundImages:
    """Return the images of a table, in its order, and a problem for each row that cannot be read.

    Raises:
        DataError: the file is no such table, or lacks a column.
    """
    rows = _rows(path)
    images, maps, problems = list[FoundImage](), dict[Path, tuple[Path, ...]](), list[Problem]()
    for number, row in enumerate(rows, 2):
        if found := list(_row_problems(path, row, number)):
            problems += found
            continue
        image = _image(path, row)
        images.append(image)
        if row["mask"] and image.defect:
            maps[image.path] = tuple(path.parent / name.strip() for name in row["mask"].split(";"))
    counts = Counter(image.path for image in images)
    problems += [Problem(str(path), f"lists {each} {count} times") for each, count in counts.items() if count > 1]
    if not rows:
        problems.append(Problem(str(path), "lists no images"))
    return FoundImages(f"the table {path.name}", tuple(images), maps, tuple(problems[:_NAMED]))


def _rows(path: Path) -> list[_TableRow]:
    try:
        if path.suffix.lower() == ".csv":
            path.read_text(encoding="utf-8")
            pa.enable_signal_handlers(enable=False)  # else the reader starts a thread that lasts
            names = pa.csv.open_csv(path).schema.names
            as_text = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
            table = pa.csv.read_csv(path, convert_options=as_text)
        else:
            table = pa.parquet.read_table(path)
    except UnicodeDecodeError as error:
        step = "Save it as UTF-8, in Excel as 'CSV UTF-8'"
        raise DataError(Problem(str(path), "is not UTF-8 text", "a table in UTF-8", step)) from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(Problem(str(path), f"cannot be read as a table ({error})")) from error
    if problem := _column_problem(path, table.column_names):
        raise DataError(problem)
    kept = [name for name in _COLUMNS if name in table.column_names]
    return [dict.fromkeys(_COLUMNS, "") | _texts(row) for row in table.select(kept).to_pylist()]


def _column_problem(path: Path, names: Sequence[str]) -> Problem | None:
    """Return the problem of columns that are needed, and of those passed over for their spelling."""
    missing = [name for name in _NEEDED if name not in names]
    plain = {name: nearest(name.strip().casefold(), _COLUMNS, _CLOSE) for name in names if name not in _COLUMNS}
    renamed = {name: wanted for name, wanted in plain.items() if wanted and wanted not in names}
    if not missing and not any(name.strip().casefold() in _COLUMNS for name in renamed):
        return None
    found = f"has no column {' and no column '.join(missing)}" if missing else "has columns that would not be read"
    renames = ", ".join(f"'{name}' to '{wanted}'" for name, wanted in renamed.items())
    step = f"Rename {renames}" if renames else ""
    if len(names) == 1 and any(separator in names[0] for separator in _SEPARATORS):
        step = "Separate the columns by commas"
    allowed = f"columns {', '.join(_COLUMNS)}; {' and '.join(_NEEDED)} are needed"
    return Problem(str(path), f"{found}: {', '.join(names)}", allowed, step)


def _texts(row: Mapping[str, object]) -> dict[str, str]:
    return {name: "" if value is None else _text(value).strip() for name, value in row.items()}


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool | float) and value == int(value) else str(value)


def _row_problems(path: Path, row: _TableRow, number: int) -> Iterator[Problem]:
    where = f"{path}, line {number}"
    files = [row["path"], *(name.strip() for name in row["mask"].split(";") if row["mask"])]
    for name in files:
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            inside = Path(name).is_relative_to(path.parent) and ".." not in Path(name).parts
            step = f"Write '{Path(name).relative_to(path.parent)}'" if inside else ""
            yield Problem(where, f"found the path '{name}'", f"a path relative to {path.parent}, and below it", step)
        elif not (path.parent / name).is_file():
            step = "Write / in paths" if "\\" in name else ""
            yield Problem(where, f"there is no file {path.parent / name}", next_step=step)
        elif not is_image(Path(name).name):
            yield Problem(where, f"{name} has not the ending of an image")
    if not row["label"]:
        yield Problem(where, "has no label", "normal, anomalous or a type of defect")
    if row["split"].casefold() not in ("", "train", "test"):
        near = closest(row["split"], ("train", "test"))
        yield Problem(where, f"found split '{row['split']}'", "train, test or nothing", near)


def _image(path: Path, row: _TableRow) -> FoundImage:
    role = {"0": "normal", "1": "anomalous"}.get(row["label"]) or role_of(Folder(Path(row["label"])))
    defect = {"normal": "", "anomalous": "anomalous"}.get(str(role), class_name_of(row["label"]))
    return FoundImage(
        path=path.parent / row["path"],
        class_name=class_name_of(row["class"] or path.stem),
        is_test=row["split"].casefold() == "test" if row["split"] else None,
        defect=defect,
        name=Path(row["path"]).as_posix(),
        group=row["group"],
    )
