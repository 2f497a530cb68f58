"""Read and write the files of a run: each is written whole or not at all, and carries the version of its format."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import os
import re
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fcdd_sweep.config.errors import InputError, Problem, short_error
from fcdd_sweep.config.locations import RemotePath, StorageError
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results import schemas, storage, tree
from fcdd_sweep.results.pixel_schemas import LATER
from fcdd_sweep.results.storage import Location
from fcdd_sweep.results.tree import RunPaths, TrialPaths

TableRow = dict[str, Any]
"""One row of a table, by column."""
P = TypeVar("P", bound=storage.Location)


def leave_pandas_out() -> None:
    """Have pyarrow not import pandas in this process, which takes half a second and which no table of a run needs.

    For processes that run nothing but this package: `to_pandas` of tables fails afterwards.
    """
    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, _NoPandas)
        try:
            pa.array([0])  # pyarrow tries once
        finally:
            sys.meta_path.remove(_NoPandas)


class _NoPandas:
    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ImportError


_END_OF_PARQUET = b"PAR1"


class DamagedTableError(ValueError):
    """A file that is not Parquet, or that lacks columns of its table."""


class DamagedArraysError(ValueError):
    """A file of arrays that is not whole; the message says what to do."""


def write_atomically(path: P, write: Callable[[Path], object]) -> P:
    """Let `write` fill a new file beside `path`, then rename it to `path`; a failure leaves nothing behind.

    The new file keeps the ending of `path`, since matplotlib and torch look at it.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="fcdd-write-") as folder:
            local = Path(folder) / path.name
            write(local)
            storage.send(local, path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        write(unfinished)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def text_or_empty(path: Path) -> str:
    """Return the text of a file, whatever its bytes; empty where there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def write_text(path: P, text: str) -> P:
    return write_atomically(path, lambda local: local.write_text(text, encoding="utf-8"))


def nulled(row: Mapping[str, Any]) -> TableRow:
    """Return the row with None for NaN: undefined values are NaN in memory and null in files."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}


def table_from_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return a table with exactly the columns of the schema, and its metadata.

    Raises:
        ValueError: a row has an unknown or a missing column, which is a programming error.
    """
    names = set(schema.names)
    for row in rows:
        if row.keys() != names:
            raise ValueError(f"columns differ from the schema: {sorted(names ^ row.keys())}")
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def write_table(path: P, table: pa.Table) -> P:
    return write_atomically(path, lambda local: pq.write_table(table, local, compression="zstd"))


def write_rows(path: P, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> P:
    return write_table(path, table_from_rows(rows, schema))


def read_table(path: storage.Location) -> pa.Table:
    """Return the table at `path`, without adding columns for folders that look like partitions.

    One thread reads it: a run has many small files, for which distributing the work takes longer than the work.
    """
    with pq.ParquetFile(io.BytesIO(storage.read_bytes(path))) as file:
        return file.read(use_threads=False)


def read_columns(path: Location, schema: pa.Schema) -> pa.Table:
    """Return the table at `path`, which has at least the columns of `schema`; those that were added later, and that
    it lacks, are null.

    Raises:
        DamagedTableError: the file is not Parquet, has a damaged page, or lacks a column.
        OSError: the file is missing or cannot be read.
    """
    try:
        table = read_table(path)
    except pa.ArrowException as error:
        raise DamagedTableError(f"{path.name} is damaged: it is not Parquet") from error
    except OSError as error:
        if isinstance(error, StorageError) or error.errno is not None:
            raise
        raise DamagedTableError(f"{path.name} is damaged: {short_error(error)}") from error  # of a page
    present = set(table.column_names)
    absent = [name for name in schema.names if name not in present]
    if damaged := [name for name in absent if LATER.encode() not in schema.field(name).metadata]:
        raise DamagedTableError(f"{path.name} lacks the columns {', '.join(damaged)}")
    for name in absent:
        table = table.append_column(schema.field(name), pa.nulls(len(table), schema.field(name).type))
    return table


def read_rows(path: Location, schema: pa.Schema) -> list[TableRow]:
    """Return the rows of the table at `path`; see `read_columns` for what it raises."""
    rows: list[TableRow] = read_columns(path, schema).to_pylist()
    return rows


def check_rows(name: str, table: pa.Table, trial_id: str, *, has_rows: bool) -> None:
    """Raise a ValueError for a table of a leaf with rows of another trial, or without the rows that it must have."""
    if others := sorted({str(each) for each in table["trial_id"].unique().to_pylist()} - {trial_id}):
        raise ValueError(f"{name} holds trial {others[0]}, not {trial_id}")
    if has_rows and not len(table):
        raise ValueError(f"{name} has no rows")


def read_index(run_dir: Location) -> dict[str, TableRow]:
    """Return the rows of `index.parquet` by trial id; none when the run has no index.

    Raises:
        DamagedTableError: the index is damaged; finished trials can still be found by their leaves.
        OSError: it cannot be read.
    """
    path = RunPaths(run_dir).index
    if not storage.is_file(path):
        return {}
    return {row["trial_id"]: row for row in read_rows(path, schemas.INDEX)}


def read_metrics(leaf: Location, trial_id: str) -> TableRow | None:
    """Return the row of `metrics.parquet` of a leaf; None where it is missing, damaged or of another trial.

    Raises:
        StorageError: the store did not answer, so that nothing is known of the leaf.
    """
    try:
        rows = read_rows(TrialPaths(leaf).metrics, schemas.METRICS)
    except StorageError:
        raise
    except (DamagedTableError, OSError):
        return None
    return rows[0] if rows and rows[0]["trial_id"] == trial_id else None


def holds_trial(leaf: Location, trial_id: str) -> bool:
    """Return whether `metrics.parquet` of a leaf is of this trial, as `read_metrics` says in 40 times the time.

    Raises:
        StorageError: as of `read_metrics`.
    """
    try:
        content = storage.read_bytes(TrialPaths(leaf).metrics)
    except StorageError:
        raise
    except OSError:
        return False
    named = content.endswith(_END_OF_PARQUET) and trial_id.encode() in content  # in the statistics of its column
    return named or read_metrics(leaf, trial_id) is not None


def read_whole_leaf(leaf: Location, trial_id: str) -> TableRow | None:
    """Return what `read_metrics` does, and None, too, where another table of the leaf is missing.

    Raises:
        StorageError: as of `read_metrics`.
    """
    row = read_metrics(leaf, trial_id)
    return row if row and set(tree.LEAF_TABLES) <= set(storage.children(leaf)) else None


def read_spec(leaf: Location) -> TrialSpec:
    """Return the trial of a leaf, as its `config.yaml` describes it.

    Raises:
        ValueError: the file is damaged, or made by a version of fcdd_sweep with other settings.
        OSError: it is missing or cannot be read.
    """
    plain = json.loads(storage.read_bytes(TrialPaths(leaf).config))
    names = [field.name for field in dataclasses.fields(TrialSpec)]
    try:
        return TrialSpec.from_dict({name: plain[name] for name in names})  # the file holds its ids, too
    except (TypeError, KeyError) as error:
        raise ValueError(f"{tree.CONFIG} does not describe a trial") from error


def write_arrays(path: P, arrays: Mapping[str, npt.NDArray[Any]]) -> P:
    """Write a compressed `.npz` of plain arrays (no pickled objects)."""

    def write(local: Path) -> None:
        with local.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **dict(arrays))

    return write_atomically(path, write)


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays in a `.npz`; with `names`, only these, and the others are not unpacked.

    Raises:
        DamagedArraysError: the file is no whole `.npz`.
        OSError: it is missing or cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files if names is None or name in names}
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damage raises many types: of zipfile, zlib, numpy and the parser of its headers
        step = "Copy it again; or remove its folder and run the experiment again, which trains the trial anew"
        raise DamagedArraysError(f"{path.name} is damaged ({short_error(error)}). {step}") from error


EXPERIMENT_SCHEMA: int = get_args(Experiment.model_fields["schema_"].annotation)[0]
"""The `schema` of experiment files that this version of fcdd_sweep reads."""
_FILES = (tree.EXPERIMENT, tree.PLAN, tree.INDEX, tree.FAILURES, tree.ENVIRONMENT, tree.REPORT_STATE)
_FOLDERS = (tree.SOURCE, tree.ATTEMPTS)
"""What every start of a run reads or writes."""
_SCHEMA_LINE = re.compile(r"^schema: *(\d+)", re.MULTILINE)


def check_run_version(run_dir: Location) -> None:
    """Check that the files of a run have the formats that this version of fcdd_sweep reads and writes.

    Looks at the `schema` of `experiment.yaml`, at the version of the tables `plan.parquet` and `index.parquet`, and
    whether a folder is in the place of a file. Files that are missing or damaged pass: the first start of a run has
    none, and who reads a damaged file reports it. Nothing is written.

    Raises:
        InputError: another version of fcdd_sweep made the run, or a folder is in the place of one of its files, or
            the other way around.
        StorageError: the store was unreachable for too long.
    """
    if isinstance(run_dir, Path):
        _check_kinds(run_dir)
    schema = _experiment_schema(RunPaths(run_dir).experiment)
    if schema is not None and schema != EXPERIMENT_SCHEMA:
        made = f"this run was made with schema {schema} of the experiment file; this version reads {EXPERIMENT_SCHEMA}"
        raise _other_version(run_dir, made)
    for name in (tree.PLAN, tree.INDEX):
        version = _table_version(run_dir / name)
        if version is not None and version != schemas.TABLES_VERSION:
            raise _other_version(
                run_dir,
                f"this run has version {version} of the result tables ({name}), and version {schemas.TABLES_VERSION} "
                "is read",
            )


def _check_kinds(run_dir: Path) -> None:
    """Raise an InputError where a folder is in the place of a file of the run, or the other way around."""
    for name in (*_FILES, *_FOLDERS):
        place = run_dir / name
        if place.exists() and place.is_dir() == (name in _FILES):
            what = "a folder in the place of a file" if name in _FILES else "a file in the place of a folder"
            raise InputError(Problem(str(place), f"is {what} of the run", "", "Move it away, and rerun the command"))


def _other_version(run_dir: Location, what: str) -> InputError:
    step = "Choose another name or output to start a new run, or use the version of fcdd_sweep that made this one"
    return InputError(Problem(str(run_dir), what, next_step=step))


def _experiment_schema(path: Location) -> int | None:
    """Return the `schema` that an experiment file states; None when it is missing or states none."""
    content = _read_if_possible(path)
    stated = _SCHEMA_LINE.search(content.decode("utf-8", errors="replace"))
    return int(stated[1]) if stated else None


def _table_version(path: Location) -> int | None:
    """Return the version of a table, 1 for one that states none; None when it is missing or damaged."""
    content = _read_if_possible(path)
    try:
        metadata = pq.read_schema(io.BytesIO(content)).metadata or {}
        return int(metadata.get(schemas.VERSION_KEY, b"1"))
    except (pa.ArrowException, OSError, ValueError):
        return None


def _read_if_possible(path: Location) -> bytes:
    """Return the content of a file; nothing when it is missing or cannot be read."""
    try:
        return storage.read_bytes(path)
    except StorageError:
        raise
    except OSError:
        return b""


_PACKAGE = Path(__file__).parent.parent
_ARCHIVE_DATE = (1980, 1, 1, 0, 0, 0)
"""The date of every member of a source archive, so that the same source gives the same archive."""


@cache
def source_digest() -> str:
    """Return 12 hex digits over names and content of the package's Python files, as in the column `versions`."""
    content = hashlib.sha256()
    for path in _source_files():
        content.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()[:12]


def keep_source(run_dir: Location) -> Location:
    """Write `source/DIGEST.zip`, the package that makes the run's trials, unless the run has it already.

    A run has several archives when its trials were made by several states of the code.
    """
    path = RunPaths(run_dir).source / f"{source_digest()}.zip"
    if storage.is_file(path):
        return path
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for file in _source_files():
            member = zipfile.ZipInfo(file.relative_to(_PACKAGE.parent).as_posix(), _ARCHIVE_DATE)
            bundle.writestr(member, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return write_atomically(path, lambda local: local.write_bytes(archive.getvalue()))


def _source_files() -> list[Path]:
    return sorted(_PACKAGE.rglob("*.py"))
