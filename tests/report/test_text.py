"""Numbers as text."""

import pytest

from fcdd_sweep.metrics.statistics import summarize
from fcdd_sweep.report import text
from fcdd_sweep.report.text import score_text


def test_an_undefined_number_is_neither_0_nor_1():
    assert text.metric_text(None) == text.metric_text(float("nan")) == "n/a"
    assert text.metric_text(0.12345) == "0.123"


def test_a_mean_comes_with_spread_and_number_of_seeds():
    assert text.spread_text(summarize([0.9, 1.0])) == "0.950 ± 0.071 (n=2)"
    assert text.spread_text(summarize([0.9])) == "0.900 (n=1)"
    assert text.spread_text(summarize([])) == "n/a"


def test_an_interval_needs_three_values():
    two, three = summarize([0.9, 1.0]), summarize([0.9, 1.0, 0.95])
    assert text.interval_text(two) == "[n/a]" and text.interval_text(three) == "[0.826, 1.074]"
    assert text.interval_text(summarize([0.9])) == ""
    assert text.count_text(three) == "[0.826, 1.074] n=3" and text.count_text(summarize([0.9])) == "n=1"


def test_a_mean_over_classes_without_a_common_seed_says_so():
    unpaired = summarize([])._replace(mean=0.7)
    assert text.spread_text(unpaired) == "0.700 (no seed has all classes)"
    assert text.count_text(unpaired) == "no seed has all classes" and text.count_text(summarize([])) == ""


@pytest.mark.parametrize(
    ("score", "expected"), [(0.000237, "2.4e-4"), (0.5, "0.5"), (12.3456, "12.3"), (0.0, "0"), (12345.0, "1.2e4")]
)
def test_scores_below_images_are_short(score, expected):
    assert score_text(score) == expected
