"""`index.parquet` as rows. One of an earlier version lacks the columns that were added since: they are null."""

from __future__ import annotations

import io
import os
import tempfile
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fcdd_sweep.config.locations import RemotePath
from fcdd_sweep.results import schemas, storage
from fcdd_sweep.results.storage import Location

_ADDED = ("wall_time_s", "device")


def read_index_rows(path: Location) -> list[dict[str, Any]]:
    """Raises:
    KeyError: it lacks a column that every version has.
    ArrowInvalid, OSError: it cannot be read.
    """
    table = read_table(path)
    for name in _ADDED:
        if name not in table.column_names:
            kind = schemas.INDEX.field(name).type
            table = table.append_column(name, pa.nulls(len(table), kind))
    rows: list[dict[str, Any]] = table.select(schemas.INDEX.names).to_pylist()
    return rows


P = TypeVar("P", bound=storage.Location)


def write_atomically(path: P, write: Callable[[Path], object]) -> P:
    """Let `write` fill a new file beside `path`, then rename it to `path`; a failure leaves nothing behind.

    The new file keeps the ending of `path`, since matplotlib and torch look at it.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="fcdd-write-") as folder:
            aside = Path(folder) / path.name
            write(aside)
            storage.send(aside, path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        write(aside)
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def write_text(path: P, text: str) -> P:
    return write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def table_from_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """A table of exactly the schema's columns; a row with an unknown or missing column is a programming error."""
    names = set(schema.names)
    for row in rows:
        if row.keys() != names:
            raise ValueError(f"columns differ from the schema: {sorted(names ^ row.keys())}")
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def write_table(path: P, table: pa.Table) -> P:
    return write_atomically(path, lambda aside: pq.write_table(table, aside, compression="zstd"))


def write_rows(path: P, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> P:
    return write_table(path, table_from_rows(rows, schema))


def read_table(path: storage.Location) -> pa.Table:
    """The table at `path`, without adding columns for folders that look like partitions.

    One thread: a run has many small files, for which handing work to others takes longer than the work.
    """
    with pq.ParquetFile(io.BytesIO(storage.read_bytes(path))) as file:
        return file.read(use_threads=False)


def write_arrays(path: P, arrays: Mapping[str, npt.NDArray[Any]]) -> P:
    """A compressed `.npz` of plain arrays (no pickled objects)."""

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **dict(arrays))

    return write_atomically(path, write)


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, npt.NDArray[Any]]:
    """The arrays in a `.npz`; only those in `names` that it has, when given: the others are not even unpacked."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files if names is None or name in names}
