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


def files(count, what="'{}.png' cannot be read ({} bytes are missing)"):
    return [Problem(f"data/{number}.png", what.format(number, number)) for number in range(count)]


def test_many_problems_of_one_kind_are_shown_by_the_first_and_their_number():
    others = [Problem("data/0.txt", "is no image"), Problem("x.yaml:3: seeds", "found 'a'")]
    text = str(InputError([others[0], *files(2000), others[1]]))
    assert text.splitlines() == [*map(str, [others[0], *files(3)]), "and 1,997 more like this", str(others[1])]
    assert len(InputError(files(2000)).problems) == 2000


def test_some_problems_are_all_shown_and_so_is_all_that_is_wrong_with_a_file():
    assert len(str(InputError(files(10))).splitlines()) == 10
    lines = [Problem(f"x.yaml:{number}: grid.a", f"there is no key 'a{number}'") for number in range(50)]
    assert len(str(InputError(lines)).splitlines()) == 50
