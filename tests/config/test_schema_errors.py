"""Keys and values that schema 2 renamed: wherever an old one is written, the problem names the new one."""

from __future__ import annotations

import pytest

from fcdd_sweep.config.grid import KNOWN_KEYS
from fcdd_sweep.config.schema_errors import RENAMED_KEYS, RENAMED_VALUES, renamed_key
from tests.broken import HEAD, TEXTURES, assert_reported, problems_in

HELD_OUT = "evaluation: {validation: {nominal_fraction: 0.2, anomalies: {set_aside: 2}}}\n"
SEARCH = "search:\n  budget: {configs: 5}\n"
SPACE = "  space: {training.learning_rate: {log: [0.001, 0.1]}}\n"
RAW_SIZE = "images.raw_size was renamed to images.load_size in schema 2|Write images.load_size"
QUANTILE = "heatmaps.quantile was renamed to heatmaps.color_quantile in schema 2"
GREY = "images.color: found the text 'grey'|Allowed: 'gray' or 'rgb'|Write gray"
FILES = {
    "a key": (HEAD + "images:\n  raw_size: 40\n", [f"x.yaml:5: images.raw_size: {RAW_SIZE}"]),
    "two keys": (
        HEAD + "images: {raw_size: 40}\nheatmaps: {quantile: 0.9}\n",
        [f"x.yaml:4: images.raw_size: {RAW_SIZE}", f"x.yaml:5: heatmaps.quantile: {QUANTILE}"],
    ),
    "a key that another one replaced": (
        HEAD + "evaluation: {threshold_quantile: 0.9}\n",
        [
            "x.yaml:4: evaluation.threshold_quantile: |was replaced by evaluation.false_alarm_rate|"
            "Write evaluation.false_alarm_rate: 0.05 for a threshold_quantile of 0.95"
        ],
    ),
    "a replaced key in variants": (
        HEAD + "variants:\n  a: {evaluation.threshold_quantile: 0.9}\n",
        ["x.yaml:5: variants.a.evaluation.threshold_quantile: |was replaced by evaluation.false_alarm_rate"],
    ),
    "a score of images that is not known": (
        HEAD + "evaluation: {image_score: median}\n",
        ["x.yaml:4: evaluation.image_score: found the text 'median'|Allowed: 'mean', 'max', 'auto' or {top: SHARE}"],
    ),
    "a share that no score is kept for": (
        HEAD + "evaluation: {image_score: {top: 0.02}}\n",
        ["x.yaml:4: evaluation.image_score.top: found 0.02; scores are kept for the shares 0.001, 0.01, 0.03, 0.1"],
    ),
    "reserved anomalies": (
        TEXTURES + "evaluation: {real_anomalies_set_aside: 2}\n",
        ["x.yaml:4: evaluation.real_anomalies_set_aside: |was renamed to evaluation.reserved_anomalies in schema 2"],
    ),
    "test anomalies for validation": (
        TEXTURES + HELD_OUT,
        ["x.yaml:4: evaluation.validation.anomalies.set_aside: |renamed to evaluation.validation.anomalies.from_test"],
    ),
    "pruning": (
        HEAD + SEARCH + SPACE + "  prune: {at: [1], keep: 0.3}\n",
        ["x.yaml:7: search.prune.keep: |was renamed to search.prune.keep_fraction in schema 2"],
    ),
    "a color": (HEAD + "images: {color: grey}\n", [f"x.yaml:4: {GREY}"]),
    "maps": (HEAD + "keep: {maps: pictured}\n", ["x.yaml:4: keep.maps: found the text 'pictured'|Write shown"]),
    "a grid": (
        HEAD + "grid:\n  images.raw_size: [32, 40]\n  images.color: [grey, rgb]\n",
        [
            f"x.yaml:5: grid.images.raw_size: {RAW_SIZE}",
            "x.yaml:6: grid.images.color[0]: found the text 'grey'|Write gray",
        ],
    ),
    "a section in the grid": (
        HEAD + "grid:\n  images: [{raw_size: 32, size: 32}]\n",
        ["x.yaml:5: grid.images[0]|images.load_size in schema 2"],
    ),
    "variants": (
        HEAD + "variants:\n  a: {heatmaps.quantile: 0.9}\n  b: {images.color: grey}\n",
        [
            f"x.yaml:5: variants.a.heatmaps.quantile: {QUANTILE}",
            "x.yaml:6: variants.b.images.color: found the text 'grey'|Write gray",
        ],
    ),
    "a search's space": (
        HEAD + SEARCH + "  space:\n    images.raw_size: {int: [32, 40]}\n    images.color: {choices: [grey, rgb]}\n",
        [
            f"x.yaml:7: search.space.images.raw_size: {RAW_SIZE}",
            "x.yaml:8: search.space.images.color.choices[0]: found the text 'grey'|Write gray",
        ],
    ),
    "a condition of the space": (
        HEAD + SEARCH + "  space:\n    training.epochs: {int: [1, 3], when: {images.raw_size: 40}}\n",
        [f"x.yaml:7: search.space.training.epochs.when.images.raw_size: {RAW_SIZE}"],
    ),
    "a key that would be missing": (
        HEAD.replace("preset: digits", "dataset: {name: digits}")
        + "network: {name: FCDD_CNN32_S}\nimages: {raw_size: 32, size: 32}\n"
        + "training: {epochs: 1, learning_rate: 0.1, schedule: {factor: 0.9, type: exponential}}\n",
        [f"x.yaml:5: images.raw_size: {RAW_SIZE}"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), FILES.values(), ids=FILES.keys())
def test_an_old_name_in_a_file_is_answered_with_the_new_one(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert_reported(problems_in("x.yaml"), expected)


@pytest.mark.parametrize("key", RENAMED_KEYS)
def test_an_old_key_of_an_override_is_answered_with_the_new_one(tmp_path, key):
    (tmp_path / "x.yaml").write_text(HEAD)
    (reported,) = problems_in(tmp_path / "x.yaml", [f"{key}=1"])
    assert reported == (
        f"--set {key}=1: {key} was renamed to {RENAMED_KEYS[key]} in schema 2. Write {RENAMED_KEYS[key]}."
    )


@pytest.mark.parametrize(("key", "value"), RENAMED_VALUES)
def test_an_old_value_of_an_override_is_answered_with_the_new_one(tmp_path, key, value):
    (tmp_path / "x.yaml").write_text(HEAD)
    (reported,) = problems_in(tmp_path / "x.yaml", [f"{key}={value}"])
    assert f"Write {RENAMED_VALUES[key, value]}: schema 2 renamed the value." in reported


def test_a_file_of_schema_1_is_answered_with_every_new_name_and_its_own_old_ones(tmp_path):
    (tmp_path / "x.yaml").write_text(HEAD.replace("schema: 2", "schema: 1") + "images: {raw_size: 40}\n")
    reported = problems_in(tmp_path / "x.yaml")
    assert_reported(
        reported,
        [
            "x.yaml:1: schema: found 1, but schema 2 renamed keys and values|Allowed: 2|Write `schema: 2`",
            f"x.yaml:4: images.raw_size: {RAW_SIZE}",
        ],
    )
    names = [f"{old} -> {new}" for old, new in RENAMED_KEYS.items()]
    (listed,) = [one for one in reported if "schema: found" in one]
    assert all(text in listed for text in [*names, "images.color: grey -> gray", "keep.maps: pictured -> shown"])


def test_new_names_exist_and_old_ones_do_not():
    assert set(RENAMED_KEYS.values()) | {key for key, _ in RENAMED_VALUES} <= KNOWN_KEYS
    assert not RENAMED_KEYS.keys() & KNOWN_KEYS
    assert renamed_key("x", "images.size") is None
