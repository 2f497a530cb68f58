"""Missing files of a data set: reported, downloaded, or unpacked from an archive."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import tarfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.schema import Dataset
from fcdd_sweep.data.records import DatasetScan, Say
from fcdd_sweep.data.registry import info


def files_missing(dataset: Dataset, folder: Path, names: Sequence[str]) -> DatasetScan:
    """Return the scan of a data set with missing files: they will be downloaded, or the user must place them.

    Args:
        dataset: with its `root` and `download`.
        folder: where the files are searched.
        names: the missing files as a user would write them.
    """
    if dataset.download:
        return DatasetScan(
            to_fetch=f"'{dataset.name}' is not in {dataset.root} and will be downloaded into that folder."
        )
    what = f"files of '{dataset.name}' are missing in {folder}: {', '.join(names)}"
    next_step = "Place them there, or set dataset.download: true"
    return DatasetScan(problems=(Problem("dataset.root", what, next_step=next_step),))


def through_torchvision(dataset: Dataset, say: Say, download: Callable[[Any, str], object]) -> None:
    """Download a data set into its root by torchvision.

    Args:
        dataset: the data set; its root is set.
        say: called once before the download starts.
        download: called with `torchvision.datasets` and the root; makes the data set with `download=True`.
    Raises:
        DataError: the download failed, for whatever reason.
    """
    from torchvision import datasets

    say(f"downloading '{dataset.name}' into {dataset.root}")
    try:
        download(datasets, str(dataset.root))
    except Exception as error:  # network, server, disk and checksum raise many types; for the user it is one thing
        raise failed(dataset, error) from error


def failed(dataset: Dataset, error: Exception) -> DataError:
    """Return the error that reports a failed download."""
    what = f"the download of '{dataset.name}' failed ({type(error).__name__}: {' '.join(str(error).split())})"
    next_step = f"Rerun the command, or place the files yourself. {info(dataset.name).get}"
    return DataError(Problem(str(dataset.root), what, next_step=next_step))


_BLOCK = 1 << 20
_SAY_EVERY_S = 10.0
_TIMEOUT_S = 60.0


class DownloadError(RuntimeError):
    """The download was interrupted, or the file is not the expected one."""


def download(url: str, target: Path, sha256: str, say: Say) -> None:
    """Download `url` to the file `target`, which appears only when it is complete and its checksum is right.

    Raises:
        DownloadError: the server cannot be reached, or the file has another SHA-256.
        OSError: the file cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            found = _copied(url, file.write, say)
        if found != sha256:
            raise DownloadError(f"the file at {url} has the SHA-256 {found}, expected {sha256}")
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def _copied(url: str, write: Callable[[bytes], object], say: Say) -> str:
    """Pass the content of `url` to `write` in blocks; return its SHA-256."""
    digest, done = hashlib.sha256(), 0
    report = _throttled(say)
    with _opened(url) as answer:
        size = int(answer.headers.get("Content-Length") or 0)
        say(f"downloading {url}" + (f", {size / 1e9:.1f} GB" if size else ""))
        while block := _block(answer):
            write(block)
            digest.update(block)
            done += len(block)
            report(f"downloading: {done / 1e9:.1f} of {size / 1e9:.1f} GB")
    if done < size:
        raise DownloadError(f"the connection was lost after {done} of {size} bytes")
    return digest.hexdigest()


def _opened(url: str) -> Any:
    try:
        return urllib.request.urlopen(url, timeout=_TIMEOUT_S)
    except (OSError, HTTPException) as error:
        raise DownloadError(f"{url} cannot be reached: {error}") from error


def _block(answer: Any) -> bytes:
    """Return the next block; raise `DownloadError` for network errors, to keep them apart from a full disk."""
    try:
        block: bytes = answer.read(_BLOCK)
    except (OSError, HTTPException) as error:
        raise DownloadError(f"the connection was lost: {error}") from error
    return block


def unpack(archive: Path, folder: Path, say: Say) -> None:
    """Unpack a `.tar.xz` into a folder; files that exist already stay as they are.

    Files are unpacked into a temporary folder. Each folder or file at the top of the archive is then renamed into
    place, unless the name exists: an interrupted run leaves nothing half done. Permissions and owners are not kept.

    Raises:
        DataError: the archive is damaged, or holds anything but files and folders below its top.
        OSError: the files cannot be written.
    """
    say(f"unpacking {archive}")
    partial = folder / f".{archive.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        _unpack_members(archive, partial, say)
        for top in sorted(partial.iterdir()):
            if not (folder / top.name).exists():
                top.rename(folder / top.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unpack_members(archive: Path, folder: Path, say: Say) -> None:
    report = _throttled(say)
    try:
        with lzma.open(archive) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for count, member in enumerate(tar, 1):
                    _unpack_member(archive, tar, member, folder)
                    report(f"unpacking {archive.name}: {count} files")
            while stream.read(_BLOCK):  # tarfile takes a damaged header for the end: the checksum is at the very end
                pass
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        what = f"is not a whole archive ({type(error).__name__}: {error})"
        raise DataError(Problem(str(archive), what, next_step="Delete it and download it again")) from error


def _unpack_member(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one file or make one folder; raise `DataError` for a link, a device or a path out of the folder.

    `tarfile.data_filter` refuses most of it as well; ours is stricter on links and reads paths as Windows does, too.
    """
    if not (member.isfile() or member.isdir()):
        raise _refused(archive, member, "is neither a file nor a folder")
    if not _stays_below(member.name):
        raise _refused(archive, member, "leads out of the folder")
    try:
        member = tarfile.data_filter(member, str(folder))
    except tarfile.FilterError as error:
        raise _refused(archive, member, f"tarfile refuses ({error})") from error
    target = folder / member.name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    assert content is not None  # only links and devices have no content
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file, _BLOCK)


def _stays_below(name: str) -> bool:
    """Return whether a path is relative and never goes up, in the notation of POSIX and of Windows."""
    return all(
        not path.anchor and ".." not in path.parts and "\0" not in name
        for path in (PurePosixPath(name), PureWindowsPath(name))
    )


def _refused(archive: Path, member: tarfile.TarInfo, what: str) -> DataError:
    problem = f"holds '{member.name}', which {what}: nothing was unpacked"
    return DataError(Problem(str(archive), problem, "files and folders", "Get the archive from where it is published"))


def _throttled(say: Say) -> Say:
    """Return `say` limited to one call per `_SAY_EVERY_S`, the first one after that time."""
    last = time.monotonic()

    def report(sentence: str) -> None:
        nonlocal last
        if time.monotonic() - last > _SAY_EVERY_S:
            say(sentence)
            last = time.monotonic()

    return report
