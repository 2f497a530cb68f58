"""Files that are not there yet: asked for in words, or fetched by torchvision's downloaders."""

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
    """The scan of a data set of which files are missing: they will be downloaded, or the user must act.

    Args:
        folder: where the files are looked for.
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
    """Fetch a data set into its root.

    Args:
        download: given `torchvision.datasets` and the root, makes the data set with `download=True`.
    Raises:
        DataError: whatever the download failed with.
    """
    from torchvision import datasets

    say(f"downloading '{dataset.name}' into {dataset.root}")
    try:
        download(datasets, str(dataset.root))
    except Exception as error:  # network, server, disk and checksum raise many types; for the user it is one thing
        raise failed(dataset, error) from error


def failed(dataset: Dataset, error: Exception) -> DataError:
    """What a failed download is told as."""
    what = f"the download of '{dataset.name}' failed ({type(error).__name__}: {' '.join(str(error).split())})"
    next_step = f"Run the command again, or place the files yourself. {info(dataset.name).get}"
    return DataError(Problem(str(dataset.root), what, next_step=next_step))


_BLOCK = 1 << 20
_SAY_EVERY_S = 10.0
_TIMEOUT_S = 60.0


class DownloadError(RuntimeError):
    """A download that broke off, or that is not the file that was expected."""


def download(url: str, target: Path, sha256: str, say: Say) -> None:
    """Fetch `url` into the file `target`, which is there only once all of it is and its checksum is right.

    Raises:
        DownloadError: the server cannot be reached, or the file is not the one that `sha256` tells.
        OSError: the disk does not take it.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            found = _copied(url, file.write, say)
        if found != sha256:
            raise DownloadError(f"{url} gave a file with the SHA-256 {found}, expected {sha256}")
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def _copied(url: str, write: Callable[[bytes], object], say: Say) -> str:
    """Hand the blocks behind `url` to `write`; gives their SHA-256."""
    digest, done = hashlib.sha256(), 0
    tell = _now_and_then(say)
    with _opened(url) as answer:
        size = int(answer.headers.get("Content-Length") or 0)
        say(f"downloading {url}" + (f", {size / 1e9:.1f} GB" if size else ""))
        while block := _block(answer):
            write(block)
            digest.update(block)
            done += len(block)
            tell(f"downloading: {done / 1e9:.1f} of {size / 1e9:.1f} GB")
    if done < size:
        raise DownloadError(f"the connection broke off after {done} of {size} bytes")
    return digest.hexdigest()


def _opened(url: str) -> Any:
    try:
        return urllib.request.urlopen(url, timeout=_TIMEOUT_S)
    except (OSError, HTTPException) as error:
        raise DownloadError(f"{url} cannot be reached: {error}") from error


def _block(answer: Any) -> bytes:
    """The next block; what the network fails with is told apart from a disk that is full."""
    try:
        block: bytes = answer.read(_BLOCK)
    except (OSError, HTTPException) as error:
        raise DownloadError(f"the connection broke off: {error}") from error
    return block


def unpack(archive: Path, folder: Path, say: Say) -> None:
    """Unpack a `.tar.xz` into a folder, beside what is there already.

    The files are unpacked aside, and each folder or file at the top of the archive is then renamed into place, unless
    something of that name is there: a program that is killed leaves nothing half. Rights and owners are not kept.

    Raises:
        DataError: it is damaged, or holds something else than files and folders below its top.
        OSError: the disk does not take it.
    """
    say(f"unpacking {archive}")
    aside = folder / f".{archive.name}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        _unpack_members(archive, aside, say)
        for top in sorted(aside.iterdir()):
            if not (folder / top.name).exists():
                top.rename(folder / top.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unpack_members(archive: Path, aside: Path, say: Say) -> None:
    tell = _now_and_then(say)
    try:
        with lzma.open(archive) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for count, member in enumerate(tar, 1):
                    _unpack_member(archive, tar, member, aside)
                    tell(f"unpacking {archive.name}: {count} files")
            while stream.read(_BLOCK):  # tarfile takes a damaged header for the end: the checksum is at the very end
                pass
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        what = f"is not a whole archive ({type(error).__name__}: {error})"
        raise DataError(Problem(str(archive), what, next_step="Delete it and download it again")) from error


def _unpack_member(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, aside: Path) -> None:
    """Write one file or make one folder. Links are refused, so no path can lead out by way of an earlier member."""
    if not (member.isfile() or member.isdir()):
        raise _refused(archive, member, "is neither a file nor a folder")
    if not _stays_below(member.name):
        raise _refused(archive, member, "leads out of the folder")
    target = aside / member.name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    assert content is not None  # only links and devices have no content
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file, _BLOCK)


def _stays_below(name: str) -> bool:
    """Whether a path is relative and never goes up, read as POSIX and as Windows do."""
    return all(
        not path.anchor and ".." not in path.parts and "\0" not in name
        for path in (PurePosixPath(name), PureWindowsPath(name))
    )


def _refused(archive: Path, member: tarfile.TarInfo, what: str) -> DataError:
    problem = f"holds '{member.name}', which {what}: nothing was unpacked"
    return DataError(Problem(str(archive), problem, "files and folders", "Get the archive from where it is published"))


def _now_and_then(say: Say) -> Say:
    """`say`, but at most every few seconds and not at once."""
    told = time.monotonic()

    def tell(sentence: str) -> None:
        nonlocal told
        if time.monotonic() - told > _SAY_EVERY_S:
            say(sentence)
            told = time.monotonic()

    return tell
