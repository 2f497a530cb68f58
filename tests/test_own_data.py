"""Whole runs on data that users place: their own folders with people's habits, and MVTec-AD's layout."""

import pytest

from fcdd_sweep import cli
from fcdd_sweep.results import files, tree
from tests.trees import write_class_first, write_habits, write_mvtec, write_one_vs_rest, write_split_first

SMALL = ["images.raw_size=40", "images.size=32", "network.name=FCDD_CNN32_S", "training.epochs=1", "seeds=1"]


@pytest.fixture
def run(tmp_path, capsys):
    """Run an experiment file on a tree; gives the rows of `trials.parquet` by class."""

    def go(preset, root, *overrides):
        path = tmp_path / "own.yaml"
        path.write_text(f"schema: 1\nname: own\npreset: {preset}\n")
        settings = [*SMALL, "training.batch_size=8", f"dataset.root={root}", *overrides]
        arguments = [str(path), "--local", "--output", str(tmp_path / "results")]
        code = cli.main([*arguments, *(part for each in settings for part in ("--set", each))])
        assert code == 0, capsys.readouterr().err
        rows = files.read_table(tmp_path / "results" / "own" / tree.TRIALS).to_pylist()
        return {row["normal_class"]: row for row in rows}

    return go


def test_a_tree_with_people_s_habits_runs(run, tmp_path):
    rows = run("folder", write_habits(tmp_path / "parts"), "training.supervision=maps")
    assert len(rows) >= 2 and all(row["status"] == "done" for row in rows.values())
    without = [row for row in rows.values() if row["n_test_anomalous"] == 0]
    assert without and all(row["image_auroc"] is None for row in without)
    assert any(row["image_auroc"] is not None for row in rows.values())


def test_own_maps_give_pixel_figures(run, tmp_path):
    root = write_split_first(tmp_path / "parts", maps=True)
    rows = run("folder", root, "training.supervision=maps")
    assert all(row["pixel_auroc"] is not None and row["n_test_maps"] > 0 for row in rows.values())


def test_one_folder_a_class_is_one_vs_rest(run, tmp_path):
    rows = run("folder", write_one_vs_rest(tmp_path / "animals", split=False), "anomalies={mode: other, limit: 2}")
    assert {"cat", "dog", "owl"} == set(rows)
    assert all(row["n_train_anomalous"] == 2 for row in rows.values())


def test_outlier_exposure_from_another_data_set(run, tmp_path):
    exposed = "anomalies={mode: noise, source: {dataset: digits}, limit: 7}"
    rows = run("folder", write_class_first(tmp_path / "parts"), exposed, "images.color=grey")
    assert all(row["n_train_anomalous"] == 7 for row in rows.values())


@pytest.mark.parametrize("mode", ["malformed_normal", "malformed_normal_gt"])
def test_mvtec_trains_and_is_tested_on_maps(run, tmp_path, mode):
    rows = run(
        "mvtec",
        write_mvtec(tmp_path / "mvtec"),
        "dataset.classes=[bottle, carpet]",
        f"anomalies.mode={mode}",
        "training.passes_per_epoch=2",
    )
    assert set(rows) == {"bottle", "carpet"}
    assert all(row["pixel_auroc"] is not None and row["n_test_maps"] == 6 for row in rows.values())
