"""Tables as text for a terminal, a pipe or a log file."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_UNLIMITED = 100_000
"""Columns of text that is not for a terminal."""


def terminal_width(stream: TextIO) -> int | None:
    """Return the columns of the terminal that a stream writes to; None when it writes to a pipe or a file."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def table_text(
    rows: Sequence[Sequence[str]], *, names: int, indent: int = 0, least: int = 0, width: int | None = None
) -> str:
    """Return rows as aligned columns without color, so that programs can read them from a pipe.

    Args:
        rows: cells, as many in each row; a title row is a row.
        names: number of columns on the left that hold text; the others hold numbers, aligned on the right.
        indent: columns left of the table.
        least: least width of the first column, to align several tables.
        width: columns of the terminal, into which long text is wrapped; None for lines of any length.
    """
    table = Table.grid(padding=(0, 2, 0, 0))
    for number in range(len(rows[0]) if rows else 0):
        is_name = number < names
        table.add_column(
            justify="left" if is_name else "right",
            overflow="fold",
            no_wrap=not is_name,
            min_width=least if number == 0 and (width is None or width > 2 * least) else None,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    stream = io.StringIO()
    console = Console(file=stream, width=width or _UNLIMITED, color_system=None, force_jupyter=False)
    console.print(Padding(table, (0, 0, 0, indent)))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
