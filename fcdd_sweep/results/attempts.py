"""Where attempts work, and how what they made reaches the run.

An attempt works in a folder on its own machine. For a run on a file system that is its folder in the run,
`.attempts/TRIAL_ID/N`, which making it claims: making a folder succeeds once. An object store has no such claim: there
the folder in the run is `N-TOKEN` with a random token, so that two workers that find the same N free never share one;
the attempt works in a scratch folder, and what it made is sent at its end, `metrics.parquet` last.

What could not be sent stays on this machine, as `unsent`, for the next attempt at the trial that comes here.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fcdd_sweep.config.locations import RemotePath, cache_root
from fcdd_sweep.results import storage, tree
from fcdd_sweep.results.storage import Location

LEAF = "leaf"
CHECKPOINTS = "checkpoints"
CLAIM = "claim.json"
_NAME = re.compile(r"(\d+)(?:-[0-9a-f]+)?")


def claim_attempt(run_dir: Location, trial_id: str) -> tuple[int, Location]:
    """The next free number of a trial's attempts, and a folder in the run that no other attempt has."""
    parent = tree.attempts_dir(run_dir, trial_id)
    number = 1 + max((number for number, _ in list_attempts(run_dir, trial_id)), default=0)
    if isinstance(parent, RemotePath):
        folder = parent / f"{number}-{secrets.token_hex(4)}"
        claim = {"host": platform.node(), "pid": os.getpid()}
        storage.write_bytes(folder / CLAIM, json.dumps(claim).encode())
        return number, folder
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            (parent / str(number)).mkdir()
            return number, parent / str(number)
        except FileExistsError:
            number += 1


def list_attempts(run_dir: Location, trial_id: str) -> list[tuple[int, Location]]:
    """Number and folder of every attempt at a trial, in the order of their numbers."""
    parent = tree.attempts_dir(run_dir, trial_id)
    matches = [match for name in storage.children(parent) if (match := _NAME.fullmatch(name))]
    found: list[tuple[int, Location]] = [(int(match[1]), parent / match[0]) for match in matches]
    return sorted(found, key=lambda each: (each[0], each[1].name))


@contextmanager
def working_dir(attempt_dir: Location) -> Iterator[Path]:
    """The folder on this machine in which an attempt works: its own in the run, or a scratch folder that goes away."""
    if isinstance(attempt_dir, Path):
        yield attempt_dir
        return
    scratch = _scratch_root(attempt_dir.parent)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{attempt_dir.name}-", dir=scratch) as folder:
        own = Path(folder) / attempt_dir.name.split("-")[0]
        own.mkdir()
        yield own
    _remove_if_empty(scratch)


def upload_leaf(folder: Path, attempt_dir: Location) -> None:
    """Send the finished leaf of an attempt that worked elsewhere; `metrics.parquet`, which makes it whole, last.

    Raises:
        StorageError: the store was out of reach for too long. The leaf is kept on this machine; see `unsent`.
    """
    if isinstance(attempt_dir, Path):
        return
    try:
        storage.send_tree(folder / LEAF, attempt_dir / LEAF, last=tree.METRICS)
    except OSError:
        kept = _scratch_root(attempt_dir.parent) / f"unsent-{attempt_dir.name}"
        kept.mkdir()
        (folder / LEAF).rename(kept / LEAF)
        raise


def recover_unsent(run_dir: Location, trial_id: str, folder: Path) -> bool:
    """Move a finished leaf that an earlier attempt on this machine could not send into `folder`; gives whether."""
    if isinstance(run_dir, Path):
        return False
    for kept in sorted(_scratch_root(tree.attempts_dir(run_dir, trial_id)).glob("unsent-*")):
        try:
            (kept / LEAF).rename(folder / LEAF)
        except OSError:
            continue  # another attempt was quicker
        finally:
            shutil.rmtree(kept, ignore_errors=True)
        return True
    return False


def download_checkpoints(run_dir: Location, trial_id: str, folder: Path) -> None:
    """Bring what earlier attempts kept in an object store beside `folder`, as it would lie on a file system."""
    if isinstance(run_dir, Path):
        return
    for number, attempt in list_attempts(run_dir, trial_id):
        for name in storage.children(attempt / CHECKPOINTS):
            storage.download_file(attempt / CHECKPOINTS / name, folder.parent / str(number) / CHECKPOINTS / name)


def upload_checkpoints(attempt_dir: Location, kept: Sequence[Path]) -> None:
    """Make an attempt's checkpoints in an object store the ones that are kept here: new ones are sent, then old go."""
    if isinstance(attempt_dir, Path):
        return
    there = set(storage.children(attempt_dir / CHECKPOINTS))
    for path in kept:
        if path.name not in there:
            storage.send(path, attempt_dir / CHECKPOINTS / path.name)
    for name in there - {path.name for path in kept}:
        storage.remove(attempt_dir / CHECKPOINTS / name)


def upload_evidence(folder: Path, attempt_dir: Location) -> None:
    """Send what tells of a failed attempt that worked elsewhere, its log and `error.txt`; tried once."""
    if isinstance(attempt_dir, Path):
        return
    for name in (f"{LEAF}/{tree.LOG}", tree.ERROR):
        if (folder / name).is_file():
            storage.send(folder / name, attempt_dir / name, patience_s=0)


def _scratch_root(attempts: RemotePath) -> Path:
    """Below the cache folder, apart for every trial of every run."""
    return cache_root() / "attempts" / hashlib.sha256(str(attempts).encode()).hexdigest()[:16]


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass  # other attempts, or what could not be sent
