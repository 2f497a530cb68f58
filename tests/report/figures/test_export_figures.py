"""Figures for papers: sizes, fonts, legends, bands."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from fcdd_sweep.report.class_scores import read_seed_scores
from fcdd_sweep.report.figures import contact_sheet, heatmaps, roc
from fcdd_sweep.report.figures.export_figures import export_figures
from fcdd_sweep.report.figures.plot_frame import Lettering
from fcdd_sweep.report.figures.style import PAPER, use_look
from fcdd_sweep.report.page.class_section import sheet_figure
from fcdd_sweep.report.run_files import read_run
from tests.fakes import FakeRun
from tests.report.figures.placed import placed_texts


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = FakeRun(tmp_path_factory.mktemp("runs") / "r").plan(["brick", "tile"], [0, 1])
    for seed in (0, 1):
        made.finish("", "brick", seed, wrong=seed).finish("", "tile", seed, wrong=4)
    return read_run(made.write())


@pytest.fixture
def screen_afterwards():
    yield
    use_look("screen")


@pytest.mark.slow
def test_paper_figures_are_as_wide_as_a_column_with_truetype_text(run, tmp_path, screen_afterwards):
    written, problems = export_figures(run, tmp_path, "paper", ("roc", "heatmaps", "loss"))
    names = {f"{kind}_{name}.pdf" for kind in ("heatmaps", "loss") for name in ("brick", "tile")}
    assert {path.name for path in written} == {"roc.pdf", "pixel_roc.pdf"} | names and problems == []
    for path in written:
        content = path.read_bytes()
        width = float(re.search(rb"/MediaBox ?\[ ?0 0 ([\d.]+)", content)[1])
        assert width == pytest.approx(72 * 3.3, abs=0.5) and b"/FontFile2" in content and b"/Type3" not in content


def test_a_paper_plot_has_no_title_and_its_legend_is_below_the_axes_inside_the_figure(run):
    figure = roc.draw_roc(roc.config_roc(run, "", "image"), PAPER)
    texts, (width, _) = placed_texts(figure), figure.get_size_inches()
    lines = roc.config_roc(run, "", "image").lines
    legend = [texts[line.label] for line in lines]
    assert not any("ROC by class" in text for text in texts)
    written = [line for artist in figure.artists if isinstance(artist, Lettering) for line in artist.lines]
    assert {line.size for line in written} == {8.0}
    assert all(0 <= box.x0 and box.x1 <= width and 0 <= box.y0 for box in legend)
    assert max(box.y1 for box in legend) < texts["false-positive rate"].y0


def test_the_mean_over_classes_has_the_spread_of_whole_seeds_as_its_band(run):
    mean = roc.config_roc(run, "", "image").lines[-1]
    middle = len(mean.x) // 2
    seeds = [(1.0 + 0.8) / 2, (0.95 + 0.8) / 2]
    spread = np.std(seeds, ddof=1)
    assert mean.y[middle] == pytest.approx(np.mean(seeds))
    assert mean.high[middle] - mean.y[middle] == pytest.approx(spread) == mean.y[middle] - mean.low[middle]


def test_contact_sheets_are_small_and_name_images_labels_and_present_scores(run):
    trial = run.of("", "brick")[0]
    kept = heatmaps.read_maps(trial.folder)
    rescored = replace(trial, metrics=trial.metrics | {"image_score": "score_max"}, rescored=True)
    maps = heatmaps.scored_anew(kept, rescored)
    np.testing.assert_allclose(maps.score, 2 * kept.score)  # see fakes.score_columns
    sheet = contact_sheet.contact_sheet([("seed 0", maps)], 0.97, 48)
    assert sheet.labels == ("nominal",) * 2 + ("anomalous",) * 6 and sheet.rows == ("input", "heatmap, seed 0")
    assert sheet.size == (8 * 34 - 2, 2 * 34 - 2) and len(sheet.address) < 16_000
    place = {path: i for i, path in enumerate(maps.path.tolist())}
    for path, score in zip(sheet.paths, sheet.scores, strict=True):
        assert float(score) == pytest.approx(2 * kept.score[place[path]], rel=1e-2)


def test_contact_sheets_mark_decisions_and_heatmaps_that_disagree_and_say_what_marks_mean(run):
    trial = run.of("", "brick")[0]
    plain = contact_sheet.contact_sheet([("seed 0", heatmaps.read_maps(trial.folder))], 0.97, 48)
    assert contact_sheet.with_decisions(plain, read_seed_scores(trial)) == plain
    decided = replace(trial, metrics=trial.metrics | {"threshold": 0.7, "pixel_threshold": 0.9})
    sheet = contact_sheet.with_decisions(plain, read_seed_scores(decided))
    values = [float(score) for score in sheet.scores]
    assert sheet.marks == tuple("▲" if value > 0.7 else "≠" if value > 0.45 else "" for value in values)
    page = sheet_figure(sheet, "brick")
    assert "▲ called anomalous. ≠ the heatmap disagrees: it shows no region" in page
    assert page.count("</b> ▲</span>") == sheet.marks.count("▲") > 0
