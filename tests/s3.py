"""An S3 server of our own on this machine, which tests can stop and start again."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Server:
    """A process that answers as S3 does; what it holds is gone when it stops.

    Attributes:
        port: where it listens on 127.0.0.1.
        requests: `METHOD PATH` of every request so far.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(_free_port())]
        self.port = int(command[-1])
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)

    def _read(self) -> None:
        for line in self._process.stderr:
            if found := re.search(r'"\S*?(GET|PUT|POST|HEAD|DELETE) (\S+) HTTP', line):
                self.requests.append(" ".join(found.groups()))

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def make_bucket(self, name: str) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{name}", method="PUT")
        urllib.request.urlopen(request).close()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Answers nobody meanwhile, and keeps what it holds."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
