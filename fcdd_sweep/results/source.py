"""The program that made a run, kept beside what it made."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

from fcdd_sweep.results import files, tree
from fcdd_sweep.results.storage import Location, is_file

_PACKAGE = Path(__file__).parent.parent
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The date of every member, so that the same source gives the same archive."""


@cache
def source_digest() -> str:
    """12 hex digits of the package's own Python files, names and content; `versions` of every trial names them."""
    content = hashlib.sha256()
    for path in _source_files():
        content.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()[:12]


def keep_source(run_dir: Location) -> Location:
    """Write `source/DIGEST.zip` into a run, unless it is there: a run may have trials of several states of the code."""
    path = run_dir / tree.SOURCE / f"{source_digest()}.zip"
    if is_file(path):
        return path
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for file in _source_files():
            member = zipfile.ZipInfo(file.relative_to(_PACKAGE.parent).as_posix(), _LONG_AGO)
            bundle.writestr(member, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return files.write_atomically(path, lambda aside: aside.write_bytes(archive.getvalue()))


def _source_files() -> list[Path]:
    return sorted(_PACKAGE.rglob("*.py"))
