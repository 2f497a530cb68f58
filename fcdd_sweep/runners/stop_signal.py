"""Signals that stop a sweep: the first asks running trials to save themselves, the second ends at once.

They are SIGINT (Ctrl-C), SIGTERM, and SIGHUP, which the processes of a terminal get when it is closed. Where SIGHUP is
ignored, as under `nohup`, it stays ignored.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


def stop_signals() -> list[signal.Signals]:
    """Return the signals that stop this process's work."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


class StopSignal:
    """A request to stop the sweep.

    Attributes:
        asked: set by the first signal.
        hung_up: whether the terminal was closed: nobody sees any output.
    """

    def __init__(self, on_first: Callable[[], None] | None = None) -> None:
        """`on_first` is called by the first request; an OSError of it, such as of a closed terminal, is ignored."""
        self.asked = self.hung_up = False
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
            with contextlib.suppress(OSError):
                self._on_first()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGHUP:
            self.hung_up = True
            if self.asked:
                return  # a shell and the system each send one: the second is not a second request
        self.ask()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Turn signals into requests while entered, in the main thread only; may be nested."""
        try:
            with _signal_handler(self._on_signal):
                yield
        finally:
            if self.hung_up:  # another one must not end what follows: the files of the run, the exit code
                signal.signal(signal.SIGHUP, signal.SIG_IGN)


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
    before = {number: signal.signal(number, handler) for number in stop_signals()}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextlib.contextmanager
def children_without_hangups() -> Iterator[None]:
    """Keep SIGHUP for ever from the processes that this thread starts while entered.

    It goes to all processes of a terminal, and Ray's own must live on until the trials have saved themselves.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
