"""Output that nobody reads, that does not fit or that cannot be expressed: no traceback, and results as ever."""

import errno
import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fcdd_sweep.commands import ExitCode
from fcdd_sweep.output import GuardedOutput
from fcdd_sweep.results.documents import read_progress
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.sweep.progress_file import ProgressFile
from tests.fakes import FakeRun
from tests.test_cli import TEXT

ROOT = Path(__file__).parent.parent
POSIX = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
GONE = "a reader that has gone"


def call(*arguments, out, folder, **environment):
    """Run a command with its standard output in a file, or with a reader that has gone; gives exit code and stderr."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe, Path(os.devnull if out == GONE else out).open("wb") as file:
        ended = subprocess.run(
            [sys.executable, "-m", "fcdd_sweep", *arguments],
            cwd=folder,
            env=variables,
            stdout=pipe if out == GONE else file,
            stderr=subprocess.PIPE,
            check=False,
        )
    return ended.returncode, ended.stderr.decode()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "quick.yaml").write_text(TEXT)
    return tmp_path


PRINTING = [
    ["list"],
    ["--help"],
    ["validate", "quick.yaml"],
    ["quick.yaml", "--dry-run"],
    ["quick.yaml", "--show-config"],
]


@pytest.mark.slow
@pytest.mark.parametrize("command", PRINTING, ids=" ".join)
def test_a_reader_that_goes_away_is_no_problem(folder, command):
    assert call(*command, out=GONE, folder=folder) == (ExitCode.DONE, "")


@pytest.mark.slow
def test_what_cannot_be_printed_is_reported_once_and_is_not_done(folder):
    code, reported = call("list", out="/dev/full", folder=folder)
    assert code == ExitCode.SOME_FAILED
    assert reported.count("\n") == 1 and os.strerror(errno.ENOSPC) in reported and "standard output" in reported


@pytest.mark.slow
def test_bad_input_keeps_its_exit_code_when_its_error_cannot_be_printed(folder):
    line = f"exec {sys.executable} -m fcdd_sweep nowhere.yaml 2>/dev/full"
    ended = subprocess.run(["bash", "-c", line], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert ended.returncode == ExitCode.BAD_INPUT


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_lead_nowhere(folder, closed):
    """A file that the program opens later must not become its standard output."""
    program = "from fcdd_sweep import output; output.guard(); import os; raise SystemExit(open('x', 'w').fileno() < 3)"
    line = f'exec {sys.executable} -c "{program}" {closed}'
    assert subprocess.run(["bash", "-c", line], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
    line = f"exec {sys.executable} -m fcdd_sweep list {closed} | cat"
    listed = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0 and listed.stderr == ""
    assert ("presets" in listed.stdout) == ("1>&-" not in closed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "shown"),
    [({"PYTHONIOENCODING": "ascii"}, r"gr\xf6\xdfe"), (POSIX, "größe"), ({}, "größe")],
    ids=["ascii", "POSIX", "UTF-8"],
)
def test_characters_that_the_encoding_lacks_are_escaped(folder, environment, shown):
    """In the POSIX locale Python does not decode the name, and prints the bytes that it got."""
    (folder / "quick.yaml").rename(folder / "größe.yaml")
    assert call("validate", "größe.yaml", out=folder / "out", folder=folder, **environment) == (ExitCode.DONE, "")
    assert f"{shown}.yaml: valid" in (folder / "out").read_text()


@pytest.mark.slow
def test_a_name_that_the_locale_lacks_is_bad_input(folder):
    (folder / "quick.yaml").write_text(f"{TEXT}output: größe\n", encoding="utf-8")
    code, reported = call("quick.yaml", out=os.devnull, folder=folder, **POSIX)
    line = TEXT.count("\n") + 1
    assert code == ExitCode.BAD_INPUT and reported.startswith(
        f"error: quick.yaml:{line}: output: 'gr\\xf6\\xdfe' cannot"
    )


def run_of(folder):
    return folder / "results" / "quick"


def assert_run_is_whole(folder):
    assert read_progress(run_of(folder)).done == 1
    assert (run_of(folder) / "normal_3" / "it_0" / "log.txt").read_text() != ""
    assert RunPaths(run_of(folder)).report.is_file()


@pytest.mark.long
@pytest.mark.parametrize(("out", "lines"), [(GONE, 0), ("/dev/full", 1)])
def test_a_sweep_without_output_trains_on(folder, out, lines):
    code, reported = call("quick.yaml", "--local", "--set", "seeds=1", out=out, folder=folder)
    assert code == ExitCode.DONE and reported.count("\n") == lines
    assert_run_is_whole(folder)


@pytest.mark.slow
@pytest.mark.long
def test_a_sweep_trains_on_when_its_terminal_is_gone(folder):
    """The live display writes from a thread of its own; both streams of the process give EIO."""
    ours, theirs = os.openpty()
    sweep = subprocess.Popen(
        [sys.executable, "-m", "fcdd_sweep", "quick.yaml", "--local", "--set", "seeds=1"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    assert os.read(ours, 1) != b""
    os.close(ours)
    assert sweep.wait(timeout=120) == ExitCode.DONE
    assert_run_is_whole(folder)


@pytest.mark.slow
def test_watching_ends_with_its_reader(folder):
    FakeRun(run_of(folder)).plan(["brick"], [0]).finish("", "brick", 0).write()
    with ProgressFile(run_of(folder), print):  # the sweep still runs
        assert call("status", "results/quick", "--watch", "0.5", out=GONE, folder=folder) == (ExitCode.DONE, "")


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(writing)


def test_text_arrives_at_once_and_whole(pipe):
    reading, writing = pipe
    stream = io.TextIOWrapper(GuardedOutput(writing, "the pipe", None), encoding="utf-8", write_through=True)
    print("größe", file=stream)
    assert os.read(reading, 100).decode() == "größe\n"
    os.close(reading)


def test_output_without_a_reader_accepts_everything_quietly(pipe):
    reading, writing = pipe
    os.close(reading)
    complaints = io.StringIO()
    guarded = GuardedOutput(writing, "the pipe", complaints)
    assert guarded.write(b"first") == 5 and guarded.error.errno == errno.EPIPE
    assert guarded.write(b"second") == 6 and complaints.getvalue() == ""


def test_output_continues_when_it_can_be_written_again(tmp_path):
    """A full disk may get room; here a reader comes back."""
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with (tmp_path / "pipe").open("wb") as pipe:
        guarded = GuardedOutput(pipe.fileno(), "the pipe", None)
        os.close(reading)
        guarded.write(b"lost ")
        reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        guarded.write(b"found")
    assert os.read(reading, 100) == b"found"
    os.close(reading)


def test_a_full_disk_is_reported_once():
    complaints = io.StringIO()
    with Path("/dev/full").open("wb") as full:
        guarded = GuardedOutput(full.fileno(), "standard output", complaints)
        for _ in range(3):
            assert guarded.write(b"text") == 4
    assert complaints.getvalue().count("\n") == 1
    assert complaints.getvalue().startswith("error: cannot write to standard output: No space left on device.")


def test_a_slow_reader_of_a_non_blocking_pipe_gets_everything(pipe):
    """Another process of the same terminal may have made it non-blocking; a full pipe then gives EAGAIN."""
    reading, writing = pipe
    os.set_blocking(writing, False)
    content = os.urandom(1_000_000)
    received = bytearray()

    def read():
        time.sleep(0.2)
        while len(received) < len(content) and (piece := os.read(reading, 65536)):
            received.extend(piece)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    guarded = GuardedOutput(writing, "the pipe", None)
    assert guarded.write(content) == len(content) and guarded.error is None
    reader.join(timeout=30)
    os.close(reading)
    assert received == content
