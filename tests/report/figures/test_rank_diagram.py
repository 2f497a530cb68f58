"""Average ranks and the groups that the test over classes cannot tell apart."""

import numpy as np

from fcdd_sweep.report.comparisons import comparison_rows
from fcdd_sweep.report.figures.rank_diagram import draw_ranks, rank_groups, ranked_rows
from fcdd_sweep.report.page.statistics_section import comparison_section
from tests.report.test_comparisons import entry

CLASSES = [f"c{i}" for i in range(9)]


def made(*levels):
    """Entries around these levels on nine classes and three seeds."""
    rng = np.random.default_rng(0)
    return [entry(f"k{i}", level + rng.normal(0, 0.004, (9, 3)), CLASSES) for i, level in enumerate(levels)]


def test_configs_that_no_class_test_tells_apart_share_a_bar():
    rows = comparison_rows(made(0.8, 0.9, 0.8))
    assert ranked_rows(rows, "image_auroc")[0]["first"] == "k1"
    assert rank_groups(rows, "image_auroc") == [(1, 2)]
    assert rank_groups(comparison_rows(made(0.8, 0.8, 0.8)), "image_auroc") == [(0, 2)]


def pair(first, second, better):
    return {"metric": "m", "test": "wilcoxon", "first": first, "second": second, "better": better}


def test_groups_overlap_and_none_lies_within_another():
    names = "abcd"
    ranks = [{"metric": "m", "test": "average_rank", "first": n, "estimate": float(i)} for i, n in enumerate(names)]
    apart = {("a", "c"), ("a", "d"), ("b", "d")}
    rows = ranks + [pair(x, y, x if (x, y) in apart else None) for i, x in enumerate(names) for y in names[i + 1 :]]
    assert rank_groups(rows, "m") == [(0, 1), (1, 2), (2, 3)]


def test_the_diagram_has_a_dot_at_each_rank_and_its_interval():
    rows = comparison_rows(made(0.8, 0.9, 0.8))
    figure = draw_ranks(rows, "image_auroc", "image AUROC")
    lines = figure.axes[0].lines
    dots = [float(line.get_xdata()[0]) for line in lines if line.get_marker() == "o"]
    assert dots == [row["estimate"] for row in ranked_rows(rows, "image_auroc")] and dots[0] == 1.0
    assert "average ranks by image AUROC: k1 1.00" in comparison_section(rows)


def test_two_configs_or_one_class_have_no_diagram():
    assert draw_ranks(comparison_rows(made(0.8, 0.9)), "image_auroc", "") is None
    one = [entry(f"k{i}", [[0.8, 0.81 + i / 50, 0.83]], ["c"]) for i in range(3)]
    assert draw_ranks(comparison_rows(one), "image_auroc", "") is None
