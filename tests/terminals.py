"""A terminal of its own for a program: a pseudo-terminal, and an emulator that keeps what a user would see."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path

import pyte

ROOT = Path(__file__).parent.parent


class Terminal:
    """Runs a program in a terminal that controls it, as a shell would; leaving kills the program."""

    def __init__(self, command: Sequence[str], columns: int, lines: int = 24, **environment: str) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**kept, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment},
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    @property
    def rows(self) -> list[str]:
        """What stands on the screen, without blank ends."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip().split("\n")

    @property
    def text(self) -> str:
        """What stands on the screen in one line, as if nothing were wrapped."""
        return " ".join(" ".join(self.rows).split())

    def wait_for(self, text: str, most_s: float = 30.0) -> None:
        """Read until the screen shows a text."""
        until = time.monotonic() + most_s
        while text not in self.text:
            assert time.monotonic() < until, f"waited {most_s:g} s for {text!r}; the screen shows {self.rows}"
            assert self._read(), f"ended without {text!r}; the screen shows {self.rows}"

    def end(self) -> int:
        """Read until the program has ended; gives its exit code."""
        while self._read():
            pass
        return self._process.wait()

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def _read(self) -> bool:
        """Take in what there is within a second; gives whether the program may still write."""
        if select.select([self._master], [], [], 1.0)[0]:
            try:
                self._stream.feed(os.read(self._master, 65536))
            except OSError:  # the program and all its children have closed the terminal
                return False
        return True
