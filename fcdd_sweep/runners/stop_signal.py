"""Ctrl-C and SIGTERM while a sweep runs: the first asks running trials to save themselves, the second ends at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


class StopSignal:
    """Whether the sweep was asked to end.

    Attributes:
        asked: set by the first signal.
    """

    def __init__(self, told: Callable[[], None] | None = None) -> None:
        self.asked = False
        self._told = told

    def ask(self) -> None:
        """Ask once more than that, and KeyboardInterrupt is raised."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self._told is not None:
            self._told()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Signals come here, in the main thread; elsewhere nothing changes. May be entered again within."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def heard(signum: int, frame: Any) -> None:
            self.ask()

        before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """A further Ctrl-C must not stop the cleaning up that the first ones started."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
