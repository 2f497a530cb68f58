"""The short form of an error in messages."""

import pytest

from fcdd_sweep.config.errors import InputError, Problem, error_line, short_error

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


ILLEGAL = """CUDA error: an illegal memory access was encountered
Search for `cudaErrorIllegalAddress' in https://docs.nvidia.com for more information.
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""


def test_the_advice_below_an_error_of_cuda_is_not_what_happened():
    assert short_error(RuntimeError(ILLEGAL)) == "CUDA error: an illegal memory access was encountered"
    assert error_line(RuntimeError(ILLEGAL)) == "RuntimeError: CUDA error: an illegal memory access was encountered"


def test_a_record_of_an_error_has_its_type_and_all_of_its_lines():
    mismatch = RuntimeError("Error(s) in loading state_dict for Net:\n\tMissing key(s): 'bias'.")
    assert error_line(mismatch) == "RuntimeError: Error(s) in loading state_dict for Net: Missing key(s): 'bias'."
    assert error_line(KeyError("x")) == "KeyError: 'x'"
    assert error_line(MemoryError()) == "MemoryError"
    two = InputError([Problem("x", "is wrong"), Problem("z", "is wrong, too")])
    assert error_line(two).endswith("InputError: x: is wrong. z: is wrong, too.")
    assert len(error_line(ValueError(LONG), 20)) == 20


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
