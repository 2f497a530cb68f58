"""Heatmap figures: which images they show, and in which colors."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fcdd_sweep.metrics import heatmap_values, shown_images
from fcdd_sweep.metrics.heatmap_values import gaussian_kernel, upsample
from fcdd_sweep.report import class_scores
from fcdd_sweep.report.figures import heatmaps, image_grid
from fcdd_sweep.report.figures.color_maps import as_colors
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.tree import TrialPaths
from tests import fakes
from tests.report.figures.test_image_grid import written_on


def test_blurred_pictures_show_smoothed_heatmaps_with_the_colors_of_blurred_references(leaf):
    plain, blurred = heatmaps.read_maps(leaf), heatmaps.read_maps(leaf, blurred=True)
    rows = np.arange(len(plain.label))
    smooth = blurred.heatmaps(rows)
    kernel = gaussian_kernel(15, 2.0)  # a receptive field of 16 px, an even size counting as one less
    inner = np.einsum("i,j,nij->n", kernel, kernel, plain.heatmaps(rows)[:, 8:23, 8:23]) / kernel.sum() ** 2
    np.testing.assert_allclose(smooth[:, 15, 15], inner, rtol=1e-4)
    assert blurred.reference_quantiles[-1] < plain.reference_quantiles[-1]
    assert not np.array_equal(plain.colored(rows, 0.97, "global"), blurred.colored(rows, 0.97, "global"))


def test_paper_pictures_choose_among_all_test_images(leaf):
    maps, scores = heatmaps.read_maps(leaf), class_scores.read_seed_scores(class_scores.trial_of_leaf(leaf))
    assert len(scores.label) == fakes.N_NOMINAL + fakes.N_ANOMALOUS > len(maps.label) - 10
    (strip,) = heatmaps.paper_strips(maps, scores, 1, 0.97, "global")
    expected = scores.score[shown_images.equidistant(scores.label, scores.score, 1)]
    assert strip.captions == tuple(f"{score:.3g}" for score in expected)
    assert [row.name for row in strip.rows] == ["input", "heatmap", "overlay", "ground\ntruth"]


def test_held_out_scores_do_not_enter_the_pictures(leaf):
    assert "bricks/7000" not in class_scores.read_seed_scores(class_scores.trial_of_leaf(leaf)).path


def test_maps_join_scores_by_image_number_not_by_position(leaf):
    maps = heatmaps.read_maps(leaf)
    turned = replace(maps, **{name: getattr(maps, name)[::-1] for name in ("path", "score", "images", "label")})
    wanted = maps.path[[4, 0, 9]]
    np.testing.assert_array_equal(turned.score[turned.rows_of(wanted)], maps.score[[4, 0, 9]])
    with pytest.raises(ValueError, match=r"does not hold test image bricks/99999 \(1 of them"):
        maps.rows_of(np.array([wanted[0], "bricks/99999"]))


def test_global_colors_share_a_range_and_local_ones_do_not(leaf):
    maps = heatmaps.read_maps(leaf)
    rows = np.array([0, len(maps.label) - 1])
    raw = upsample(maps.anomaly_maps[rows], fakes.FIELD, (32, 32), 2.0)
    low, high = maps.reference_quantiles[0], maps.reference_quantiles[970]
    shared = as_colors(np.clip((raw - low) / (high - low), 0, 1))
    difference = np.abs(maps.colored(rows, 0.97, "global").astype(int) - shared)
    assert difference.max() <= 4
    own = np.stack([heatmap_values.normalize(each, *heatmap_values.local_range(each, 0.97)) for each in raw])
    np.testing.assert_array_equal(maps.colored(rows, 0.97, "local"), as_colors(own))
    assert (shared[0] != maps.colored(rows, 0.97, "local")[0]).any()


def test_the_overview_shows_first_and_extreme_images_of_each_label(leaf):
    strips = heatmaps.overview_strips(
        heatmaps.read_maps(leaf), class_scores.read_seed_scores(class_scores.trial_of_leaf(leaf)), 0.97
    )
    assert [strip.columns for strip in strips] == [20, 20, 20, 20]
    scores = [float(caption) for caption in strips[2].captions]
    assert scores == sorted(scores) and scores[0] == 0.1 and scores[-1] == 0.5


def test_preview_shows_twenty_of_each_label_with_maps_for_anomalous_ones(leaf):
    strips = heatmaps.preview_strips(heatmaps.read_training_maps(leaf))
    assert [strip.columns for strip in strips] == [10] * 4
    assert [len(strip.rows) for strip in strips] == [1, 1, 2, 2]
    assert strips[2].rows[1].images.max() == 255


def test_class_grids_show_images_that_all_seeds_kept(leaf):
    maps = heatmaps.read_maps(leaf)
    part = np.flatnonzero(np.arange(len(maps.label)) % 2 == 0)
    names = ("path", "label", "score", "anomaly_maps", "images", "gt_maps")
    other = replace(maps, **{name: getattr(maps, name)[part] for name in names})
    (strip,) = heatmaps.class_strips([("seed 0", maps), ("seed 4", other)], 0.97)
    assert [row.name for row in strip.rows] == ["input", "seed 0", "seed 4", "ground\ntruth"]
    assert strip.columns == 8
    np.testing.assert_array_equal(strip.rows[1].images, strip.rows[2].images)
    nothing = replace(maps, path=np.char.add(maps.path, "x"))
    assert heatmaps.class_strips([("seed 0", maps), ("seed 1", nothing)], 0.97) == []


def test_training_samples_that_are_anomalous_throughout_say_so(leaf, monkeypatch):
    trained = heatmaps.read_training_maps(leaf)
    assert heatmaps.training_note(trained) == "Shown in the images' own colors: the network's normalization is undone."
    whole = trained.gt_maps.copy()
    whole[20] = 2
    marked = replace(trained, gt_maps=whole, shared_range=np.array(True))
    strip = heatmaps.preview_strips(marked)[2]
    assert strip.rows[1].marks == ("all\nanomalous", *[""] * 9)
    note = heatmaps.training_note(marked)
    assert "all samples here share one range" in note and note.endswith("trained as anomalous in every pixel.")
    written = written_on(monkeypatch, image_grid, [strip], note=note)
    words = [text for text, *_ in written]
    assert words.count("all") == words.count("anomalous") == 1 and " ".join(words).endswith("every pixel.")


def test_test_images_without_a_map_are_marked_too(leaf):
    maps = heatmaps.read_maps(leaf)
    row = int(np.flatnonzero(maps.label == 1)[0])
    bare = maps.gt_maps.copy()
    bare[row] = 2
    strip = heatmaps.strip_of(replace(maps, gt_maps=bare), np.array([0, row]), 0.97, "global", "")
    assert strip.rows[2].marks == ("", "no map")


def test_overlays_are_half_of_each_with_the_contour_of_the_ground_truth(leaf):
    maps = heatmaps.read_maps(leaf)
    rows = np.flatnonzero(maps.label == 1)[:2]
    plain = heatmaps.strip_of(maps, rows, 0.97, "global", "")
    overlay = heatmaps.overlaid(plain, maps, rows).rows[2].images
    size, large = maps.images.shape[-1], overlay.shape[1]
    inside = maps.gt_maps[rows].repeat(large // size, 1).repeat(large // size, 2) == 1
    half = (plain.rows[0].images.astype(int) + plain.rows[1].images) // 2
    large_half = half.repeat(large // size, 1).repeat(large // size, 2)
    contour = (overlay == (0, 229, 255)).all(-1)
    np.testing.assert_array_equal(overlay[~contour], large_half[~contour])
    assert contour.any() and not (contour & ~inside).any()
    assert contour.sum() < 0.5 * inside.sum()  # an outline, not an area


def decided(leaf, column, threshold):
    """The trial of a leaf whose images are scored by a column and called anomalous above a threshold."""
    trial = class_scores.trial_of_leaf(leaf)
    metrics = trial.metrics | {"image_score": column, "threshold": threshold}
    return replace(trial, metrics=metrics, rescored=column != "score_mean")


@pytest.mark.parametrize(("column", "factor"), [("score_max", 2.0), ("score_top_1", 1.6)])
def test_marks_are_by_whichever_image_score_is_in_use(leaf, column, factor):
    trial = decided(leaf, column, 0.7 * factor)
    kept, scores = heatmaps.read_maps(leaf), class_scores.read_seed_scores(trial)
    maps = heatmaps.scored_anew(kept, trial)
    np.testing.assert_allclose(maps.score, factor * kept.score)
    (strip,) = heatmaps.paper_strips(maps, scores, 1, 0.97, "global")
    values = [float(caption.split()[0]) for caption in strip.captions]
    marked = [caption.endswith(heatmaps.ABOVE) for caption in strip.captions]
    assert marked == [value > 0.7 * factor for value in values] and True in marked and False in marked


def test_p_values_that_decide_have_marks_without_a_threshold(leaf):
    maps, scores = heatmaps.read_maps(leaf), class_scores.read_seed_scores(decided(leaf, "score_mean", 0.7))
    (strip,) = heatmaps.paper_strips(maps, replace(scores, threshold=None), 1, 0.97, "global")
    assert strip.title.endswith(f"{heatmaps.ABOVE} called anomalous")
    assert [caption.endswith(heatmaps.ABOVE) for caption in strip.captions].count(True) > 0


@pytest.mark.parametrize(("kept", "level"), [({"p_value_level": 0.07}, 0.07), ({}, 0.04)])
def test_a_changed_rate_of_several_models_reaches_the_pictures(leaf, kept, level):
    """Earlier files of decisions have no level: then it is the one that the leaf was written with."""
    paths = TrialPaths(leaf)
    (row,) = files.read_rows(paths.metrics, schemas.METRICS)
    files.write_rows(paths.metrics, [row | {"p_value_level": 0.04}], schemas.METRICS)
    record = {name: row[name] for name in ("trial_id", "threshold", "pixel_threshold")}
    record |= {"image_score": "mean", "image_score_source": "", "false_alarm_rate": 0.1, "n_calibration": 0}
    paths.decision.write_text(json.dumps(record | {"threshold_source": ""} | kept))
    assert class_scores.trial_of_leaf(leaf).metrics["p_value_level"] == level


def test_scores_above_the_threshold_are_marked_and_the_title_names_it(leaf):
    maps, scores = heatmaps.read_maps(leaf), class_scores.read_seed_scores(decided(leaf, "score_mean", 0.7))
    (strip,) = heatmaps.paper_strips(maps, scores, 1, 0.97, "global")
    marked = [caption.endswith(heatmaps.ABOVE) for caption in strip.captions]
    values = [float(caption.split()[0]) for caption in strip.captions]
    assert marked == [value > 0.7 for value in values] and True in marked and False in marked
    assert strip.title.endswith("above 0.7")


def test_heatmaps_that_disagree_with_the_decision_are_marked_and_the_note_says_what_the_mark_means(leaf):
    trial = decided(leaf, "score_mean", 0.7)
    trial.metrics["pixel_threshold"] = 0.9  # the largest heatmap value is twice the score: see fakes.score_columns
    maps, scores = heatmaps.read_maps(leaf), class_scores.read_seed_scores(trial)
    np.testing.assert_array_equal(scores.disagrees, (scores.score > 0.7) != (2 * scores.score > 0.9))
    strips = [*heatmaps.paper_strips(maps, scores, 1, 0.97, "global"), *heatmaps.overview_strips(maps, scores, 0.97)]
    seen = set()
    for caption in (caption for strip in strips for caption in strip.captions):
        value, *marks = caption.split()
        expected = heatmaps.ABOVE * (float(value) > 0.7) + heatmaps.DISAGREES * (0.45 < float(value) <= 0.7)
        assert "".join(marks) == expected
        seen.add(expected)
    assert seen == {"", heatmaps.ABOVE, heatmaps.DISAGREES}
    assert heatmaps.disagreement_note(scores).startswith(f"{heatmaps.DISAGREES} the heatmap disagrees: ")
    without = class_scores.read_seed_scores(decided(leaf, "score_mean", 0.7))
    assert without.disagrees is None and heatmaps.disagreement_note(without) == ""


def test_an_anomalous_image_without_a_region_has_both_marks(leaf):
    trial = decided(leaf, "score_mean", 0.7)
    trial.metrics["pixel_threshold"] = 1.6
    marks = heatmaps.decision_marks(class_scores.read_seed_scores(trial))
    assert set(marks) == {"", heatmaps.ABOVE, heatmaps.ABOVE + heatmaps.DISAGREES}


def test_class_grids_outline_the_ground_truth_under_every_seed(leaf):
    maps = heatmaps.read_maps(leaf)
    (strip,) = heatmaps.class_strips([("seed 0", maps)], 0.97)
    nominal, anomalous = (strip.rows[1].images[i] for i in (0, -1))
    assert not (nominal == (0, 229, 255)).all(-1).any() and (anomalous == (0, 229, 255)).all(-1).any()
