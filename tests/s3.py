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
from contextlib import contextmanager, suppress

import pytest

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

    def address(self, folder: str) -> str:
        """Of a folder of the bucket, as `output` takes it."""
        return in_store(self.port, folder)

    def make_bucket(self, name: str) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{name}", method="PUT")
        urllib.request.urlopen(request).close()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Answers no one meanwhile, and keeps what it holds."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def served() -> Iterator[Server]:
    """A server with an empty bucket, and this process's credentials for it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        server = Server()
        try:
            server.make_bucket("bucket")
            yield server
        finally:
            server.stop()


def in_store(port: int, folder: str) -> str:
    """The address of a folder of the bucket, by way of a port of a server or a proxy."""
    return f"s3://bucket/{folder}?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"


class Proxy:
    """Passes on what comes to a port of its own to a server's, until it is gone: then nothing listens there.

    Attributes:
        port: where it listens on 127.0.0.1.
    """

    def __init__(self, server: Server) -> None:
        self.port, self._server, self._open = _free_port(), server, set[socket.socket]()
        self._listen()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                ours = listener.accept()[0]
                theirs = socket.create_connection(("127.0.0.1", self._server.port))
                self._open |= {ours, theirs}
                for ends in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(1 << 16):
                target.sendall(content)
        self._end({source, target})

    def _end(self, connections: set[socket.socket]) -> None:
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
            self._open.discard(connection)

    def gone_for(self, seconds: float) -> None:
        """Nobody listens, and every connection is cut."""
        self.close()
        time.sleep(seconds)
        self._listen()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end(set(self._open))


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
