"""Where attempts work, and how their files reach the run.

An attempt works in a folder on its machine. For a run on a file system that is its folder in the run,
`.attempts/TRIAL_ID/N`; creating the folder claims the number N, since it succeeds only once. An object store has no
such claim: its folder in the run is `N-TOKEN` with a random token, so that two workers that find the same N free never
share one. The attempt works in a scratch folder, which is uploaded at its end, `metrics.parquet` last.

Files that could not be uploaded stay on this machine, as `unsent`, for the next attempt at the trial on it.
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
from fcdd_sweep.results.tree import RunPaths, TrialPaths

LEAF = "leaf"
CHECKPOINTS = "checkpoints"
CLAIM = "claim.json"
_NAME = re.compile(r"(\d+)(?:-[0-9a-f]+)?")


def claim_attempt(run_dir: Location, trial_id: str) -> tuple[int, Location]:
    """Claim an attempt at a trial: return its number, the next free one, and a folder in the run for it alone."""
    parent = RunPaths(run_dir).attempts_dir(trial_id)
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
    """Return number and folder of every attempt at a trial, ordered by number."""
    parent = RunPaths(run_dir).attempts_dir(trial_id)
    matches = [match for name in storage.children(parent) if (match := _NAME.fullmatch(name))]
    found: list[tuple[int, Location]] = [(int(match[1]), parent / match[0]) for match in matches]
    return sorted(found, key=lambda each: (each[0], each[1].name))


def traceback_file(run_dir: Location, trial_id: str, number: int) -> Location | None:
    """Return the `error.txt` of a failed attempt; None when there is none, as of a worker that was lost."""
    found = (TrialPaths(folder).error for other, folder in list_attempts(run_dir, trial_id) if other == number)
    return next((path for path in found if storage.is_file(path)), None)


@contextmanager
def working_dir(attempt_dir: Location) -> Iterator[Path]:
    """Yield the folder on this machine in which an attempt works: its folder in the run, or a temporary one."""
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
    """Upload the finished leaf of an attempt to an object store; `metrics.parquet`, which makes it whole, last.

    Raises:
        StorageError: the store was unreachable for too long. The leaf is kept on this machine, see the module.
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
    """Move a finished leaf that an earlier attempt on this machine could not upload into `folder`, if there is one."""
    if isinstance(run_dir, Path):
        return False
    for kept in sorted(_scratch_root(RunPaths(run_dir).attempts_dir(trial_id)).glob("unsent-*")):
        try:
            (kept / LEAF).rename(folder / LEAF)
        except OSError:
            continue  # another attempt was faster
        finally:
            shutil.rmtree(kept, ignore_errors=True)
        return True
    return False


def download_checkpoints(run_dir: Location, trial_id: str, folder: Path) -> None:
    """Download checkpoints of earlier attempts next to `folder`, with the layout of a run on a file system."""
    if isinstance(run_dir, Path):
        return
    for number, attempt in list_attempts(run_dir, trial_id):
        for name in storage.children(attempt / CHECKPOINTS):
            storage.download_file(attempt / CHECKPOINTS / name, folder.parent / str(number) / CHECKPOINTS / name)


def upload_checkpoints(attempt_dir: Location, kept: Sequence[Path]) -> None:
    """Make an attempt's checkpoints in an object store equal to the kept ones: upload new, then remove old ones."""
    if isinstance(attempt_dir, Path):
        return
    uploaded = set(storage.children(attempt_dir / CHECKPOINTS))
    for path in kept:
        if path.name not in uploaded:
            storage.send(path, attempt_dir / CHECKPOINTS / path.name)
    for name in uploaded - {path.name for path in kept}:
        storage.remove(attempt_dir / CHECKPOINTS / name)


def upload_evidence(folder: Path, attempt_dir: Location) -> None:
    """Upload log and `error.txt` of a failed attempt to an object store; this is tried once."""
    if isinstance(attempt_dir, Path):
        return
    for name in (f"{LEAF}/{tree.LOG}", tree.ERROR):
        if (folder / name).is_file():
            storage.send(folder / name, attempt_dir / name, patience_s=0)


def _scratch_root(attempts: RemotePath) -> Path:
    """Return the scratch folder of a trial's attempts below the cache folder; each trial of each run has its own."""
    return cache_root() / "attempts" / hashlib.sha256(str(attempts).encode()).hexdigest()[:16]


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass  # it holds other attempts, or files that could not be uploaded
