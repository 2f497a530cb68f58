"""Interquartile means, ranks and probabilities of improvement, against scipy's, and their intervals."""

import numpy as np
import pytest
from scipy import stats

from fcdd_sweep.metrics.paired_tests import all_pairs
from fcdd_sweep.metrics.resampling import average_ranks, interquartile_mean, resample


def made(seeds, seed=0, spread=1.0):
    """(3, 4, S) values of configs of which each is better than the next by 0.5."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, spread, (3, 4, seeds)) + np.array([1.0, 0.5, 0.0])[:, None, None]


@pytest.mark.parametrize("count", [3, 8, 30, 50])
def test_the_interquartile_mean_is_scipy_s_trimmed_mean(count):
    values = np.random.default_rng(count).normal(0, 1, (2, count))
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25, axis=-1))


def test_ranks_begin_with_1_for_the_largest_and_ties_share_theirs():
    means = np.array([[0.9, 0.5], [0.8, 0.5], [0.7, 0.9]])
    assert average_ranks(means) == pytest.approx([(1 + 2.5) / 2, (2 + 2.5) / 2, (3 + 1) / 2])


def test_the_probability_of_improvement_is_the_mean_over_classes_of_mann_and_whitney_s_share():
    values = np.round(made(6), 0)  # with ties
    pairs = all_pairs(3)
    expected = [
        np.mean([stats.mannwhitneyu(values[i, c], values[j, c]).statistic / 36 for c in range(4)]) for i, j in pairs
    ]
    assert resample(values, pairs, draws=10).improvement.value == pytest.approx(expected)


def test_bootstrap_draws_are_those_of_a_slow_loop():
    values, pairs = made(5), all_pairs(3)
    found = resample(values, pairs, draws=40)
    chosen = np.random.default_rng(0).integers(0, 5, (40, 4, 5))
    means, ranks, wins = [], [], []
    for draw in chosen:
        drawn = np.stack([[config[c][draw[c]] for c in range(4)] for config in values])
        by_class = drawn.mean(axis=2)
        means.append([by_class[i].mean() - by_class[j].mean() for i, j in pairs])
        ranks.append(stats.rankdata(-by_class, axis=0).mean(axis=1))
        wins.append([np.mean(drawn[i][:, :, None] > drawn[j][:, None, :]) for i, j in pairs])
    for figure, slow in ((found.means, means), (found.ranks, ranks), (found.improvement, wins)):
        assert figure.low == pytest.approx(np.quantile(slow, 0.025, axis=0))
        assert figure.high == pytest.approx(np.quantile(slow, 0.975, axis=0))


def test_intervals_of_ranks_narrow_with_seeds():
    def width(seeds):
        drawn = [resample(made(seeds, seed, 0.7), all_pairs(3), 200).ranks for seed in range(8)]
        return np.mean([ranks.high - ranks.low for ranks in drawn])

    assert width(3) > 1.3 * width(10) > 1.5 * width(60)


def test_what_all_seeds_share_does_not_widen_paired_differences():
    noise = np.random.default_rng(1).normal(0, 5, (1, 4, 6))
    found = resample(np.concatenate([noise + 0.2, noise]), all_pairs(2), draws=100).means
    assert [float(end[0]) for end in found] == pytest.approx([0.2, 0.2, 0.2])
