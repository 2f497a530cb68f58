"""Numbers, names and paths that nothing can hold: each is a problem of its line, and nothing starts."""

from __future__ import annotations

import pytest

from tests.broken import HEAD, assert_reported, problems_in

LONG = "a" * 300
TOO_LARGE = {
    "a seed beyond 64 bits": (
        "seeds: [9223372036854775808]\n",
        "seeds[0]: found a whole number of 19 digits",
    ),
    "one beyond Python's own limit": (f"seeds: [{'1' * 5000}]\n", "seeds[0]: found|5,000 digits"),
    "a negative number": ("training: {epochs: -99999999999999999999}\n", "training.epochs: found|20 digits"),
    "hexadecimal": ("seeds: 0xFFFFFFFFFFFFFFFFFFFF\n", "seeds: found a whole number"),
    "a count of seeds": (
        "seeds: 1000000000000\n",
        "seeds: found 1000000000000|how many seeds, at least 1 and at most 10000,",
    ),
    "a negative seed": ("seeds: [-1]\n", "seeds[0]: found -1|at least 0 and at most 9223372036854775807"),
    "a broken seed": ("seeds: [1.5]\n", "seeds[0]: found 1.5|a whole number"),
    "epochs": ("training: {epochs: 1000000000000}\n", "training.epochs: found|at most 1000000"),
    "a size": ("images: {load_size: 1000000000}\n", "images.load_size: found|at most 16384"),
    "threads": ("training: {threads: 1000000000000}\n", "training.threads: found|at most 4096"),
    "shares of a GPU": (
        "resources: {trials_per_gpu: 1000000}\n",
        "resources.trials_per_gpu: found|at most 1000",
    ),
}


@pytest.mark.parametrize(("text", "expected"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_a_number_that_nothing_can_hold_is_a_problem_of_its_line(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(HEAD + text)
    assert_reported(problems_in("x.yaml"), [f"x.yaml:4:|{expected}"])


def test_the_largest_seed_that_tables_hold_is_allowed(load):
    assert load(HEAD + "seeds: [9223372036854775807]\n").seed_list == [2**63 - 1]


def test_an_override_is_shortened_in_its_message(tmp_path):
    (tmp_path / "x.yaml").write_text(HEAD)
    (reported,) = problems_in(tmp_path / "x.yaml", [f"seeds=[{'1' * 5000}]"])
    assert len(reported) < 300 and reported.startswith("--set seeds=[111") and "5,000 digits" in reported


PATHS = {
    "a name": (f"name: {LONG}\n", "name: found|at most 255"),
    "an output": (f"output: {LONG}\n", "output: the path has the name 'aaaaaaaaaaaaaaaaaaaa...' of 300 bytes"),
    "a root": (f"dataset: {{name: mnist, root: {LONG}}}\n", "dataset.root: the path has the name|of 300 bytes"),
    "bytes count, not letters": (f"output: {'ä' * 130}\n", "output: the path has the name|of 260 bytes"),
    "a path of many folders": (f"output: {'/'.join(['b' * 250] * 20)}\n", "output: the path|file systems allow 4,095"),
    "an escape that YAML knows": ('output: "D:\\new\\test"\n', r"output: the path 'D:\new\test'|\n|single quotes"),
    "one that it does not": ('output: "D:\\new\\parts"\n', "not valid YAML|put Windows paths in single quotes"),
    "a zero byte": ('output: "a\\0b"\n', r"output: the path 'a\x00b'|\x00"),
    "a variable": ("output: $HOME/data\n", "output: the path '$HOME/data' holds $HOME|begin it with ~"),
    "a variable in braces": ("output: ${DATA}/x\n", "output: the path|holds ${DATA}"),
    "a variable of Windows": ("output: '%DATA%/x'\n", "output: the path|holds %DATA%"),
    "an empty path": ('output: ""\n', "output: the path is empty; write . for the current folder"),
    "the home of nobody": ("output: ~nobody-of-this-name/x\n", "output: the path|no such home folder"),
    "a source of anomalies": (
        f"anomalies: {{mode: noise, source: {{folder: {LONG}}}}}\n",
        "anomalies.source.folder: the path has the name|of 300 bytes",
    ),
    "weights": ("network: {weights: ~nobody-of-this-name/w.pt}\n", "network.weights: the path|no such home folder"),
}


@pytest.mark.parametrize(("text", "expected"), PATHS.values(), ids=PATHS.keys())
def test_a_path_that_no_file_system_can_have_is_a_problem_of_its_line(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text((HEAD if not text.startswith("name") else "schema: 2\npreset: digits\n\n") + text)
    assert_reported(problems_in("x.yaml"), [f"x.yaml:4:|{expected}"])


def test_a_folder_that_is_called_like_a_variable_is_read(load, tmp_path):
    (tmp_path / "$DATA").mkdir()
    assert load(HEAD + f"output: {tmp_path}/$DATA\n").output == tmp_path / "$DATA"
