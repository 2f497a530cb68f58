"""Files that hold many images: opened once a process, and looked at by many records."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.data.files import stamp

Content = TypeVar("Content")


class Opened(Generic[Content]):
    """What `read` makes of a file, kept for the last few files until they change.

    A file that cannot be read is kept as its error: thousands of records must not try it again. Threads that ask for
    the same file wait for the first.
    """

    def __init__(self, read: Callable[[Path], Content], keep: int) -> None:
        self.read = read
        self.keep = keep
        self._lock = Lock()
        self._found: OrderedDict[tuple[Path, str], Content | DataError] = OrderedDict()

    def __call__(self, path: Path) -> Content:
        """The content of `path`; raises the `DataError` of `read`."""
        key = (path, stamp(path))
        with self._lock:
            if key not in self._found:
                self._found[key] = self._tried(path)
            self._found.move_to_end(key)
            while len(self._found) > self.keep:
                self._found.popitem(last=False)
            content = self._found[key]
        if isinstance(content, DataError):
            raise DataError(content.problems)
        return content

    def _tried(self, path: Path) -> Content | DataError:
        try:
            return self.read(path)
        except DataError as error:
            return error
