"""Tables for terminals and pipes."""

import io
import os
import pty
import subprocess
import sys

import pytest

from fcdd_sweep.report.terminal import table_text, terminal_width
from tests.fakes import FakeRun

ROWS = [("name", "text", "n"), ("a", "word " * 30 + "[b]end[/b]", "7"), ("long-name", "", "12345")]


def test_columns_are_as_wide_as_needed_without_a_terminal():
    first, second, third = table_text(ROWS, names=2).splitlines()
    assert second.endswith("word [b]end[/b]      7") and len(second) > 160
    assert first.index("text") == second.index("word") and third.startswith("long-name  ") and third.endswith("  12345")
    assert all(line == line.rstrip() for line in (first, second, third))


@pytest.mark.parametrize("width", [30, 40, 80])
def test_long_text_is_wrapped_into_a_terminal_and_nothing_is_cut(width):
    text = table_text(ROWS, names=2, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("word") == 30 and "[b]end[/b]" in "".join(text.split()) and "12345" in text and "…" not in text


def test_the_first_column_can_be_aligned_with_other_tables():
    assert table_text([("a", "b")], names=2, indent=2, least=6) == "  a       b"
    assert table_text([], names=2) == ""


def test_a_pipe_has_no_width():
    assert terminal_width(io.StringIO()) is None


@pytest.fixture
def run_dir(tmp_path):
    return FakeRun(tmp_path / "r").plan(["a class with a very long name", "b"], [0]).finish("", "b", 0).write()


def test_a_pipe_gets_lines_of_any_length_without_color_codes(run_dir):
    command = [sys.executable, "-m", "fcdd_sweep", "status", str(run_dir)]
    environment = os.environ | {"COLUMNS": "30", "FORCE_COLOR": "1"}
    lines = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.splitlines()
    assert lines[1] == "-       a class with a very long name        1     0       0        1"
    assert not any("\033" in line for line in lines)


def test_a_terminal_of_45_columns_gets_lines_that_fit(run_dir):
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "fcdd_sweep", "status", str(run_dir)]
    environment = os.environ | {"COLUMNS": "45"}
    process = subprocess.Popen(command, stdout=follower, env=environment)
    os.close(follower)
    output = b""
    while True:
        try:
            chunk = os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
        output += chunk
    os.close(leader)
    assert process.wait() == 0
    table = output.decode().splitlines()[:-2]
    assert max(map(len, table)) <= 45 and table[0].split() == [
        "config",
        "class",
        "planned",
        "done",
        "failed",
        "missing",
    ]
