"""What stands in the pictures: the numbers that are drawn, and that drawing works."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fcdd_sweep.metrics import heatmap_values, shown_images
from fcdd_sweep.metrics.heatmap_values import gaussian_kernel, upsample
from fcdd_sweep.report.figures import heatmaps, image_grid, roc, style
from fcdd_sweep.report.figures.roc import draw_loss, read_history
from fcdd_sweep.report.figures.trial_figures import draw_trial
from fcdd_sweep.report.run_files import read_run
from fcdd_sweep.results import schemas, tree
from fcdd_sweep.results.files import read_arrays, write_arrays, write_rows
from fcdd_sweep.results.states import TrialStatus
from tests import fakes

PICTURES = {
    "ds_preview.png",
    "loss.pdf",
    "roc_curve.pdf",
    "heatmaps_global.png",
    "train_heatmaps_global.png",
    *(f"heatmaps_paper_{scale}_lbl{label}.png" for scale in ("local", "global") for label in (0, 1)),
}


@pytest.fixture(scope="module")
def leaf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leaf")
    fakes.write_leaf(folder, fakes.key("", "brick", 0), wrong=3, size=32)
    return folder


@pytest.fixture
def three_seeds(tmp_path):
    run = fakes.FakeRun(tmp_path).plan(["brick", "tile"], [0, 3, 5])
    for wrong, seed in enumerate((0, 3, 5)):
        run.finish("", "brick", seed, wrong=wrong)
    run.finish("", "tile", 0, wrong=4).fail("", "tile", 3)
    return read_run(run.write())


def test_a_leaf_is_drawn_from_its_own_files_before_its_metrics_are_there(leaf):
    (leaf / tree.METRICS).unlink(missing_ok=True)
    draw_trial(leaf, 0.97)
    assert {path.name for path in leaf.iterdir() if path.suffix in (".png", ".pdf")} == PICTURES
    with Image.open(leaf / "heatmaps_paper_global_lbl1.png") as picture:
        assert picture.width > 1300 and picture.info["dpi"][0] == pytest.approx(200, abs=1)


def test_several_threads_draw_at_once(tmp_path):
    folders = [tmp_path / str(i) for i in range(2)]
    for seed, folder in enumerate(folders):
        fakes.write_leaf(folder, fakes.key("", "brick", seed), size=16)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda folder: draw_trial(folder, 0.9), folders))
    assert all(PICTURES <= {path.name for path in folder.iterdir()} for folder in folders)


def test_a_test_set_without_anomalies_leaves_their_pictures_out(tmp_path):
    fakes.write_leaf(tmp_path, fakes.key("", "clean", 0), anomalous=0)
    (tmp_path / "heatmaps_paper_local_lbl1.png").write_bytes(b"of an earlier drawing")
    draw_trial(tmp_path, 0.97)
    assert {path.name for path in tmp_path.iterdir() if path.suffix == ".png"} == {
        "ds_preview.png",
        "heatmaps_global.png",
        "train_heatmaps_global.png",
        "heatmaps_paper_local_lbl0.png",
        "heatmaps_paper_global_lbl0.png",
    }
    assert roc.trial_roc({}).absent == ("undefined: the test set has one label only",)


def test_gray_images_without_maps_are_drawn(tmp_path):
    fakes.write_leaf(tmp_path, fakes.key("", "brick", 0), with_maps=False)
    arrays = read_arrays(tmp_path / tree.MAPS)
    gray = {name: arrays[name][:, :1] for name in ("images", "train_images")}
    write_arrays(tmp_path / tree.MAPS, arrays | gray)
    draw_trial(tmp_path, 0.97)
    assert {path.name for path in tmp_path.iterdir() if path.suffix in (".png", ".pdf")} == PICTURES


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
    maps, scores = heatmaps.read_maps(leaf), heatmaps.read_test_scores(leaf)
    assert len(scores.label) == fakes.N_NOMINAL + fakes.N_ANOMALOUS > len(maps.label) - 10
    (strip,) = heatmaps.paper_strips(maps, scores, 1, 0.97, "global")
    expected = scores.score[shown_images.equidistant(scores.label, scores.score, 1)]
    assert strip.captions == tuple(f"{score:.3g}" for score in expected)
    assert [row.name for row in strip.rows] == ["input", "heatmap", "ground\ntruth"]


def test_held_out_scores_do_not_enter_the_pictures(leaf):
    assert "bricks/7000" not in heatmaps.read_test_scores(leaf).path


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
    shared = image_grid.as_colors(np.clip((raw - low) / (high - low), 0, 1))
    difference = np.abs(maps.colored(rows, 0.97, "global").astype(int) - shared)
    assert difference.max() <= 4
    own = np.stack([heatmap_values.normalize(each, *heatmap_values.local_range(each, 0.97)) for each in raw])
    np.testing.assert_array_equal(maps.colored(rows, 0.97, "local"), image_grid.as_colors(own))
    assert (shared[0] != maps.colored(rows, 0.97, "local")[0]).any()


def test_colors_are_jet_from_blue_to_red():
    blue, red = image_grid.as_colors(np.array([[[0.0, 1.0]]]))[0, 0]
    assert blue.tolist() == [0, 0, 127] and red.tolist() == [127, 0, 0]


def test_the_overview_shows_first_and_extreme_images_of_each_label(leaf):
    strips = heatmaps.overview_strips(heatmaps.read_maps(leaf), heatmaps.read_test_scores(leaf), 0.97)
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


def test_drawn_rows_hold_the_pictures_in_their_order():
    shades = np.array([10, 120, 240], np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    figure = image_grid.draw_strips([image_grid.Strip("", (image_grid.StripRow("shades", shades),), ("a", "b", "c"))])
    (image,) = figure.axes[0].images
    width = image.get_array().shape[1]
    middle = image.get_array()[image.get_array().shape[0] // 2, [width // 6, width // 2, 5 * width // 6], 0]
    assert middle.tolist() == [10, 120, 240]
    assert {"shades", "a", "b", "c"} <= {text.get_text() for text in figure.axes[0].texts}


@pytest.mark.parametrize("size", [5, 28, 100, 224, 331])
def test_pictures_are_brought_near_a_side_by_whole_factors(size):
    flat = np.full((2, size, size, 3), 77, np.uint8)
    near = image_grid._near_size(flat, 100)
    assert (near == 77).all() and 50 < near.shape[1] < 200


def test_large_pictures_are_averaged_not_picked():
    board = (np.indices((200, 200)).sum(0) % 2 * 200).astype(np.uint8)
    near = image_grid._near_size(np.repeat(board[None, :, :, None], 3, axis=3), 100)
    assert near.shape == (1, 100, 100, 3) and (near == 100).all()


def test_curves_carry_their_own_seed_when_one_is_lost(three_seeds):
    figure = roc.class_roc("brick", three_seeds.of("", "brick"), "image")
    assert [line.label for line in figure.lines[:3]] == ["seed 0: 1.000", "seed 3: 0.950", "seed 5: 0.900"]
    assert figure.lines[3].label == "mean: 0.950 ± 0.050 (n=3)" and figure.lines[3].low is not None
    lost = roc.class_roc("tile", three_seeds.of("", "tile"), "image")
    assert [line.label for line in lost.lines] == ["seed 0: 0.800", "mean: 0.800 (n=1)"]
    assert lost.absent == ("failed: 1 trial (tile seed 3)", "missing: 1 trial (tile seed 5)")
    assert lost.lines[1].low is None


def test_the_root_figure_has_a_line_a_class_and_their_mean(three_seeds):
    figure = roc.config_roc(three_seeds, "", "image")
    expected = ["brick: 0.950 ± 0.050 (n=3)", "tile: 0.800 (n=1)", "mean of 2 classes: 0.875 (n=1)"]
    assert [line.label for line in figure.lines] == expected
    mean = figure.lines[2]
    assert (mean.x[0], mean.y[0], mean.x[-1], mean.y[-1]) == (0, 0, 1, 1)


@pytest.mark.parametrize("lines", [1, 6, 15, 30])
def test_many_lines_differ_and_their_legend_stands_beside(lines):
    x = np.array([0.0, 1.0])
    given = tuple(roc.RocLine(f"class {i}", x, x) for i in range(lines))
    figure = roc.draw_roc(roc.RocFigure("t", given))
    (ax,) = figure.axes
    assert len({str(style.line_style(i)) for i in range(lines)}) == lines
    figure.draw_without_rendering()
    legend, plot = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert (legend.x0 >= plot.x1) == (lines > 6)
    assert legend.x1 <= figure.bbox.x1 and legend.y0 >= 0 and legend.y1 <= figure.bbox.y1


def test_absent_trials_are_told_briefly():
    from fcdd_sweep.report.run_files import Trial

    trials = [
        Trial({"config": "", "normal_class": f"c{i}", "seed": seed}, TrialStatus.MISSING)
        for i in range(9)
        for seed in (0, 1)
    ]
    (told,) = roc.absent_trials(trials, "image")
    assert told.startswith("missing: 18 trials (c0 seeds 0, 1; ") and told.endswith("and 3 more)")


def test_loss_is_drawn_where_an_epoch_had_no_anomalies(tmp_path):
    rows = [
        dict(trial_id="t", epoch=e, loss=1.0, loss_nominal=1.0, loss_anomalous=None, learning_rate=0.1)
        | dict(images_per_second=1.0, validation_image_auroc=None)
        for e in (1, 2)
    ]
    write_rows(tmp_path / tree.HISTORY, rows, schemas.HISTORY)
    history = read_history(tmp_path)
    assert np.isnan(history.loss_anomalous).all()
    above, below = draw_loss(history).axes
    assert [line.get_label() for line in above.lines] == ["all samples", "nominal", "anomalous"]
    assert below.get_yscale() == "linear"
    steep = replace(history, learning_rate=np.array([0.1, 0.001]))
    assert draw_loss(steep).axes[1].get_yscale() == "log"


def test_an_anomaly_without_a_map_is_gray_not_black():
    maps = np.stack([np.zeros((4, 4)), np.ones((4, 4)), np.full((4, 4), 2)]).astype(np.uint8)
    assert image_grid.as_black_and_white(maps)[:, 0, 0, 0].tolist() == [0, 255, 128]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_training_samples_that_are_anomalous_throughout_say_so(leaf):
    trained = heatmaps.read_training_maps(leaf)
    assert heatmaps.training_note(trained) == "Shown in the images' own colors: the network's normalization is undone."
    whole = trained.gt_maps.copy()
    whole[20] = 2
    marked = replace(trained, gt_maps=whole, shared_range=np.array(True))
    strip = heatmaps.preview_strips(marked)[2]
    assert strip.rows[1].marks == ("all\nanomalous", *[""] * 9)
    note = heatmaps.training_note(marked)
    assert "all samples here share one range" in note and note.endswith("trained as anomalous in every pixel.")
    figure = image_grid.draw_strips([strip], note=note)
    assert texts(figure).count("all\nanomalous") == 1 and " ".join(texts(figure)[-3:]).endswith("every pixel.")
    # the note stays inside the picture
    figure.canvas.draw()
    for label in figure.axes[0].texts[-3:]:
        place = label.get_window_extent()
        assert place.x1 <= figure.bbox.x1 and place.y0 >= 0


def test_test_images_without_a_map_are_marked_too(leaf):
    maps = heatmaps.read_maps(leaf)
    row = int(np.flatnonzero(maps.label == 1)[0])
    bare = maps.gt_maps.copy()
    bare[row] = 2
    strip = heatmaps.strip_of(replace(maps, gt_maps=bare), np.array([0, row]), 0.97, "global", "")
    assert strip.rows[2].marks == ("", "no map")


def test_titles_and_captions_have_room_below_few_pictures():
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    strip = image_grid.Strip(
        "nominal test images with the lowest and the highest scores",
        (image_grid.StripRow("input", pixels),),
        ("x" * 20,),
    )
    figure = image_grid.draw_strips([strip], image_grid.ColorScale("0", "1"), cell_in=0.5)
    figure.canvas.draw()
    ax = figure.axes[0]
    title, _, caption = ax.texts
    assert title.get_window_extent().x1 < ax.get_window_extent().x1
    assert caption.get_window_extent().width <= 0.5 * figure.dpi
