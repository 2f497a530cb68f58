"""YAML into plain values with the line of every key, and back."""

from __future__ import annotations

import pytest

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.config.yaml_text import parse_value, read_document, to_yaml


def test_every_key_and_item_has_its_line(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("name: a\ntraining:\n  epochs: 3\nseeds:\n  - 0\n  - 1\n")
    document = read_document(path)
    assert document.tree == {"name": "a", "training": {"epochs": 3}, "seeds": [0, 1]}
    assert document.lines == {
        ("name",): 1,
        ("training",): 2,
        ("training", "epochs"): 3,
        ("seeds",): 4,
        ("seeds", 0): 5,
        ("seeds", 1): 6,
    }


def test_words_that_yaml_1_1_took_for_truth_are_text():
    assert [parse_value(text, "--set") for text in ("no", "off", "true", "1e-3", "null")] == [
        "no",
        "off",
        True,
        0.001,
        None,
    ]


@pytest.mark.parametrize("value", ["no", "2026-01-02", "a: b", "0x10", "", "~", "ü", "1e5", "line\nbreak"])
def test_text_stays_text_when_written_and_read(tmp_path, value):
    path = tmp_path / "x.yaml"
    path.write_text(to_yaml({"name": value}), encoding="utf-8")
    assert read_document(path).tree == {"name": value}


def test_a_key_given_twice_names_both_lines(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\nb: 2\na: 3\n")
    with pytest.raises(ExperimentError, match=r"x.yaml:3: a: the key is given twice, first in line 1"):
        read_document(path)


def test_an_anchor_that_is_defined_twice_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: &n [1]\nb: *n\nc: &n [2]\n")
    with pytest.raises(ExperimentError, match="x.yaml: the anchor 'n' is defined twice, in lines 1 and 3"):
        read_document(path)
    path.write_text("a: &n [1]\nb: *n\nc: &m [2]\n")
    assert read_document(path).tree == {"a": [1], "b": [1], "c": [2]}


def test_nesting_without_end_is_an_error_of_input(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("name: " + "[" * 1100)
    with pytest.raises(ExperimentError, match="x.yaml: .* nested too deeply"):
        read_document(path)
    with pytest.raises(ExperimentError, match="--set name: .* nested too deeply"):
        parse_value("[" * 1100, "--set name")


def _bomb(levels, each=9):
    """Lists of aliases of the list before: 9 values to the power of `levels`."""
    lines = ["a0: &a0 [" + ", ".join(["1"] * each) + "]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * each)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def test_aliases_that_stand_for_more_than_any_memory_holds_are_an_error_of_their_line(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("schema: 2\n" + _bomb(30))
    with pytest.raises(ExperimentError, match=r"x.yaml:8: .*aliases.*at most 1,000,000 keys and values"):
        read_document(path)
    nested = "{" + ", ".join(_bomb(8).splitlines()) + "}"
    with pytest.raises(ExperimentError, match=r"--set name: .*at most 1,000,000"):
        parse_value(nested, "--set name")
    path.write_text(
        "top: &top\n  below:\n" + "".join(f"    {line}\n" for line in _bomb(8).splitlines()) + "  top: *top\n"
    )
    with pytest.raises(ExperimentError, match=r"x.yaml:9: .*at most 1,000,000"):
        read_document(path)


def test_merged_aliases_that_stand_for_too_much_are_the_same_error(tmp_path):
    path = tmp_path / "x.yaml"
    merged = [f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    path.write_text("a0: &a0 {x: 1}\n" + "\n".join(merged) + "\n")
    with pytest.raises(ExperimentError, match=r"x.yaml:\d+: .*at most 1,000,000"):
        read_document(path)


def test_a_few_aliases_are_read(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(_bomb(3))
    assert len(read_document(path).tree["a2"]) == 9
