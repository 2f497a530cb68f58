"""FCDD and its baselines beside each other, from the files of two runs."""

import csv
import json

import numpy as np
import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.figures.heatmaps import read_maps
from fcdd_sweep.report.page import comparison
from fcdd_sweep.report.run_files import read_run
from fcdd_sweep.results import tree
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from tests import fakes

pytestmark = pytest.mark.slow

SEEDS = (0, 3)
BASELINES = {name: {"variant": name, "method": name} for name in tree.BASELINES}


@pytest.fixture
def run(tmp_path):
    """Two classes, two seeds; the AE of seed 3 of `tile` is missing."""
    path = tmp_path / "run"
    own = fakes.FakeRun(path).plan(["brick", "tile"], SEEDS)
    others = fakes.FakeRun(RunPaths(path).baselines).plan(["brick", "tile"], SEEDS, BASELINES)
    for name in ("brick", "tile"):
        for seed in SEEDS:
            own.finish("", name, seed, wrong=1)
            others.finish("hsc", name, seed, wrong=4)
            if (name, seed) != ("tile", 3):
                others.finish("ae", name, seed, wrong=10)
    own.write()
    others.write()
    RunPaths(RunPaths(path).baselines).counterparts.write_text(json.dumps({"": {"hsc": "hsc", "ae": "ae"}}))
    return path


def test_one_picture_a_seed_and_one_a_class_show_all_methods(run):
    page = comparison.combine(run)
    folder = run / "baselines" / "combined"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    pictures = ("it_0.png", "it_3.png", "heatmaps.png")
    assert found == {f"normal_{name}/{picture}" for name in ("brick", "tile") for picture in pictures}
    text = page.read_text()
    assert "tile, seed 3: AE is missing" in text
    assert text.count("data:image/jpeg") == 2


def test_rows_are_methods_and_all_show_the_same_images(run):
    maps = {
        method: read_maps(run / place / "normal_brick" / "it_0")
        for method, place in {"fcdd": ".", "hsc": "baselines/hsc", "ae": "baselines/ae"}.items()
    }
    chosen = comparison.compared_images(list(maps.values()))
    strip = comparison.method_strip(maps, chosen, "seed 0", 0.97)
    assert [row.name for row in strip.rows] == ["input", "FCDD", "HSC", "AE", "ground\ntruth"]
    label = maps["fcdd"].label[maps["fcdd"].rows_of(chosen)]
    assert [(label == value).sum() for value in (0, 1)] == [3, 6]
    rows = maps["ae"].rows_of(chosen)
    np.testing.assert_array_equal(strip.rows[3].images, maps["ae"].colored(rows, 0.97, "global"))


def test_a_method_that_is_not_there_has_an_empty_row_that_says_why(run):
    maps = read_maps(run / "normal_brick" / "it_0")
    chosen = comparison.compared_images([maps])
    strip = comparison.method_strip({"fcdd": maps, "hsc": "failed", "ae": maps}, chosen, "", 0.97)
    assert [row.name for row in strip.rows] == ["input", "FCDD", "HSC:\nfailed", "AE", "ground\ntruth"]
    assert len(np.unique(strip.rows[2].images)) == 1 and strip.rows[2].images.shape == strip.rows[0].images.shape
    with pytest.raises(ValueError, match="FCDD is missing"):
        comparison.method_strip({"fcdd": "missing", "ae": maps}, chosen, "", 0.97)


def test_failed_unplanned_and_unreadable_trials_are_told_apart(run):
    TrialPaths(run / "baselines" / "hsc" / "normal_brick" / "it_0").maps.unlink()
    runs = comparison.ComparedRuns(read_run(run), read_run(run / "baselines"), {"": {"hsc": "hsc", "ae": "ae"}})
    found = comparison.maps_by_method(runs, "", "brick", 0, problems := [])
    assert found["hsc"] == "unreadable" and problems == [
        "hsc/normal_brick/it_0 is not in the heatmap grid: maps.npz is missing"
    ]
    assert comparison.maps_by_method(runs, "", "tile", 3, [])["ae"] == "missing"
    assert comparison.maps_by_method(runs, "", "tile", 8, []) == dict.fromkeys(("fcdd", "hsc", "ae"), "missing")


VARIANTS = """schema: 2
method: fcdd
images: {size: 28}
network: {name: FCDD_CNN28}
training: {epochs: 30, optimizer: sgd, learning_rate: 0.01}
variants:
  hsc: {method: hsc, network: {name: CNN28}, training.learning_rate: 0.001}
  ae: {method: ae, network: {name: AE28}}
"""


def test_both_pages_name_networks_sizes_and_learning_rates_of_the_methods(run):
    RunPaths(run / "baselines").experiment.write_text(VARIANTS)
    aggregate(run / "baselines")
    page = RunPaths(run / "baselines").report.read_text()
    assert "<code>CNN28 (hsc); AE28 (ae)</code>" in page and "FCDD_CNN28</code>" not in page
    assert "<code>sgd, 0.001 (hsc); sgd, 0.01 (ae)</code>" in page
    assert ">run: baselines</h1>" in page and 'href="../report.html"' in page
    text = comparison.combine(run).read_text().replace("\n", "")
    row = "<td>network</td><td><code>FCDD_CNN28</code></td><td><code>CNN28</code></td><td><code>AE28</code></td>"
    assert row in text and "<code>sgd, 0.001</code>" in text and "<td>image side</td>" in text


def test_images_that_one_method_did_not_keep_are_not_chosen(run):
    maps = read_maps(run / "normal_brick" / "it_0")
    part = np.arange(len(maps.label)) % 2 == 0
    names = ("path", "label", "score")
    fewer = type(maps)(**{**vars(maps), **{name: getattr(maps, name)[part] for name in names}})
    chosen = comparison.compared_images([maps, fewer])
    assert len(chosen) and np.isin(chosen, fewer.path).all()


def test_the_table_has_a_row_a_method_and_class(run):
    comparison.combine(run)
    rows = list(csv.DictReader((run / "baselines" / "comparison.csv").open()))
    found = {(row["method"], row["normal_class"]): row["image_auroc_mean"] for row in rows}
    assert len(found) == 9
    assert float(found["fcdd", "brick"]) == pytest.approx(0.95)
    assert float(found["hsc", "mean"]) == pytest.approx(0.8)
    assert float(found["ae", "tile"]) == pytest.approx(0.5)


def test_aggregate_makes_the_comparison_again(run):
    aggregate(run)
    assert (run / "baselines" / "comparison.html").is_file()


def test_damaged_baselines_do_not_keep_the_report_back(run):
    RunPaths(run / "baselines").counterparts.write_text("{")
    text = aggregate(run).read_text()
    assert "not compared with its baselines" in text and "counterparts.json" in text


def test_a_run_without_baselines_cannot_be_compared(tmp_path):
    fakes.FakeRun(tmp_path).plan(["brick"], [0]).finish("", "brick", 0).write()
    with pytest.raises(InputError, match="is not a run directory"):
        comparison.combine(tmp_path)


def test_configs_of_baselines_have_names_that_are_folders_and_stay_apart():
    names = [tree.baseline_config(config, "hsc") for config in ("", "rate-0.1", "rate-0_1", "x" * 200)]
    assert len(set(names)) == 4 and names[0] == "hsc"
    assert all(len(name) < 100 and "." not in name for name in names)
