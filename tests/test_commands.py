"""What commands return to the shell."""

from __future__ import annotations

import pytest

from fcdd_sweep import cli
from fcdd_sweep.commands import ExitCode


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["list"], ExitCode.DONE),
        (["validate", "missing.yaml"], ExitCode.BAD_INPUT),
        (["status", "missing"], ExitCode.BAD_INPUT),
        (["experiments/demo.yaml", "--probe-cost"], ExitCode.BAD_INPUT),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_a_command_ends_with_the_code_of_its_result(arguments, code, capsys):
    assert cli.main(arguments) == code
    printed = capsys.readouterr()
    assert bool(printed.err) == (code == ExitCode.BAD_INPUT) and "Traceback" not in printed.err


def test_the_codes_are_those_of_shells():
    assert ExitCode.BAD_INPUT == 2 and ExitCode.INTERRUPTED == 128 + 2
