"""Ctrl-C and SIGTERM during a sweep: the first asks running trials to save themselves, the second ends at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], None]


class StopSignal:
    """A request to stop the sweep.

    Attributes:
        asked: set by the first signal.
    """

    def __init__(self, on_first: Callable[[], None] | None = None) -> None:
        """`on_first` is called by the first request."""
        self.asked = False
        self._on_first = on_first

    def ask(self) -> None:
        """Request a stop.

        Raises:
            KeyboardInterrupt: it was requested before.
        """
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self._on_first is not None:
            self._on_first()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Turn signals into requests while entered, in the main thread only; may be nested."""
        with _signal_handler(lambda signum, frame: self.ask()):
            yield


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore further signals while entered: cleaning up must end although Ctrl-C is pressed again."""
    with _signal_handler(signal.SIG_IGN):
        yield


@contextlib.contextmanager
def _signal_handler(handler: Handler | signal.Handlers) -> Iterator[None]:
    """Handle the stop signals by `handler`, then restore the former handlers; other threads may not set any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
