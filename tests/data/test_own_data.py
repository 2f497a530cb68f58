"""Whole runs on data that users place: their own folders with people's habits, and MVTec-AD's layout."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from fcdd_sweep import cli
from fcdd_sweep.planning.plan import plan_file
from fcdd_sweep.results import files, tree
from fcdd_sweep.runners.trial_data import corpus_of
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.trainer import train
from tests.formats import write_cifar100, write_emnist, write_mnist, write_voc
from tests.trees import (
    write_class_first,
    write_habits,
    write_mask,
    write_mvtec,
    write_one_vs_rest,
    write_split_first,
)

pytestmark = pytest.mark.slow

SMALL = [
    "images.load_size=40",
    "images.size=32",
    "network.name=FCDD_CNN32_S",
    "training.epochs=1",
    "training.min_steps=0",
    "seeds=1",
]


@pytest.fixture
def run(tmp_path, capsys):
    """Run an experiment file on a tree; gives the rows of `trials.parquet` by class."""

    def go(preset, root, *overrides):
        path = tmp_path / "own.yaml"
        path.write_text(f"schema: 2\nname: own\npreset: {preset}\n")
        settings = [*SMALL, "training.batch_size=8", f"dataset.root={root}", *overrides]
        arguments = [str(path), "--local", "--output", str(tmp_path / "results")]
        code = cli.main([*arguments, *(part for each in settings for part in ("--set", each))])
        assert code == 0, capsys.readouterr().err
        (trials,) = (tmp_path / "results").glob(f"*/{tree.TRIALS}")
        rows = files.read_table(trials).to_pylist()
        shutil.rmtree(tmp_path / "results")
        return {row["normal_class"]: row for row in rows}

    return go


def test_a_tree_with_people_s_habits_runs(run, tmp_path):
    rows = run("folder", write_habits(tmp_path / "parts"))
    assert len(rows) >= 2 and all(row["status"] == "done" for row in rows.values())
    without = [row for row in rows.values() if row["n_test_anomalous"] == 0]
    assert without and all(row["image_auroc"] is None for row in without)
    assert any(row["image_auroc"] is not None for row in rows.values())


@pytest.mark.filterwarnings("error:Glyph", "error:constrained_layout")
def test_names_of_any_kind_run_through_to_the_report(run, tmp_path):
    names = {os.fsdecode(b"gr\xfcn"): r"gr\xfcn", "zwei\nzeilen": r"zwei\nzeilen", "零件": "零件", "x" * 249: "x" * 249}
    rows = run("folder", write_class_first(tmp_path / "parts", tuple(names)))
    assert set(rows) == set(names.values())
    assert all(row["status"] == "done" for row in rows.values())
    assert rows["零件"]["leaf"] == "normal_零件/it_0"


def test_own_maps_give_pixel_figures(run, tmp_path):
    root = write_split_first(tmp_path / "parts", maps=True)
    rows = run("folder", root)
    assert all(row["pixel_auroc"] is not None and row["n_test_maps"] > 0 for row in rows.values())


@pytest.mark.parametrize(("method", "network"), [("hsc", "CNN32"), ("ae", "AE32")])
def test_baselines_see_all_of_the_images_whose_maps_they_are_measured_by(tmp_path, method, network):
    """The preset's photographs are cropped without maps; the defect is at the rim, which a crop would leave out."""
    root = write_split_first(tmp_path / "parts", ("bolt",))
    for path in sorted((root / "test" / "bolt" / "anomalous").iterdir()):
        picture = np.zeros((40, 40), np.uint8)
        picture[:4] = 255
        Image.fromarray(picture).save(path)
        mask = root / "test_maps" / "bolt" / "anomalous" / path.name
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(mask)
    overrides = [
        f"method={method}",
        f"network.name={network}",
        "anomalies={mode: unsupervised}",
        "images.resize=nearest",
    ]
    path = tmp_path / "own.yaml"
    path.write_text("schema: 2\nname: own\npreset: folder\n")
    (spec,) = plan_file(path, [*SMALL, "training.batch_size=8", f"dataset.root={root}", *overrides])[1].specs
    maps = train(spec, TrialData(corpus_of(spec.settings))).maps
    anomalous = maps["label"] == 1
    np.testing.assert_array_equal(maps["images"][anomalous, 0] > 0, maps["gt_maps"][anomalous] > 0)


def test_one_folder_a_class_is_one_vs_rest(run, tmp_path):
    rows = run("folder", write_one_vs_rest(tmp_path / "animals", split=False), "anomalies={mode: other, limit: 2}")
    assert {"cat", "dog", "owl"} == set(rows)
    assert all(row["n_train_anomalous"] == 2 for row in rows.values())


def test_training_anomalies_of_each_class_are_trained_on(run, tmp_path):
    rows = run("folder", write_class_first(tmp_path / "parts"), "anomalies={mode: other}")
    assert {name: row["n_train_anomalous"] for name, row in rows.items()} == {"bolt": 1, "nut": 1}


def test_training_anomalies_with_maps_are_trained_on_by_pixel(run, tmp_path):
    root = write_class_first(tmp_path / "parts", ("bolt",))
    write_mask(root / "bolt" / "train_maps" / "anomalous" / "000.png")
    rows = run("folder", root, "anomalies={mode: other}")
    assert rows["bolt"]["n_train_anomalous"] == 1 and rows["bolt"]["n_test_maps"] == 2


def test_a_class_without_training_anomalies_is_reported_before_any_trial(tmp_path, capsys):
    root = write_class_first(tmp_path / "parts")
    shutil.rmtree(root / "nut" / "train" / "anomalous")
    (tmp_path / "own.yaml").write_text("schema: 2\nname: own\npreset: folder\n")
    wanted = ["--set", f"dataset.root={root}", "--set", "anomalies={mode: other}"]
    assert cli.main([str(tmp_path / "own.yaml"), "--dry-run", *wanted]) == 2
    reported = capsys.readouterr().err
    assert "mode 'other' needs anomalies in the training split, and it has none of nut. Add some, or" in reported
    assert cli.main([str(tmp_path / "own.yaml"), "--dry-run", *wanted, "--set", "dataset.classes=[bolt]"]) == 0


def test_one_class_alone_is_trained_without_anomalies(run, tmp_path):
    rows = run("folder", write_one_vs_rest(tmp_path / "animals", ("cat",)), "anomalies={mode: unsupervised}")
    assert rows["cat"]["status"] == "done" and rows["cat"]["image_auroc"] is None


def test_clothes_are_trained_with_photographs_and_letters_as_outlier_exposure(run, tmp_path):
    root = write_cifar100(write_emnist(write_mnist(tmp_path / "data", "FashionMNIST")))
    for source in ("cifar100", "emnist"):
        exposed = f"anomalies={{mode: noise, limit: 3, source: {{dataset: {source}, root: {root}}}}}"
        rows = run("digits", root, "dataset.name=fmnist", "dataset.classes=[t-shirt/top]", exposed, f"name={source}")
        assert rows["t-shirt/top"]["n_train_anomalous"] == 3
        assert (rows["t-shirt/top"]["n_test_nominal"], rows["t-shirt/top"]["n_test_anomalous"]) == (2, 2)


def test_a_run_downloads_what_is_missing_and_says_so(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(datasets, "MNIST", lambda root, **settings: write_mnist(Path(root)))
    root = tmp_path / "new"
    rows = run(
        "digits", root, "dataset.name=mnist", "dataset.download=true", "dataset.classes=['0']", "anomalies.limit=2"
    )
    assert rows["0"]["n_train"] == 3 and rows["0"]["n_train_anomalous"] == 2
    printed = capsys.readouterr().out
    assert "will be downloaded into that folder" in printed and f"downloading 'mnist' into {root}" in printed


def test_horses_are_trained_on_the_images_with_any_horse(run, tmp_path):
    root = write_voc(tmp_path / "data")
    rows = run("folder", root, "dataset.name=pascalvoc", "dataset.classes=[horse]")
    assert rows["horse"]["n_train"] == 2
    assert (rows["horse"]["n_test_nominal"], rows["horse"]["n_test_anomalous"]) == (2, 1)


def test_outlier_exposure_from_another_data_set(run, tmp_path):
    exposed = "anomalies={mode: noise, source: {dataset: digits}, limit: 7}"
    rows = run("folder", write_class_first(tmp_path / "parts"), exposed, "images.color=gray")
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
