"""Reading and writing single files. Every file is written aside and renamed, so that no reader sees half of one.

A file of an object store is written on this machine and sent as a whole.
"""

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

from fcdd_sweep.config.remote import RemotePath
from fcdd_sweep.results import place

P = TypeVar("P", bound=place.Place)


def write_aside(path: P, write: Callable[[Path], object]) -> P:
    """Let `write` fill a new file beside `path`, then rename it to `path`; a failure leaves nothing behind.

    The new file keeps the ending of `path`, since matplotlib and torch look at it.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="fcdd-write-") as folder:
            aside = Path(folder) / path.name
            write(aside)
            place.send(aside, path)
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
    return write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def table_from_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """A table of exactly the schema's columns; a row with an unknown or missing column is a programming error."""
    names = set(schema.names)
    for row in rows:
        if row.keys() != names:
            raise ValueError(f"columns differ from the schema: {sorted(names ^ row.keys())}")
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def write_table(path: P, table: pa.Table) -> P:
    return write_aside(path, lambda aside: pq.write_table(table, aside, compression="zstd"))


def write_rows(path: P, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> P:
    return write_table(path, table_from_rows(rows, schema))


def read_table(path: place.Place) -> pa.Table:
    """The table at `path`, without adding columns for folders that look like partitions.

    One thread: a run has many small files, for which handing work to others takes longer than the work.
    """
    with pq.ParquetFile(io.BytesIO(place.read_bytes(path))) as file:
        return file.read(use_threads=False)


def write_arrays(path: P, arrays: Mapping[str, npt.NDArray[Any]]) -> P:
    """A compressed `.npz` of plain arrays (no pickled objects)."""

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **dict(arrays))

    return write_aside(path, write)


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, npt.NDArray[Any]]:
    """The arrays in a `.npz`; only those in `names` that it has, when given: the others are not even unpacked."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files if names is None or name in names}
