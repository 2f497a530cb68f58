"""Signals that stop a sweep, and terminals that are closed while it trains."""

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time

import pytest

from fcdd_sweep.results.documents import read_progress
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners.stop_signal import StopSignal, children_without_hangups, undisturbed
from tests.specs import small_experiment

EXPERIMENT = small_experiment(
    """
training: {epochs: 100000, passes_per_epoch: 1, threads: 1}
keep: {pictures: none}
seeds: 1
""",
    classes='["3"]',
)


@pytest.fixture(autouse=True)
def hangups_as_usual():
    """A stop that was hung up leaves SIGHUP ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_a_request_and_the_former_handler_comes_back(number):
    stop, before = StopSignal(), signal.getsignal(number)
    with stop.listening():
        os.kill(os.getpid(), number)
        assert stop.asked
    assert stop.hung_up == (number == signal.SIGHUP)
    assert signal.getsignal(number) is (signal.SIG_IGN if stop.hung_up else before)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_one_ends_at_once(second):
    stop = StopSignal()
    with pytest.raises(KeyboardInterrupt), stop.listening():
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), second)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_hang_up_is_no_second_request_and_ends_nothing_later(first):
    stop = StopSignal()
    with stop.listening():
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGHUP)
    assert stop.asked and stop.hung_up
    os.kill(os.getpid(), signal.SIGHUP)  # would end this process


def test_an_ignored_hang_up_stays_ignored():
    stop = StopSignal()
    with ignored(signal.SIGHUP), stop.listening(), undisturbed():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert not stop.asked and not stop.hung_up


def test_a_notice_that_cannot_be_printed_does_not_prevent_the_stop():
    def closed():
        raise OSError("Input/output error")

    stop = StopSignal(closed)
    with stop.listening():
        os.kill(os.getpid(), signal.SIGHUP)
    assert stop.asked


def test_children_can_be_kept_from_hang_ups_and_this_process_gets_them_still():
    stop = StopSignal()
    with stop.listening():
        with children_without_hangups():
            os.kill(os.getpid(), signal.SIGHUP)
            child = subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 1)"], check=False)
        assert stop.hung_up
    assert child.returncode == 0


class Terminal:
    """A program that has a terminal, as the leader of its session.

    Attributes:
        program: the process.
    """

    def __init__(self, command, output=None):
        """`output` is a file for what it prints, None for the terminal."""
        self._master, slave = os.openpty()
        where = slave if output is None else output
        self.program = subprocess.Popen(
            command, stdin=slave, stdout=where, stderr=where, start_new_session=True, preexec_fn=take_terminal
        )
        os.close(slave)
        self._ending, self._end = os.pipe()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        """Read what is shown, as a terminal does, until it is closed."""
        while self._ending not in select.select([self._master, self._ending], [], [])[0]:
            try:
                os.read(self._master, 4096)
            except OSError:
                return

    def close(self):
        """Close the window: the system tells the session's leader, and a shell all the others."""
        os.write(self._end, b".")
        self._reader.join()
        os.close(self._master)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.program.pid, signal.SIGHUP)


def take_terminal():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def wait_until(condition, program, seconds=120):
    limit = time.monotonic() + seconds
    while not condition():
        assert program.poll() is None, f"it has ended with {program.returncode}"
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.1)


@pytest.fixture
def start():
    """Starts programs, which end with the test."""
    started = []

    def start(begin, *arguments, **options):
        started.append(begin(*arguments, **options))
        return started[-1]

    yield start
    for program in (getattr(each, "program", each) for each in started):
        program.kill()
        program.wait()


@pytest.fixture(params=["--local", pytest.param("", marks=[pytest.mark.ray, pytest.mark.long], id="ray")])
def command(request, tmp_path):
    (tmp_path / "small.yaml").write_text(EXPERIMENT)
    where = ["--output", str(tmp_path), *([request.param] if request.param else [])]
    return [sys.executable, "-m", "fcdd_sweep", str(tmp_path / "small.yaml"), *where]


@pytest.fixture
def run(tmp_path):
    return RunPaths(tmp_path / "small")


def log_of(run, number):
    return "".join(path.read_text() for path in run.attempts.glob(f"*/{number}/leaf/log.txt"))


def last_epoch(run, number=1):
    return max(map(int, re.findall(r"epoch (\d+)/", log_of(run, number))), default=0)


def moment_of(checkpoint):
    """Epoch and step that a checkpoint was saved in, by its name."""
    return tuple(map(int, re.findall(r"epoch-(\d+)-step-(\d+)-", checkpoint)[0]))


@pytest.mark.slow
@pytest.mark.parametrize("redirected", [pytest.param(True, marks=pytest.mark.long), False])
def test_a_closed_terminal_loses_nothing(command, run, redirected, start, tmp_path):
    with (tmp_path / "output.txt").open("w") as output:
        terminal = start(Terminal, command, output if redirected else None)
    wait_until(lambda: last_epoch(run) >= 3, terminal.program)
    terminal.close()
    assert terminal.program.wait(timeout=60) == 129
    progress = read_progress(run.progress.parent)
    assert (progress.state, progress.driver.pid) == ("interrupted", terminal.program.pid)
    trained = last_epoch(run)
    saved = max((moment_of(path.name), path.name) for path in run.attempts.glob("*/1/checkpoints/*"))
    assert saved[0] >= (trained + 1, 0)

    again = start(subprocess.Popen, command, stdout=subprocess.DEVNULL)
    wait_until(lambda: last_epoch(run, 2) > trained, again)
    again.terminate()
    assert again.wait(timeout=60) == 130
    assert f"from attempt 1: {saved[1]}" in log_of(run, 2)


@pytest.mark.slow
@pytest.mark.long
def test_a_program_under_nohup_continues_when_its_terminal_is_closed(command, run, start, tmp_path):
    with (tmp_path / "output.txt").open("w") as output:
        terminal = start(Terminal, ["nohup", *command], output)
    wait_until(lambda: last_epoch(run) >= 2, terminal.program)
    terminal.close()
    before = last_epoch(run)
    wait_until(lambda: last_epoch(run) >= before + 10, terminal.program)
    terminal.program.terminate()
    assert terminal.program.wait(timeout=60) == 130
