"""Addresses of object stores, `s3://BUCKET/KEY?OPTIONS`, and the cache folder; `results.storage` does the I/O."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from fcdd_sweep.config.errors import InputError, Problem

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
"""Schemes that `pyarrow.fs.FileSystem.from_uri` opens, besides local files."""
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/?]*)(?P<path>[^?]*)\??(?P<query>.*)")
_SECRET = re.compile(r"(secret|password|token|account_key|access_key)", re.IGNORECASE)


class StorageError(OSError):
    """Storage failed, after all retries; the message is complete and needs no traceback."""


@dataclass(frozen=True)
class RemotePath:
    """An address in an object store. Like a `PurePath` it is text only: it can be compared and pickled.

    Attributes:
        root: scheme and bucket, `s3://bucket`.
        key: path below the root, `experiments/digits`; empty for the bucket itself.
        query: options of the store, `endpoint_override=127.0.0.1:9000&scheme=http`; every child keeps them.
    """

    root: str
    key: str = ""
    query: str = ""

    def __truediv__(self, below: str) -> RemotePath:
        return RemotePath(self.root, "/".join(filter(None, [self.key, *str(below).split("/")])), self.query)

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        return RemotePath(self.root, self.key.rpartition("/")[0], self.query)

    def __str__(self) -> str:
        options = f"?{self.query}" if self.query else ""
        return f"{self.root}/{self.key}{options}" if self.key else f"{self.root}{options}"


def name_problem(path: str | Path) -> str:
    """Return why this system, or a table of results, cannot have a name; empty when both can."""
    text, encoding = str(path), sys.getfilesystemencoding()
    if "\0" in text:
        return f"{text!a} contains a null character, which no name may have"
    try:
        text.encode("utf-8")  # as Parquet and object stores write names
        os.fsencode(text)
    except UnicodeEncodeError:
        step = "rename it" if encoding == "utf-8" else "rename it, or set PYTHONUTF8=1 for names in utf-8"
        return f"{text!a} cannot be a name here, where names are in {encoding}; {step}"
    return ""


_LONGEST_PART, _LONGEST_PATH = 255, 4095
"""Bytes that Linux and macOS allow in the name of a file or folder, and in a path."""
_VARIABLE = re.compile(r"\$\{?[A-Za-z_][A-Za-z0-9_]*\}?|%[A-Za-z_][A-Za-z0-9_]*%")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def local_path(text: str | Path) -> Path:
    """Return the absolute path that a user wrote; `~` is the home folder.

    Raises:
        ValueError: no file system has such a path, or it was meant to be expanded; the message says what to write.
    """
    written = str(text)
    if not written:
        raise ValueError("the path is empty; write . for the current folder")
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError:
        user = Path(text).parts[0]
        raise ValueError(f"the path '{written}' begins with {user}, and there is no such home folder") from None
    except OSError:
        raise ValueError(f"'{text}' is relative to a working folder that no longer exists; change to another") from None
    if "\0" not in written and (problem := name_problem(text)):
        raise ValueError(problem)
    _check_length(path)
    if not _exists(path):  # a name may hold anything
        _check_characters(written)
    return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _check_characters(written: str) -> None:
    if control := _CONTROL.search(written):
        found = ascii(control[0]).strip("'")
        raise ValueError(
            f"the path {written!a} holds the control character {found}: in double quotes YAML reads a backslash as "
            "the beginning of such a character; put the path in single quotes"
        )
    if variable := _VARIABLE.search(written):
        step = "write the whole path, or begin it with ~ for the home folder"
        raise ValueError(f"the path '{written}' holds {variable[0]}, and variables are not expanded; {step}")


def _check_length(path: Path) -> None:
    longest = max((os.fsencode(part) for part in path.parts), key=len)
    if len(longest) > _LONGEST_PART:
        name = os.fsdecode(longest)
        raise ValueError(
            f"the path has the name '{name[:20]}...' of {len(longest)} bytes; file systems allow {_LONGEST_PART}"
        )
    if (length := len(os.fsencode(path))) > _LONGEST_PATH:
        raise ValueError(f"the path '{str(path)[:40]}...' has {length:,} bytes; file systems allow {_LONGEST_PATH:,}")


def parse_location(text: str | Path | RemotePath) -> Path | RemotePath:
    """Return the location that a user wrote: an address, or an absolute path; `~` is the home folder.

    Raises:
        ValueError: a path or URI that is not a valid location; the message says why.
    """
    if isinstance(text, RemotePath):
        return text
    match = _URI.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return local_path(text)
    scheme, host, path, query = match.group("scheme").lower(), *match.group("host", "path", "query")
    if scheme == "file":
        if host not in ("", "localhost") or not path:
            raise ValueError(f"'{text}' must have three slashes: file:///folder")
        return local_path(unquote(path))
    if scheme not in SCHEMES:
        raise ValueError(f"'{scheme}://' is not a known storage; allowed: a path, or {', '.join(_SHOWN)}")
    parts = path.split("/")
    if not host and scheme not in ("hdfs", "viewfs"):
        raise ValueError(f"'{text}' names no bucket; write {scheme}://BUCKET/FOLDER")
    if ".." in parts or re.search(r"[%#]", path):
        raise ValueError(f"'{text}': '..', '%' and '#' are not allowed in the name of a folder")
    if (":" in host.rpartition("@")[0]) or (scheme == "s3" and "@" in host) or _SECRET.search(query):
        raise ValueError(
            f"'{scheme}://{host.rpartition('@')[2]}' contains a password, which would be written into every run; "
            "set it in the environment instead, see docs/storage.md"
        )
    return RemotePath(f"{scheme}://{host}", "/".join(part for part in parts if part not in ("", ".")), query)


def as_written(text: str | Path | RemotePath) -> Path | RemotePath:
    """Return a location like `parse_location`, but a path as it was written, for messages."""
    place = parse_location(text)
    return Path(str(text)) if isinstance(place, Path) and "://" not in str(text) else place


_SHOWN = tuple(f"{scheme}://" for scheme in ("file", *SCHEMES))


def cache_root(cache_dir: Path | None = None) -> Path:
    """Return the cache folder: `cache_dir`, else `$FCDD_SWEEP_CACHE`, else a folder in the user's cache.

    Raises:
        InputError: there is no such folder on this system.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return local_path(cache_dir or os.environ.get("FCDD_SWEEP_CACHE") or f"{base}/fcdd_sweep")
    except ValueError as error:
        step = "Set FCDD_SWEEP_CACHE to a folder for decoded images"
        raise InputError(Problem("cache folder", str(error), next_step=step)) from None
