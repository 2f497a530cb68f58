"""FCDD and its baselines beside each other, from the files of two runs."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fcdd_sweep import cli
from fcdd_sweep.config.errors import InputError
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.compared_runs import ComparedConfig, ComparedGroup, group_of_runs
from fcdd_sweep.report.figures.heatmaps import read_maps
from fcdd_sweep.report.page import comparison, comparison_figures
from fcdd_sweep.report.run_files import read_run
from fcdd_sweep.results import tree
from fcdd_sweep.results.comparison_schemas import COMPARISONS
from fcdd_sweep.results.files import read_rows
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from tests import fakes

pytestmark = pytest.mark.slow

SEEDS = (0, 3)
BASELINES = {name: {"variant": name, "method": name} for name in tree.BASELINES}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "run"
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


@pytest.fixture
def run(written, tmp_path):
    """Two classes, two seeds; the AE of seed 3 of `tile` is missing."""
    return Path(shutil.copytree(written, tmp_path / "run"))


def test_one_picture_a_seed_and_one_a_class_show_all_methods(run):
    page = comparison.combine(run)
    folder = run / "baselines" / "combined"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    pictures = ("it_0.png", "it_3.png", "heatmaps.png")
    assert found == {f"normal_{name}/{picture}" for name in ("brick", "tile") for picture in pictures}
    text = page.read_text()
    assert "AE is not ranked: incomplete: 3 of 4 trials done, 1 missing." in text
    assert text.count("<small>incomplete</small>") == 5  # the mean of each of five metrics
    assert "tile, seed 3: AE is missing" in text
    assert text.count("data:image/jpeg") == 2


def test_rows_are_methods_and_all_show_the_same_images(run):
    maps = {
        method: read_maps(run / place / "normal_brick" / "it_0")
        for method, place in {"FCDD": ".", "HSC": "baselines/hsc", "AE": "baselines/ae"}.items()
    }
    chosen = comparison_figures.compared_images(list(maps.values()))
    strip = comparison_figures.member_strip(maps, chosen, "seed 0", 0.97)
    assert [row.name for row in strip.rows] == ["input", "FCDD", "HSC", "AE", "ground\ntruth"]
    label = maps["FCDD"].label[maps["FCDD"].rows_of(chosen)]
    assert [(label == value).sum() for value in (0, 1)] == [3, 6]
    rows = maps["AE"].rows_of(chosen)
    np.testing.assert_array_equal(strip.rows[3].images, maps["AE"].colored(rows, 0.97, "global"))


def test_a_method_that_is_not_there_has_an_empty_row_that_says_why(run):
    maps = read_maps(run / "normal_brick" / "it_0")
    chosen = comparison_figures.compared_images([maps])
    strip = comparison_figures.member_strip({"FCDD": maps, "HSC": "failed", "AE": maps}, chosen, "", 0.97)
    assert [row.name for row in strip.rows] == ["input", "FCDD", "HSC:\nfailed", "AE", "ground\ntruth"]
    assert len(np.unique(strip.rows[2].images)) == 1 and strip.rows[2].images.shape == strip.rows[0].images.shape
    with pytest.raises(ValueError, match="no member has heatmaps"):
        comparison_figures.member_strip({"FCDD": "missing", "AE": "failed"}, chosen, "", 0.97)


def test_failed_unplanned_and_unreadable_trials_are_told_apart(run):
    TrialPaths(run / "baselines" / "hsc" / "normal_brick" / "it_0").maps.unlink()
    baselines = read_run(run / "baselines")
    members = {"fcdd": ComparedConfig("FCDD", read_run(run), "")} | {
        name: ComparedConfig(name, baselines, name) for name in tree.BASELINES
    }
    group = ComparedGroup("", members)
    found = comparison_figures.maps_by_member(group, "brick", 0, problems := [])
    assert found["hsc"] == "unreadable" and problems == [
        "hsc/normal_brick/it_0 is not in the heatmap grid: maps.npz is missing"
    ]
    assert comparison_figures.maps_by_member(group, "tile", 3, [])["ae"] == "missing"
    assert comparison_figures.maps_by_member(group, "tile", 8, []) == dict.fromkeys(
        ("fcdd", "hsc", "ae"), "not planned"
    )


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
    assert "<td>training.momentum</td>" not in text
    experiment = RunPaths(run / "baselines").experiment
    experiment.write_text(VARIANTS.replace("training: {", "training: {momentum: 0.5, "))
    row = "<td>training.momentum</td><td><code>n/a</code></td><td><code>0.5</code></td><td><code>0.5</code></td>"
    assert row in comparison.combine(run).read_text().replace("\n", "")


def test_images_that_one_method_did_not_keep_are_not_chosen(run):
    maps = read_maps(run / "normal_brick" / "it_0")
    part = np.arange(len(maps.label)) % 2 == 0
    names = ("path", "label", "score")
    fewer = type(maps)(**{**vars(maps), **{name: getattr(maps, name)[part] for name in names}})
    chosen = comparison_figures.compared_images([maps, fewer])
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


@pytest.fixture
def runs(tmp_path):
    """Three runs; all trials of `long` but one diverged."""
    paths = []
    for name, wrong in (("fcdd", [1, 2, 3]), ("wide", [8, 10, 12]), ("long", [4])):
        made = fakes.FakeRun(tmp_path / "results" / name).plan(["brick"], range(3))
        for seed in range(3):
            if seed < len(wrong):
                made.finish("", "brick", seed, wrong=wrong[seed])
            else:
                made.fail("", "brick", seed, "DivergedError: the loss of epoch 1 is nan: training diverged")
        paths.append(made.write())
    return paths


def test_runs_are_compared_on_common_classes_and_seeds_and_the_diverged_is_never_ranked(
    runs, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(comparison, "draw_compared_class", lambda *_: None)  # as for baselines
    assert cli.main(["compare", *map(str, runs), "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "long is not ranked: incomplete: 1 of 3 trials done, 2 diverged." in said and "comparison.html" in said
    assert "use only what all" not in said
    rows = read_rows(tmp_path / "out" / "comparisons.parquet", COMPARISONS)
    found = {
        (row["first"], row["second"]): row
        for row in rows
        if (row["metric"], row["test"], row["normal_class"]) == ("image_auroc", "paired_t", None)
    }
    first = found["fcdd", "wide"]
    assert (first["n"], first["n_classes"], first["estimate"]) == (3, 1, pytest.approx(8 / 20))
    assert found["fcdd", "long"]["dropped"] == 2 and found["fcdd", "long"]["better"] is None
    table = list(csv.DictReader((tmp_path / "out" / "comparison.csv").open()))
    assert {(row["method"], row["shortfall"]) for row in table if row["shortfall"]} == {
        ("long", "incomplete: 1 of 3 trials done, 2 diverged")
    }
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "long is not ranked" in page and "<b>0.900 ± 0.050</b>" in page and "<b>0.800" not in page
    assert first["better"] == "fcdd"


def test_seeds_that_not_all_runs_planned_are_named_as_unused(runs, tmp_path, capsys):
    more = fakes.FakeRun(tmp_path / "results" / "more").plan(["brick"], range(5))
    for seed in range(5):
        more.finish("", "brick", seed, wrong=seed)
    said = run_output(["compare", str(runs[0]), str(more.write()), "--output", str(tmp_path / "out")], capsys)
    assert (
        "Tests, also those within one run, use only what all 2 planned: 3 of 5 pairs of class and seed "
        "(classes brick; seeds 0, 1, 2). Tables of means use each one's own."
    ) in said
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "3 of 5 pairs of class and seed" in page and "brick, seed 4: fcdd is not planned" in page


def run_output(arguments, capsys):
    assert cli.main(arguments) == 0
    return capsys.readouterr().out


def test_all_problems_of_the_runs_are_told_at_once(tmp_path, capsys):
    good = fakes.FakeRun(tmp_path / "good").plan(["brick"], [0]).write()
    (tmp_path / "empty").mkdir()
    assert cli.main(["compare", str(good), str(good), str(tmp_path / "empty")]) == 2
    said = capsys.readouterr().err
    assert "is named twice" in said and "is not a run directory" in said
    assert cli.main(["compare", str(good)]) == 2
    assert "found 1 run. Allowed: two or more run directories" in capsys.readouterr().err


def test_data_that_is_not_the_same_is_named(runs):
    group = group_of_runs([read_run(path) for path in runs])
    assert list(group.members) == ["fcdd", "wide", "long"] and comparison.data_notes(group) == []
    for trial in group.members["wide"].trials:
        trial.metrics["data_fingerprint"] = "other"
    for trial in group.members["fcdd"].trials:
        trial.metrics["data_fingerprint"] = "own"
    assert comparison.data_notes(group) == ["The data of brick is not the same in fcdd and wide."]
    for trial in group.members["wide"].trials:
        trial.metrics["device_numerics"] = "cuda 1"
    assert "The trials ran on devices that give other numbers: " in comparison.data_notes(group)[1]


def test_the_mean_is_that_over_the_classes_that_all_have(runs, tmp_path):
    wide = fakes.FakeRun(tmp_path / "more").plan(["brick", "tile"], [0])
    wide.finish("", "brick", 0, wrong=1).finish("", "tile", 0, wrong=9)
    group = group_of_runs([read_run(wide.write()), read_run(runs[0])])
    assert group.classes == ["brick", "tile"] and group.common_classes == ["brick"]
    found = comparison.comparison_table([group]).to_pylist()
    assert [(row["method"], row["normal_class"]) for row in found] == [
        ("more", "brick"),
        ("more", "tile"),
        ("fcdd", "brick"),
    ]


def test_runs_of_equal_names_are_told_apart_by_their_folders(tmp_path):
    paths = [fakes.FakeRun(tmp_path / parent / "run").plan(["brick"], [0]).write() for parent in "ab"]
    assert list(group_of_runs(list(map(read_run, paths))).members) == [path.as_posix() for path in paths]
