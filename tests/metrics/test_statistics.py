"""The standard error of an AUROC against DeLong's formula pair by pair, and against repeated draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fcdd_sweep.metrics import statistics
from fcdd_sweep.metrics.ranking import auroc
from fcdd_sweep.metrics.statistics import auroc_standard_error


def slow_standard_error(scores, label):
    """DeLong's structural components, pair by pair."""

    def wins(high, low):
        return 1.0 if high > low else 0.5 if high == low else 0.0

    anomalous, nominal = scores[label == 1], scores[label == 0]
    of_anomalous = [np.mean([wins(a, n) for n in nominal]) for a in anomalous]
    of_nominal = [np.mean([wins(a, n) for a in anomalous]) for n in nominal]
    parts = [np.var(part, ddof=1) / len(part) for part in (of_anomalous, of_nominal)]
    return np.sqrt(sum(parts))


@pytest.mark.parametrize("ties", [True, False])
def test_the_noise_of_an_auroc_is_delong_s(ties):
    rng = np.random.default_rng(0)
    label = (np.arange(70) % 3 == 0).astype(int)
    scores = rng.normal(label, 1.0)
    scores = np.round(scores) if ties else scores
    assert auroc_standard_error(scores, label) == pytest.approx(slow_standard_error(scores, label), abs=1e-12)


def test_the_noise_of_an_auroc_is_the_spread_over_draws_of_the_images():
    rng = np.random.default_rng(1)
    label = np.repeat([0, 1], [50, 80])
    draws = [rng.normal(label * 1.2, 1.0) for _ in range(400)]
    spread = np.std([auroc(scores, label) for scores in draws])
    assert np.mean([auroc_standard_error(scores, label) for scores in draws]) == pytest.approx(spread, rel=0.1)


def test_the_noise_of_an_auroc_needs_two_images_of_each_label():
    assert math.isnan(auroc_standard_error(np.array([0.1, 0.2, 0.3]), np.array([0, 0, 1])))
    assert auroc_standard_error(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1])) == 0


def test_summary_is_scipys_t_interval():
    values = [0.9, 0.95, 0.85, 0.99]
    found = statistics.summarize(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert found == pytest.approx((np.mean(values), np.std(values, ddof=1), 4, low, high))


def test_one_value_has_no_interval_and_undefined_values_are_not_counted():
    single = statistics.summarize([0.8, np.nan, None])
    assert (single.mean, single.n) == (0.8, 1)
    assert np.isnan([single.std, single.low, single.high]).all()
    assert statistics.summarize([]).n == 0 and np.isnan(statistics.summarize([np.nan]).mean)
