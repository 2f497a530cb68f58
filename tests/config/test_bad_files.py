"""Broken experiment files: YAML, keys and types. Every problem is reported at once, with its line and what is allowed.

An expected problem is written as pieces between `|`, all of which one line of the message must hold. The number of
problems must be the number of expectations: nothing is missing from the list, and nothing is reported twice.
"""

from __future__ import annotations

import pytest

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.config.loading import load_experiment
from tests.broken import HEAD, assert_reported, problems_in

FILES = {
    # YAML itself
    "empty": ("", ["x.yaml: the file is empty|schema: 2"]),
    "comments alone": ("# nothing\n", ["the file is empty"]),
    "a list": ("- schema: 2\n", ["x.yaml:1: found a list at the top level|keys and values"]),
    "a word": ("digits\n", ["x.yaml:1: found a single value at the top level"]),
    "a tab": (HEAD + "training:\n\tepochs: 3\n", ["x.yaml:5:1: found a tab character|spaces"]),
    "an open bracket": (HEAD + "seeds: [1, 2\n", ["x.yaml:5:1: not valid YAML"]),
    "an open quote": (HEAD + "output: 'abc\n", ["not valid YAML|A quote that was opened is not closed"]),
    "two colons": (HEAD + "output: a: b\n", ["x.yaml:4:10: not valid YAML|put quotes around text"]),
    "two documents": (HEAD + "---\nschema: 2\n", ["x.yaml:4:1: found a second document"]),
    "an unknown alias": (HEAD + "seeds: *many\n", ["x.yaml:4:8: not valid YAML|many"]),
    "a value inside itself": (HEAD + "grid: &g {a: *g}\n", ["x.yaml:4: grid.a: the value refers to itself"]),
    "keys given twice": (
        HEAD + "training: {epochs: 3, epochs: 4}\nname: y\n",
        [
            "x.yaml:4: training.epochs: the key is given twice, first in line 4",
            "x.yaml:5: name: the key is given twice, first in line 2",
        ],
    ),
    "a number as a key of the file": (HEAD + "1: 2\n", ["x.yaml:4: a key must be text, but found 1|quotes"]),
    "a number as a key": (HEAD + "variants: {1: {}}\n", ["x.yaml:4: variants: a key must be text, but found 1|quotes"]),
    "a date": (HEAD + "dataset:\n  classes: [2024-01-01]\n", ["x.yaml:5: dataset.classes[0]: found the date|quotes"]),
    "a tag": (HEAD + "output: !!python/name:os.system x\n", ["x.yaml:4: output: found a value with the tag"]),
    # Keys
    "no schema": ("name: x\npreset: digits\n", ["x.yaml: schema: the key is missing|Write `schema: 2`"]),
    "another schema": (
        "schema: 3\nname: x\npreset: digits\n",
        ["x.yaml:1: schema: found 3|Allowed: 2|version of fcdd_sweep"],
    ),
    "no name": ("schema: 2\npreset: digits\n", ["x.yaml: name: the key is missing|letters, digits"]),
    "a name with a slash": (
        "schema: 2\nname: a/b\npreset: digits\n",
        ["x.yaml:2: name: found the text 'a/b'|letters, digits, '.', '_' and '-'"],
    ),
    "an unknown preset": (
        "schema: 2\nname: x\npreset: digit\n",
        ["x.yaml:3: preset: there is no preset 'digit'|digits, textures, solar, fmnist|Closest: 'digits'"],
    ),
    "no preset": (
        "schema: 2\nname: x\nimages: {load_size: 32, size: 32}\ntraining:\n  epochs: 3\n",
        [
            "x.yaml: dataset: the key is missing|preset: NAME|digits, textures",
            "x.yaml: network: the key is missing|preset: NAME",
            "x.yaml:4: training.learning_rate: the key is missing|a number, above 0|preset: NAME",
            "x.yaml:4: training.schedule: the key is missing|{type: exponential, factor: F}",
        ],
    ),
    "a misspelled section": (
        HEAD + "trainng: {epochs: 3}\n",
        ["x.yaml:4: trainng: there is no such key|Closest: 'training'"],
    ),
    "a misspelled key": (
        HEAD + "training:\n  epochs: 3\n  learning_rat: 1\n",
        ["x.yaml:6: training.learning_rat: there is no such key|epochs, passes_per_epoch|Closest: 'learning_rate'"],
    ),
    "a dotted key": (
        HEAD + "training.epochs: 3\n",
        ["x.yaml:4: training.epochs: there is no such key|Write it as `training: {epochs: ...}`"],
    ),
    "an empty section": (HEAD + "training:\n", ["x.yaml:4: training: found nothing|remove the key"]),
    "a name where a section belongs": (
        HEAD + "network: FCDD_CNN28\n",
        ["x.yaml:4: network: found the text 'FCDD_CNN28'|Write it as `network: {name: FCDD_CNN28}`"],
    ),
    # Types and ranges
    "text for a number": (
        HEAD + "training: {epochs: '3'}\n",
        ["x.yaml:4: training.epochs: found the text '3'|a whole number, at least 1"],
    ),
    "a fraction for a whole number": (
        HEAD + "training: {epochs: 2.5}\n",
        ["x.yaml:4: training.epochs: found 2.5|a whole number, at least 1"],
    ),
    "true for a number": (HEAD + "training: {learning_rate: true}\n", ["learning_rate: found true|a number, above 0"]),
    "no is text": (HEAD + "network: {bias: no}\n", ["x.yaml:4: network.bias: found the text 'no'|true or false"]),
    "an infinite number": (HEAD + "training: {learning_rate: .inf}\n", ["training.learning_rate: found inf|a number"]),
    "numbers out of range": (
        HEAD + "training:\n  epochs: 0\n  momentum: 1.0\n  batch_size: 1\nanomalies: {probability: 1.5}\n",
        [
            "x.yaml:5: training.epochs: found 0|at least 1",
            "x.yaml:6: training.momentum: found 1.0|at least 0 and below 1",
            "x.yaml:7: training.batch_size: found 1|at least 2",
            "x.yaml:8: anomalies.probability: found 1.5|at least 0 and at most 1",
        ],
    ),
    "an optional number out of range": (
        HEAD + "heatmaps: {kernel_std_px: 0}\n",
        ["x.yaml:4: heatmaps.kernel_std_px: found 0|Allowed: a number, above 0 or null"],
    ),
    "an unknown choice": (
        HEAD + "preprocessing: lcnaug\n",
        ["x.yaml:4: preprocessing: found the text 'lcnaug'|'none', 'lcn', 'aug1', 'lcnaug1'|Closest: 'lcnaug1'"],
    ),
    "an unknown mode": (
        HEAD + "anomalies: {mode: nois}\n",
        ["x.yaml:4: anomalies.mode: found the text 'nois'|'malformed_normal_gt'|Closest: 'noise'"],
    ),
    "an unknown schedule": (
        HEAD + "training:\n  schedule:\n    type: milestone\n",
        ["x.yaml:6: training.schedule.type: found the text 'milestone'|'milestones'|Closest: 'milestones'"],
    ),
    "a schedule without milestones": (
        HEAD + "training:\n  schedule: {type: milestones}\n",
        ["x.yaml:5: training.schedule.milestones: the key is missing|a list, each item a whole number, at least 1"],
    ),
    "milestones that go back": (
        HEAD + "training:\n  schedule: {type: milestones, milestones: [5, 3]}\n",
        ["x.yaml:5: training.schedule.milestones: milestones must increase, found [5, 3]"],
    ),
    "a size above the raw size": (
        HEAD + "images: {load_size: 20, size: 28}\n",
        ["x.yaml:4: images: images.size 28 must not be larger than images.load_size 20"],
    ),
    "a range and a depth": (
        HEAD + "images: {range: [0, 4095], bit_depth: 12}\n",
        ["x.yaml:4: images: images.bit_depth and images.range both say which values the images have: keep one"],
    ),
    "a range that goes back": (
        HEAD + "images: {range: [4095, 0]}\n",
        ["x.yaml:4: images: images.range must be [LOW, HIGH] with LOW below HIGH, found [4095.0, 0.0]"],
    ),
    "a limit in words": (
        HEAD + "anomalies: {limit: many}\n",
        ["anomalies.limit: found the text 'many'|'all' or a whole"],
    ),
    "no seeds": (HEAD + "seeds: []\n", ["x.yaml:4: seeds: the list of seeds is empty"]),
    "seeds twice": (HEAD + "seeds: [0, 1, 0]\n", ["x.yaml:4: seeds: the list of seeds holds 0 more than once"]),
    "bad seeds": (
        HEAD + "seeds:\n- 1\n- x\n- -1\n",
        ["x.yaml:6: seeds[1]: found the text 'x'|at least 0", "x.yaml:7: seeds[2]: found -1|at least 0"],
    ),
    "a name that is a number": (
        HEAD.replace("name: x", "name: 1"),
        ["x.yaml:2: name: found 1. Allowed: letters|Put it in quotes if it is meant as text"],
    ),
    "seeds in words": (HEAD + "seeds: five\n", ["x.yaml:4: seeds: found the text 'five'|how many seeds"]),
}


@pytest.mark.parametrize(("text", "expected"), FILES.values(), ids=FILES.keys())
def test_a_broken_file_is_answered_with_all_its_problems(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert_reported(problems_in("x.yaml"), expected)


OVERRIDES = {
    "no value": ("training.epochs", "--set training.epochs: this is not KEY=VALUE|--set training.epochs=3"),
    "no key": ("=3", "--set =3: this is not KEY=VALUE"),
    "an unknown key": (
        "training.epoch=3",
        "--set training.epoch=3: there is no key training.epoch|Closest: 'training.epochs'",
    ),
    "a key below a value": ("name.x=3", "--set name.x=3: there is no key name.x"),
    "a wrong type": ("training.epochs=x", "--set training.epochs=x: found the text 'x'|a whole number, at least 1"),
    "a wrong item": ("seeds=[1, x]", "--set seeds=[1, x]: seeds[1]: found the text 'x'"),
    "bad YAML": ("seeds=[1", "--set seeds=[1: not valid YAML|quotes"),
    "a key given twice": (
        "network={bias: true, bias: true}",
        "network={bias: true, bias: true}: the key is given twice",
    ),
    "a date": ("name=2024-01-01", "--set name=2024-01-01: found the date"),
    "an unknown network": ("network.name=FCDD", "--set network.name=FCDD: there is no network 'FCDD'"),
    "an unknown preset": ("preset=digit", "--set preset=digit: there is no preset 'digit'|Closest: 'digits'"),
    "a grid value": ("grid.training.epochs=[1, x]", "epochs=[1, x]: grid.training.epochs[1]: found the text 'x'"),
    "an empty value": ("training.epochs=", "--set training.epochs=: found nothing"),
}


@pytest.mark.parametrize(("override", "expected"), OVERRIDES.values(), ids=OVERRIDES.keys())
def test_a_broken_override_is_named_as_it_was_typed(tmp_path, override, expected):
    (tmp_path / "x.yaml").write_text(HEAD)
    assert_reported(problems_in(tmp_path / "x.yaml", [override]), [expected])


def test_problems_of_file_and_overrides_come_together(tmp_path):
    (tmp_path / "x.yaml").write_text(HEAD + "preprocessing: x\n")
    reported = problems_in(tmp_path / "x.yaml", ["seeds=x", "foo=1"])
    assert_reported(
        reported, ["--set foo=1: there is no key", "x.yaml:4: preprocessing: found", "--set seeds=x: found"]
    )


def test_a_missing_file_is_answered_with_near_names(tmp_path):
    (tmp_path / "digits.yaml").write_text(HEAD)
    assert_reported(
        problems_in(tmp_path / "digit.yaml"), [f"there is no such file|Closest: {tmp_path / 'digits.yaml'}"]
    )
    assert_reported(problems_in(tmp_path / "zzz"), [f"Experiment files in {tmp_path}: digits.yaml"])
    assert_reported(problems_in(tmp_path / "no" / "x.yaml"), [f"there is no experiment file in {tmp_path / 'no'}"])


def test_a_folder_is_answered_with_its_experiment_files(tmp_path):
    (tmp_path / "digits.yaml").write_text(HEAD)
    assert_reported(problems_in(tmp_path), ["this is a folder, not an experiment file|digits.yaml"])


def test_a_file_that_is_not_utf8_is_answered_with_the_byte(tmp_path):
    (tmp_path / "x.yaml").write_bytes("schema: 2\nname: größe\n".encode("latin-1"))
    assert_reported(
        problems_in(tmp_path / "x.yaml"), ["the file is not UTF-8 text (byte 0xf6 at position 18)|Save it as UTF-8"]
    )


def test_broken_files_are_refused_without_the_registries_too(tmp_path):
    (tmp_path / "x.yaml").write_text(HEAD + "training: {epochs: x}\nnetwork: {name: FCDD}\n")
    with pytest.raises(ExperimentError) as caught:
        load_experiment(tmp_path / "x.yaml")
    assert_reported(
        [str(problem) for problem in caught.value.problems], ["x.yaml:4: training.epochs: found the text 'x'"]
    )


ABBREVIATED = {
    "in the file": (HEAD + "training: {lr: 0.1}\n", [], "'learning_rate'"),
    "on the command line": (HEAD, ["training.lr=0.1"], "'training.learning_rate'"),
    "without its section": (HEAD, ["learning_rate=0.1"], "'training.learning_rate'"),
    "in the grid": (HEAD + "grid: {training.lr: [0.1]}\n", [], "'training.learning_rate'"),
    "in a variant": (HEAD + "variants: {a: {training.lr: 0.1}}\n", [], "'training.learning_rate'"),
    "in a search": (
        HEAD + "search: {budget: {configs: 2}, space: {training.lr: {log: [0.1, 1]}}}\n",
        [],
        "'training.learning_rate'",
    ),
}


@pytest.mark.parametrize(("text", "overrides", "near"), ABBREVIATED.values(), ids=ABBREVIATED.keys())
def test_an_abbreviated_key_is_answered_with_the_whole_one(tmp_path, text, overrides, near):
    (tmp_path / "x.yaml").write_text(text)
    reported = problems_in(tmp_path / "x.yaml", overrides)
    assert_reported(reported, [f"Closest: {near}."])


def test_problems_stand_in_the_order_of_their_lines_and_then_those_without(tmp_path):
    lines = [
        "seeds: x",
        "anomalies: {mode: nois}",
        "grid: {training.epochs: [x, 2], foo: [1]}",
        "preprocessing: x",
        "images: {size: 2}",
    ]
    (tmp_path / "x.yaml").write_text(HEAD + "\n".join(lines) + "\n")
    reported = problems_in(tmp_path / "x.yaml", ["bar=1", "keep.maps=x"])
    numbers = [text.removeprefix(f"{tmp_path}/x.yaml:").split(":")[0] for text in reported]
    assert numbers == ["4", "5", "6", "6", "7", "8", "--set bar=1", "--set keep.maps=x"]
