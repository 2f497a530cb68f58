"""The pictures of a run's leaves: drawn while trials run, by processes of their own, and completed before the report.

No trial waits for its pictures, and none is trained again for them: a leaf without pictures is complete, and they are
drawn by the next start or the next `aggregate`.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from fcdd_sweep.config.text import count_noun
from fcdd_sweep.report.leaf_drawing import PREFIX, DrawingProcess, PictureStyle, draw_into_leaf, has_pictures
from fcdd_sweep.report.run_files import Trial
from fcdd_sweep.results.tree import LAST_PICTURE, RunPaths

_WORTH_A_PROCESS = 4
"""Leaves that wait for a process to be started: its imports take as long as drawing one to three."""
_LONGEST_WAIT_S = 60.0
"""Seconds after which a leaf is worth a process of its own."""
_MOST_PROCESSES = 8
_TELL_EVERY_S = 3.0
_ABANDONED_S = 3600.0
"""Age of a folder that a killed process has left."""
Tell = Callable[[str], object]


class LeafPictures:
    """Draws leaves of one run, each once, in processes that are started when enough leaves wait.

    Attributes:
        run_dir: the run, on this machine.
        failed: by leaf, why its pictures could not be drawn.
    """

    def __init__(self, run_dir: Path, style: PictureStyle) -> None:
        """`style` is that of the pictures."""
        self.run_dir, self._style = run_dir, style
        self.failed: dict[str, str] = {}
        self._waiting: deque[str] = deque()
        self._seen: set[str] = set()
        self._drawn = 0
        self._oldest = 0.0
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._processes: list[DrawingProcess] = []
        self._closed = False
        _remove_abandoned(run_dir)

    def add_stale(self, trials: Iterable[Trial], *, again: bool = False) -> None:
        """Have the leaves of these finished trials drawn that lack pictures by style and present decisions.

        Args:
            trials: of the run.
            again: also those that were drawn before, by decisions that have changed since. Call it so only when nothing
                is being drawn; what could not be drawn is not tried again.
        """
        leaves = [each.leaf for each in trials if each.leaf not in self.failed and not has_pictures(each, self._style)]
        if again:
            self._seen.difference_update(leaves)
        self.add(leaves)

    def add(self, leaves: Iterable[str]) -> None:
        """Have these leaves drawn, unless they were added before; return at once."""
        for leaf in leaves:
            if leaf not in self._seen:
                self._seen.add(leaf)
                self._oldest = self._oldest if self._waiting else time.monotonic()
                self._waiting.append(leaf)
        self.start_processes()

    def start_processes(self, *, ending: bool = False) -> None:
        """Start processes that the waiting leaves are worth; to be called now and then.

        Args:
            ending: this process draws, too, and nothing else happens meanwhile.
        """
        running = sum(thread.is_alive() for thread in self._threads)
        waiting, cores = len(self._waiting), _cores()
        wanted = min(waiting // _WORTH_A_PROCESS, cores - ending, _MOST_PROCESSES)
        if not ending and self._waiting and time.monotonic() - self._oldest > _LONGEST_WAIT_S:
            wanted = max(wanted, 1)
        for _ in range(wanted - running):
            thread = threading.Thread(target=self._draw_in_process, name="pictures", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _next(self) -> str | None:
        try:
            return None if self._closed else self._waiting.popleft()
        except IndexError:
            return None

    def _draw_in_process(self) -> None:
        """Draw in a process of its own until no leaf waits; a leaf that kills the process counts as failed."""
        process = DrawingProcess()
        self._processes.append(process)
        try:
            while (leaf := self._next()) is not None:
                try:
                    self._ended(leaf, process.draw(self.run_dir, leaf, self._style))
                except (OSError, ValueError) as error:
                    self._ended(leaf, str(error))
                    return
        finally:
            process.close()

    def _ended(self, leaf: str, problem: str) -> None:
        with self._lock:
            self._drawn += 1
            if problem and not self._closed:
                self.failed[leaf] = problem

    def finish(self, tell: Tell) -> list[str]:
        """Draw what waits, here too, and return sentences on what could not be drawn.

        Args:
            tell: called with a sentence on the progress every few seconds.
        """
        self.start_processes(ending=True)
        total, begun, told = len(self._waiting), self._drawn, time.monotonic()

        def say() -> None:
            nonlocal told
            if time.monotonic() - told > _TELL_EVERY_S:
                told = time.monotonic()
                tell(f"drawing pictures: {min(self._drawn - begun, total)} of {count_noun(total, 'trial')}")

        while (leaf := self._next()) is not None:
            self._ended(leaf, draw_into_leaf(self.run_dir, leaf, self._style))
            say()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_TELL_EVERY_S)
                say()
        return [f"{leaf}: its figures cannot be drawn ({why})" for leaf, why in sorted(self.failed.items())]

    def close(self) -> None:
        """End the processes; what they have not drawn is missing."""
        self._closed = True
        for process in self._processes:
            process.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> LeafPictures:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _remove_abandoned(run_dir: Path) -> None:
    for folder in RunPaths(run_dir).attempts.glob(f"{PREFIX}*"):
        if time.time() - folder.lstat().st_mtime > _ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)


def without_pictures(run_dir: Path, leaves: Iterable[str]) -> list[str]:
    """Return those of the finished leaves whose pictures were not drawn."""
    return [leaf for leaf in leaves if not (run_dir / leaf / LAST_PICTURE).is_file()]
