"""Standard output and standard error of the command line: an output that cannot be written ends nothing but itself.

A reader may go away, a disk may be full, a terminal may be closed. None of these may end a sweep or keep it from
saving, and everything in the process writes here: commands, the live display and its thread, loggers, and Python at its
exit. So the errors end where they arise, below the text streams, and nobody above has to expect them.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from pathlib import Path
from typing import TextIO

_ESCAPING = "fcdd_sweep.output"
"""Name of the error handler of both outputs."""


class GuardedOutput(io.RawIOBase):
    """A file descriptor that accepts everything; what cannot be written is lost, and later writes are tried again.

    Unbuffered: an error arises in the write that it belongs to, nothing is left for Python's exit, and a signal handler
    may write while it interrupts another write.

    Attributes:
        error: the first error; None while everything could be written.
    """

    def __init__(self, descriptor: int, name: str, complaints: TextIO | None) -> None:
        """
        Args:
            descriptor: of the file, pipe or terminal.
            name: of the output, for messages.
            complaints: gets one sentence when the output cannot be written, unless its reader has just gone away.
        """
        self._descriptor, self._name, self._complaints = descriptor, name, complaints
        self.error: OSError | None = None

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # a text stream writes nothing but bytes
        rest = data
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # a terminal or pipe that another process has made non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                self._note(error)
                break
        return len(data)

    def _note(self, error: OSError) -> None:
        if self.error is not None:
            return
        self.error = error
        if self._complaints is not None and not _is_reader_gone(error):
            what = f"cannot write to {self._name}: {os.strerror(error.errno or 0)}"
            print(f"error: {what}. Some of what is printed is lost; results are not affected.", file=self._complaints)


def guard() -> None:
    """Guard this process's standard output and standard error, until its end.

    Characters that their encoding lacks are escaped. A stream that was closed before the start leads nowhere.
    """
    _fill_closed_descriptors()
    codecs.register_error(_ESCAPING, _escaped)
    sys.stderr = _guarded(sys.stderr, "standard error", None)
    sys.stdout = _guarded(sys.stdout, "standard output", sys.stderr)


def escape_names() -> None:
    """Let standard streams that are not guarded escape what they cannot show: names may be in any script."""
    codecs.register_error(_ESCAPING, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPING)


def output_error() -> OSError | None:
    """Return the first error of standard output; None while there is none, or where it is not guarded."""
    raw = getattr(sys.stdout, "buffer", None)
    return raw.error if isinstance(raw, GuardedOutput) else None


def is_unwritable() -> bool:
    """Return whether some of standard output was lost for another reason than that its reader went away."""
    error = output_error()
    return error is not None and not _is_reader_gone(error)


def _is_reader_gone(error: OSError) -> bool:
    return error.errno == errno.EPIPE


def _fill_closed_descriptors() -> None:
    """Open /dev/null in place of closed standard streams: a file of results must not get the number of one of them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _escaped(error: UnicodeError) -> tuple[bytes, int]:
    """Return an escape for each character that cannot be encoded, or the byte of a file name that was not decoded."""
    assert isinstance(error, UnicodeEncodeError)
    found = error.object[error.start : error.end]
    shown = (
        bytes([ord(each) - 0xDC00]) if 0xDC80 <= ord(each) <= 0xDCFF else each.encode("ascii", "backslashreplace")
        for each in found
    )
    return b"".join(shown), error.end


def _guarded(stream: TextIO | None, name: str, complaints: TextIO | None) -> TextIO:
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    stream.flush()
    raw = GuardedOutput(stream.fileno(), name, complaints)
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors=_ESCAPING, write_through=True)  # type: ignore[type-var]
