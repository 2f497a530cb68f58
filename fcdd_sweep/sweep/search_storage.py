"""Where a study is kept: a journal in the run's directory, or a database."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.results import place, tree
from fcdd_sweep.results.place import Place


@contextmanager
def opened_storage(url: str | None, run_dir: Place) -> Iterator[tuple[optuna.storages.BaseStorage, Callable[[], None]]]:
    """The storage, and what brings it to its place when it has changed: a journal of a run in an object store is kept
    on this machine meanwhile.

    Raises:
        InputError: a database that cannot be used.
    """
    if url is not None:
        yield _database(url), lambda: None
        return
    journal = run_dir / tree.SEARCH_DIR / tree.JOURNAL
    if isinstance(journal, Path):
        journal.parent.mkdir(parents=True, exist_ok=True)
        yield _journal(journal), lambda: None
        return
    with tempfile.TemporaryDirectory(prefix="fcdd-study-") as folder:
        local = Path(folder) / tree.JOURNAL
        if place.is_file(journal):
            place.fetch(journal, local)
        yield _journal(local), lambda: place.send(local, journal)


def _database(url: str) -> optuna.storages.BaseStorage:
    try:
        return RDBStorage(url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        what = f"the database cannot be used ({' '.join(str(error).split())[:200]})"
        raise InputError(Problem("search.storage", what, "a URL such as sqlite:///study.db, or null")) from error


def _journal(path: Path) -> optuna.storages.BaseStorage:
    """The journal, without a last line that a dead driver left half written: the next one would be glued to it."""
    if path.is_file():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            path.write_bytes(content[: content.rfind(b"\n") + 1])
    return JournalStorage(JournalFileBackend(str(path)))
