"""The short form of an error in messages."""

import pytest

from fcdd_sweep.config.errors import InputError, Problem, short_error

LONG = "word " * 100 + "cause"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("two\n  lines\tof text"), "two lines of text"),
        (FileNotFoundError(2, "No such file or directory", "a/b/c.parquet"), "c.parquet is missing"),
        (FileNotFoundError("no such bucket"), "no such bucket"),
        (RuntimeError(), "RuntimeError"),
        (InputError([Problem("x", "is wrong", "y"), Problem("z", "too")]), "x: is wrong; z: too"),
    ],
)
def test_an_error_is_one_line(error, text):
    assert short_error(error) == text


def test_long_text_is_cut_at_the_end_or_at_the_beginning():
    assert short_error(ValueError(LONG), 20) == "word word word wo..."
    assert short_error(ValueError(LONG), 20, keep_end=True).endswith("word cause")
    assert len(short_error(ValueError(LONG), 20, keep_end=True)) == 20
    assert short_error(ValueError(LONG), 10_000) == LONG
