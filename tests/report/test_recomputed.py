"""Leaves of an earlier version get the figures that their kept files allow, and keep their tables as they are."""

import dataclasses
import json

import numpy as np
import pytest

from fcdd_sweep import Run
from fcdd_sweep.metrics import pixel_figures as figures
from fcdd_sweep.metrics.ranking import rank
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.report.recomputed import lacking_note, recompute, with_recomputed
from fcdd_sweep.report.run_files import read_run
from fcdd_sweep.report.tables import summary_markdown
from fcdd_sweep.results import schemas, tree
from fcdd_sweep.results.files import read_arrays, read_table, write_arrays, write_rows, write_table
from fcdd_sweep.results.tree import TrialPaths
from tests import fakes
from tests.fakes import FakeRun
from tests.pixel_oracles import Picture, slow_image_figures, slow_regions

TABLES = {tree.METRICS: schemas.METRICS, tree.SCORES: schemas.SCORES, tree.DEFECTS: schemas.DEFECTS}


def later_columns(schema):
    return [field.name for field in schema if b"later" in field.metadata]


def old_run(path, *, keep="all"):
    """A run of one trial as an earlier version left it: its tables lack all columns on heatmaps."""
    run = FakeRun(path).plan(["brick"], [0]).finish("", "brick", 0, wrong=2).write()
    leaf = run / "normal_brick/it_0"
    paths = TrialPaths(leaf)
    (row,) = read_table(paths.metrics).to_pylist()
    row |= {"n_test_maps": fakes.N_NOMINAL + fakes.N_ANOMALOUS, "pixel_threshold": 0.6, "image_score_source": ""}
    write_rows(paths.metrics, [row], schemas.METRICS)
    if keep == "shown":
        arrays = read_arrays(paths.maps)
        kept = {k: v[1:] if len(v.shape) and len(v) == len(arrays["label"]) else v for k, v in arrays.items()}
        write_arrays(paths.maps, kept)
    for name, schema in TABLES.items():
        write_table(leaf / name, read_table(leaf / name).drop_columns(later_columns(schema)))
    return run, leaf


def heat_of(leaf):
    maps = read_arrays(TrialPaths(leaf).maps)
    place = fakes.MapGeometry(fakes.FIELD, maps["gt_maps"].shape[1:], 2.0, 1)
    return place.heatmaps(maps["anomaly_maps"]), maps["gt_maps"], maps["label"]


def test_kept_maps_give_an_old_leaf_its_figures_and_its_tables_stay(tmp_path, monkeypatch):
    run, leaf = old_run(tmp_path / "r")
    before = {path.name: path.read_bytes() for path in leaf.glob("*.parquet")}
    assert "aggregate r" in lacking_note(read_run(run)) and "1 trial of an earlier" in lacking_note(read_run(run))
    aggregate(run)
    assert {path.name: path.read_bytes() for path in leaf.glob("*.parquet")} == before
    (row,) = read_table(run / "trials.parquet").to_pylist()
    heat, gt_maps, label = heat_of(leaf)
    by_pixel = rank(heat.ravel(), gt_maps.ravel())
    assert row["pixel_f1_max_oracle"] == pytest.approx(by_pixel.f1_max())
    assert row["pixel_precision_at_95_recall"] == pytest.approx(by_pixel.precision_at_recall(0.95))
    above = heat > row["pixel_threshold"]
    true, false = np.sum(above & (gt_maps > 0)), np.sum(above & (gt_maps == 0))
    assert 0 < row["pixel_f1"] == pytest.approx(2 * true / (true + false + gt_maps.sum()))
    pictures = [Picture(h, gt, 1) for h, gt, value in zip(heat, gt_maps, label, strict=True) if value]
    _, hits, heats = np.transpose([slow_image_figures(picture) for picture in pictures])
    assert row["pointing_game"] == pytest.approx(hits.mean()) and row["heat_in_mask"] == pytest.approx(heats.mean())
    assert row["n_test_regions"] == sum(len(slow_regions(picture.mask)) for picture in pictures)
    assert 0 < row["pixel_aupro_05"] < row["pixel_aupro_30"] <= 1 and row["pixel_resolution"] == "32x32"
    assert row["pixel_aupro_30_full"] is None and row["precision_at_95_recall"] is not None
    (trial,) = with_recomputed(read_run(run)).trials
    note = lacking_note(with_recomputed(read_run(run)))
    assert "1 trial of an earlier version lack figures at the resolution" in note and "--set name=" in note
    by_image = Run(run).scores().set_index("image_index").sort_index()
    anomalous = by_image[by_image.label == 1]
    np.testing.assert_allclose(anomalous.pointing_hit, hits)
    np.testing.assert_allclose(anomalous.heat_in_mask, heats)
    np.testing.assert_allclose(anomalous.defect_share, [picture.mask.mean() for picture in pictures])
    assert anomalous.aupimo.notna().all() == (row["pixel_aupimo"] is not None)
    assert by_image[by_image.label == 0].pointing_hit.isna().all()
    hits_by_type = {row["defect"]: row["pointing_game"] for row in trial.defects}
    assert hits_by_type == {"stain": pytest.approx(hits[::2].mean()), "hole": pytest.approx(hits[1::2].mean())}
    kept = (leaf / "recomputed.json").read_bytes()
    monkeypatch.setattr(figures, "region_overlap", lambda *_, **__: pytest.fail("computed again"))
    recompute(read_run(run))
    assert (leaf / "recomputed.json").read_bytes() == kept
    assert (
        "AUPRO .3" in (run / "report.html").read_text() and "pixel_aupro_30_mean" in (run / "summary.csv").read_text()
    )


def test_a_leaf_that_kept_shown_images_only_stays_without_figures_and_the_report_says_so(tmp_path):
    run, leaf = old_run(tmp_path / "r", keep="shown")
    found = recompute(read_run(run))
    (trial,) = found.trials
    assert trial.metrics["pixel_aupro_30"] is None and trial.metrics["precision_at_95_recall"] is not None
    sentence = "1 trial of an earlier version lack figures on heatmaps (n/a): run `aggregate r`"
    assert sentence in summary_markdown(found)
    assert json.loads((leaf / "recomputed.json").read_text())["metrics"].keys() == {"precision_at_95_recall"}


def test_maps_that_lost_pixels_of_the_ground_truth_give_no_figures(tmp_path):
    """The leaf's own pixel AUROC was measured on larger maps: on the kept ones it would be another."""
    run, leaf = old_run(tmp_path / "r")
    arrays = read_arrays(TrialPaths(leaf).maps)
    arrays["gt_maps"][-1] = 1 - arrays["gt_maps"][-1]
    write_arrays(TrialPaths(leaf).maps, arrays)
    assert recompute(read_run(run)).trials[0].metrics["pixel_aupro_30"] is None
    TrialPaths(leaf).maps.write_bytes(b"PK nonsense")
    assert recompute(read_run(run)).trials[0].metrics["pixel_aupro_30"] is None


def test_a_changed_rate_gives_the_f1_at_the_new_threshold_or_none(tmp_path):
    run, leaf = old_run(tmp_path / "r")
    trial = recompute(read_run(run)).trials[0]
    changed = dataclasses.replace(trial, metrics=trial.metrics | {"pixel_threshold": 0.2, "pixel_f1": None})
    (other,) = recompute(dataclasses.replace(read_run(run), trials=(changed,))).trials
    heat, gt_maps, _ = heat_of(leaf)
    true = np.sum((heat > 0.2) & (gt_maps > 0))
    assert other.metrics["pixel_f1"] == pytest.approx(2 * true / (np.sum(heat > 0.2) + gt_maps.sum()))
    assert other.metrics["pixel_f1"] != trial.metrics["pixel_f1"]
    (again,) = with_recomputed(read_run(run)).trials  # what was kept is of the other threshold
    assert again.metrics["pixel_f1"] is None and again.metrics["pixel_aupro_30"] is not None
    assert recompute(read_run(run)).trials[0].metrics == trial.metrics


def test_a_record_of_another_trial_or_a_damaged_one_is_not_used(tmp_path):
    run, leaf = old_run(tmp_path / "r")
    recompute(read_run(run))
    record = json.loads((leaf / "recomputed.json").read_text())
    for text in (json.dumps(record | {"made_for": {"trial_id": "another"}}), "{", "[]", ""):
        (leaf / "recomputed.json").write_text(text)
        assert with_recomputed(read_run(run)).trials[0].metrics["pixel_aupro_30"] is None, text


def test_columns_that_were_added_later_are_null_and_others_are_missed(tmp_path):
    run, leaf = old_run(tmp_path / "r")
    assert len(later_columns(schemas.METRICS)) == 35 and "pixel_ap" in later_columns(schemas.DEFECTS)
    (trial,) = read_run(run).trials
    assert trial.is_done and trial.metrics["pixel_aupimo"] is None
    table = read_table(TrialPaths(leaf).metrics)
    write_table(TrialPaths(leaf).metrics, table.drop_columns(["pixel_ap"]))
    assert "lacks the columns pixel_ap" in read_run(run).problems[0]
