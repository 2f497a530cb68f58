"""Figures of one trial."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from fcdd_sweep.config.schema import Heatmaps
from fcdd_sweep.report.class_scores import trial_of_leaf
from fcdd_sweep.report.figures import roc
from fcdd_sweep.report.figures.trial_figures import draw_trial
from fcdd_sweep.results.files import read_arrays, write_arrays
from fcdd_sweep.results.tree import TrialPaths
from tests import fakes

DISPLAY = Heatmaps(color_quantile=0.97)
PICTURES = {
    "ds_preview.png",
    "loss.pdf",
    "roc_curve.pdf",
    "scores.pdf",
    "heatmaps_global.png",
    "train_heatmaps_global.png",
    *(f"heatmaps_paper_{scale}_lbl{label}.png" for scale in ("local", "global") for label in (0, 1)),
}


@pytest.mark.slow
def test_a_leaf_is_drawn_from_its_own_files_before_its_metrics_are_there(leaf):
    TrialPaths(leaf).metrics.unlink(missing_ok=True)
    draw_trial(trial_of_leaf(leaf), DISPLAY)
    assert {path.name for path in leaf.iterdir() if path.suffix in (".png", ".pdf")} == PICTURES
    with Image.open(leaf / "heatmaps_paper_global_lbl1.png") as picture:
        assert picture.width > 1300 and picture.info["dpi"][0] == pytest.approx(200, abs=1)


@pytest.mark.slow
def test_several_threads_draw_at_once(tmp_path):
    folders = [tmp_path / str(i) for i in range(2)]
    for seed, folder in enumerate(folders):
        fakes.write_leaf(folder, fakes.key("", "brick", seed), size=16)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda folder: draw_trial(trial_of_leaf(folder), DISPLAY), folders))
    assert all(PICTURES <= {path.name for path in folder.iterdir()} for folder in folders)


@pytest.mark.slow
def test_a_test_set_without_anomalies_leaves_their_pictures_out(tmp_path):
    fakes.write_leaf(tmp_path, fakes.key("", "clean", 0), anomalous=0)
    (tmp_path / "heatmaps_paper_local_lbl1.png").write_bytes(b"of an earlier drawing")
    draw_trial(trial_of_leaf(tmp_path), DISPLAY)
    assert {path.name for path in tmp_path.iterdir() if path.suffix == ".png"} == {
        "ds_preview.png",
        "heatmaps_global.png",
        "train_heatmaps_global.png",
        "heatmaps_paper_local_lbl0.png",
        "heatmaps_paper_global_lbl0.png",
    }
    assert roc.trial_roc({}).absent == ("undefined: the test set has one label only",)


@pytest.mark.slow
def test_gray_images_without_maps_are_drawn(tmp_path):
    fakes.write_leaf(tmp_path, fakes.key("", "brick", 0), with_maps=False)
    arrays = read_arrays(TrialPaths(tmp_path).maps)
    gray = {name: arrays[name][:, :1] for name in ("images", "train_images")}
    write_arrays(TrialPaths(tmp_path).maps, arrays | gray)
    draw_trial(trial_of_leaf(tmp_path), DISPLAY)
    assert {path.name for path in tmp_path.iterdir() if path.suffix in (".png", ".pdf")} == PICTURES
