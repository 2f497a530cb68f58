"""Where the files in a tar lie, so that each can be read by itself and nothing needs to be extracted."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

from fcdd_sweep.config.errors import DataError, Problem


class Member(NamedTuple):
    """A file in a tar.

    Attributes:
        name: its name in the tar.
        offset: where its content begins, in bytes from the beginning of the outermost tar.
        size: bytes; -1 for a file that lies in a folder by itself.
    """

    name: str
    offset: int
    size: int


def members(path: Path) -> list[Member]:
    """All regular files in a tar, in its order.

    Raises:
        DataError: the tar cannot be read, or is damaged or cut off.
    """
    with _explained(path), path.open("rb") as file:
        return _members(file)


def nested_members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, list[Member]]]:
    """The files in those tars of a tar whose names are `wanted`, with offsets into the outer one.

    Raises:
        DataError: as `members`.
    """
    with _explained(path), tarfile.open(path, "r:") as outer:
        for info in outer:
            if info.isfile() and wanted(info.name):
                inner = cast(IO[bytes], outer.extractfile(info))
                yield info.name, [m._replace(offset=info.offset_data + m.offset) for m in _members(inner)]
        _check_end(cast(IO[bytes], outer.fileobj), outer.offset)


def _members(file: IO[bytes]) -> list[Member]:
    with tarfile.open(fileobj=file, mode="r:") as tar:
        found = [Member(info.name, info.offset_data, info.size) for info in tar if info.isfile()]
        _check_end(file, tar.offset)
    return found


def _check_end(file: IO[bytes], offset: int) -> None:
    """tarfile takes a damaged header for the end of the tar; at a true end are zeros, or nothing."""
    file.seek(offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"bad header at byte {offset}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(Problem(str(path), f"cannot be read ({error.strerror or error})")) from error
    except tarfile.TarError as error:
        what = f"is damaged or incomplete ({error})"
        raise DataError(Problem(str(path), what, next_step="Copy it there again")) from error
