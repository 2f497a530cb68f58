"""Names in a run's tree: of baselines' configs, attempts, and leaves whose place is taken."""

from __future__ import annotations

from pathlib import Path

from fcdd_sweep.config.locations import parse_location
from fcdd_sweep.results import tree
from fcdd_sweep.results.tree import RunPaths


def test_a_baseline_is_named_after_its_method_and_its_config():
    assert tree.baseline_config("", "hsc") == "hsc"
    name = tree.baseline_config("learning_rate-0.001_limit-8", "ae")
    assert name.startswith("ae_learning_rate-0_001_limit-8-")
    assert name == tree.baseline_config("learning_rate-0.001_limit-8", "ae")


def test_configs_that_look_alike_in_a_file_name_have_baselines_of_different_names():
    names = {tree.baseline_config(config, "hsc") for config in ("a.b", "a b", "a_b", "x" * 100, "x" * 101)}
    assert len(names) == 5 and all(len(name) < 100 for name in names)


def test_attempts_are_below_the_run_wherever_it_is():
    assert RunPaths(Path("/runs/x")).attempts_dir("a1") == Path("/runs/x/.attempts/a1")
    store = parse_location("s3://bucket/runs/x?region=eu-central-1")
    assert RunPaths(store).attempts_dir("a1") == store / ".attempts" / "a1"


def test_a_leaf_whose_place_is_taken_goes_to_a_folder_of_its_config():
    assert tree.alternative_leaf("normal_3/it_0", "c0ffee") == "config-c0ffee/normal_3/it_0"
    assert tree.alternative_leaf("rate-0.1/normal_3/it_0", "c0ffee") == "config-c0ffee/normal_3/it_0"
