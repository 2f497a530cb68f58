"""`index.parquet` as rows. One of an earlier version lacks the columns that were added since: they are null."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from fcdd_sweep.results import schemas
from fcdd_sweep.results.files import read_table
from fcdd_sweep.results.place import Place

_ADDED = ("wall_time_s", "device")


def read_index_rows(path: Place) -> list[dict[str, Any]]:
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
