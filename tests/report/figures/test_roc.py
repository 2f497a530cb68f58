"""ROC plots and the loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fcdd_sweep.report.class_scores import SeedScores
from fcdd_sweep.report.figures import roc, style
from fcdd_sweep.report.figures.roc import draw_loss, draw_scores, read_history
from fcdd_sweep.report.run_files import read_run
from fcdd_sweep.results import schemas
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import write_rows
from fcdd_sweep.results.tree import TrialPaths
from tests import fakes
from tests.report.figures.placed import placed_texts


@pytest.fixture
def three_seeds(tmp_path):
    run = fakes.FakeRun(tmp_path).plan(["brick", "tile"], [0, 3, 5])
    for wrong, seed in enumerate((0, 3, 5)):
        run.finish("", "brick", seed, wrong=wrong)
    run.finish("", "tile", 0, wrong=4).fail("", "tile", 3)
    return read_run(run.write())


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
    assert len({str(style.line_style(i)) for i in range(lines)}) == lines
    names = placed_texts(figure)
    legend = [names[f"class {i}"] for i in range(lines)]
    plot_end = names["false-positive rate"].x1 + names["false-positive rate"].x0 - names["true-positive rate"].x1
    assert (min(box.x0 for box in legend) >= plot_end) == (lines > 6)
    width, height = figure.get_size_inches()
    assert all(box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in legend)
    assert [box.y0 for box in legend] == sorted((box.y0 for box in legend), reverse=True)


def test_absent_trials_are_listed_briefly():
    from fcdd_sweep.report.run_files import Trial

    trials = [
        Trial({"config": "", "normal_class": f"c{i}", "seed": seed}, TrialStatus.MISSING)
        for i in range(9)
        for seed in (0, 1)
    ]
    (text,) = roc.absent_trials(trials, "image")
    assert text.startswith("missing: 18 trials (c0 seeds 0, 1; ") and text.endswith("and 3 more)")


@pytest.mark.filterwarnings("error")
def test_scores_of_a_class_without_test_images_are_an_empty_plot():
    nothing = np.array([])
    figure = draw_scores(
        SeedScores(0, nothing.astype(str), nothing.astype(np.int8), nothing.astype(str), nothing, None, None)
    )
    assert figure.axes[0].get_legend() is None


def test_loss_is_drawn_where_an_epoch_had_no_anomalies(tmp_path):
    rows = [
        dict(trial_id="t", epoch=e, loss=1.0, loss_nominal=1.0, loss_anomalous=None, learning_rate=0.1)
        | dict(images_per_second=1.0, validation_image_auroc=None)
        for e in (1, 2)
    ]
    write_rows(TrialPaths(tmp_path).history, rows, schemas.HISTORY)
    history = read_history(tmp_path)
    assert np.isnan(history.loss_anomalous).all()
    below, above = draw_loss(history).axes
    assert [line.get_label() for line in above.lines] == ["all samples", "nominal", "anomalous"]
    assert below.get_yscale() == "linear"
    steep = replace(history, learning_rate=np.array([0.1, 0.001]))
    assert draw_loss(steep).axes[0].get_yscale() == "log"
