"""Paired tests at the levels of images, seeds and classes, against scipy and slow definitions."""

import math

import numpy as np
import pytest
from scipy import stats

from fcdd_sweep.metrics import paired_tests
from fcdd_sweep.metrics.paired_tests import ALPHA, all_pairs, decide_pairs, holm, seed_test
from fcdd_sweep.metrics.ranking import auroc
from fcdd_sweep.metrics.statistics import wilson_interval


def differences(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.3, 1.0, shape)


def test_over_seeds_of_one_class_it_is_the_paired_t_test():
    given = differences(1, 6)
    found, expected = seed_test(given), stats.ttest_1samp(given[0], 0)
    assert float(found.p_value) == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert [float(end) for end in found.interval()] == pytest.approx([interval.low, interval.high])


def test_over_seeds_of_two_classes_it_is_welch_s_test_of_one_against_the_other_turned_around():
    given = differences(2, 5) * np.array([[1.0], [4.0]])
    given[1, 3:] = np.nan  # classes may lack different seeds
    found, expected = seed_test(given), stats.ttest_ind(given[0], -given[1, :3], equal_var=False)
    assert float(found.p_value) == pytest.approx(expected.pvalue) and float(found.degrees) == pytest.approx(expected.df)
    assert float(found.mean) == pytest.approx((given[0].mean() + np.nanmean(given[1])) / 2)


def test_a_class_without_two_differences_and_differences_without_a_spread_have_no_p_value():
    given = np.stack([differences(2, 4) for _ in range(3)])
    given[0, 1, 1:] = np.nan
    given[1, 1] = np.nan
    given[2] = 0.01  # a spread of rounding alone would make any difference certain
    found = seed_test(given)
    assert np.isnan(found.p_value).all() and found.mean[2] == pytest.approx(0.01)
    assert np.isnan(found.mean).tolist() == [False, True, False]
    assert np.isnan(np.concatenate(found.interval())).all()


def slow_holm(p_values, family):
    """Holm's procedure, step by step: which are rejected at a level."""
    rejected = np.zeros(len(p_values), bool)
    for step, index in enumerate(np.argsort(p_values)):
        if not p_values[index] < ALPHA / (family - step):
            break
        rejected[index] = True
    return rejected


@pytest.mark.parametrize("extra", [0, 7])
def test_holm_rejects_what_the_procedure_rejects_and_its_levels_agree(extra):
    rng = np.random.default_rng(extra)
    for _ in range(50):
        p_values = rng.uniform(0, 1, 6) ** 4
        corrected, levels = holm(p_values, 6 + extra)
        expected = slow_holm(p_values, 6 + extra)
        assert (corrected < ALPHA).tolist() == expected.tolist() == (p_values < levels).tolist()
    assert holm(np.array([0.01, 0.04, 0.03]), 3)[0] == pytest.approx([0.03, 0.06, 0.06])


def test_undefined_p_values_stay_undefined_and_count_in_the_family():
    corrected, _ = holm(np.array([np.nan, 0.02, 0.02]), 3)
    assert math.isnan(corrected[0]) and corrected[1:] == pytest.approx([0.06, 0.06])
    assert np.isnan(holm(np.full(2, np.nan), 2)[0]).all()


def test_better_is_what_the_corrected_interval_says_and_several_sweeps_give_what_each_gives_alone():
    rng = np.random.default_rng(3)
    sweeps = rng.normal(0, 1, (40, 4, 3, 5)) + np.linspace(0, 2, 4)[:, None, None]
    pairs = all_pairs(4)
    between = sweeps[:, pairs[:, 0]] - sweeps[:, pairs[:, 1]]
    found = decide_pairs(between, 6)
    low, high = found.test.interval(found.levels)
    np.testing.assert_array_equal(found.better, np.where(low > 0, 1, np.where(high < 0, -1, 0)))
    assert {-1, 0} <= set(found.better.ravel())
    np.testing.assert_array_equal(decide_pairs(between[7], 6).better, found.better[7])


def test_equal_configs_are_called_better_in_a_twentieth_of_sweeps_at_most():
    rng = np.random.default_rng(7)
    pairs = all_pairs(5)
    for seeds, classes in ((3, 1), (3, 10), (10, 3)):
        spread = np.exp(rng.normal(0, 0.5, (1000, 1, classes, 1)))
        sweeps = spread * rng.normal(0, 1, (1000, 5, classes, seeds))
        found = decide_pairs(sweeps[:, pairs[:, 0]] - sweeps[:, pairs[:, 1]], 10).better.any(axis=1).sum()
        assert 0 < found and wilson_interval(int(found), 1000)[0] <= ALPHA


def test_two_seeds_of_a_class_decide_nothing():
    between = -0.4 + np.random.default_rng(0).normal(0, 1e-3, (1, 2, 3))
    assert decide_pairs(between, 1).better.tolist() == [-1]
    between[0, 1, 2] = np.nan
    found = decide_pairs(between, 1)
    assert found.better.tolist() == [0] and np.isnan(found.corrected).all()


@pytest.mark.parametrize("ties", [True, False])
def test_the_test_over_images_is_delong_s_for_correlated_scores(ties):
    rng = np.random.default_rng(4)
    label = (np.arange(60) % 3 == 0).astype(int)
    common = rng.normal(label, 1.0)
    one, other = (np.round(common + rng.normal(0, 0.5, 60), 0 if ties else 6) for _ in range(2))
    found = paired_tests.delong_test(paired_tests.placements(one, label), paired_tests.placements(other, label))
    assert float(found.mean) == pytest.approx(auroc(one, label) - auroc(other, label))

    def wins(scores):
        high, low = scores[label == 1][:, None], scores[label == 0][None]
        return (high > low) + (high == low) / 2

    both = np.stack([wins(one), wins(other)])
    s10, s01 = np.cov(both.mean(axis=2)), np.cov(both.mean(axis=1))  # DeLong's S10 and S01, 2 x 2
    contrast = np.array([1.0, -1.0])
    variance = contrast @ (s10 / 20 + s01 / 40) @ contrast
    assert float(found.std_error) == pytest.approx(np.sqrt(variance))
    assert float(found.p_value) == pytest.approx(2 * stats.norm.sf(abs(found.mean) / np.sqrt(variance)))


def test_equal_scores_have_no_p_value_over_images():
    each = paired_tests.placements([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1])
    assert math.isnan(float(paired_tests.delong_test(each, each).p_value))


def test_the_interval_over_classes_leaves_out_0_where_wilcoxon_s_test_rejects():
    rng = np.random.default_rng(5)
    decided = []
    for _ in range(60):
        means = rng.normal(0.6, 1.0, 9)
        p_value = paired_tests.class_test(means[None])[0]
        middle, low, high = paired_tests.class_interval(means)
        assert low <= middle <= high and (low > 0 or high < 0) == (p_value <= ALPHA)
        decided.append(p_value <= ALPHA)
    assert 10 < sum(decided) < 50
    walsh = [(means[i] + means[j]) / 2 for i in range(9) for j in range(i, 9)]
    assert middle == pytest.approx(np.median(walsh))


def test_the_shares_of_signed_ranks_count_all_signs():
    count = 5
    sums = [sum(rank for rank in range(1, 6) if signs >> (rank - 1) & 1) for signs in range(2**count)]
    assert paired_tests.signed_rank_shares(count) == pytest.approx(np.bincount(sums) / 2**count)


@pytest.mark.parametrize(("family", "classes"), [(1, 6), (3, 7), (190, 13)])
def test_so_many_classes_are_the_fewest_that_can_decide(family, classes):
    assert paired_tests.least_classes(family) == classes
    reached = [family * paired_tests.class_test(np.arange(1.0, n + 1)[None])[0] < ALPHA for n in (classes - 1, classes)]
    assert reached == [False, True]
    assert paired_tests.class_test(np.arange(1.0, 4)[None])[0] == pytest.approx(0.25)  # 3 classes
    assert np.isnan(paired_tests.class_interval(np.arange(1.0, 4))[1])


def test_configs_that_tie_everywhere_have_no_friedman_statistic():
    means = np.array([[0.9, 0.8, 0.7], [0.8, 0.7, 0.6], [0.7, 0.6, 0.65]])
    found = paired_tests.friedman_test(means)
    assert found == pytest.approx(tuple(stats.friedmanchisquare(*means)))
    assert np.isnan(paired_tests.friedman_test(np.ones((3, 4)))).all()
    assert np.isnan(paired_tests.friedman_test(means[:, :1])).all()
    assert np.isnan(paired_tests.class_test(np.zeros((1, 8)))).all()


def test_ties_and_zeros_get_the_p_value_of_scipy():
    rng = np.random.default_rng(3)
    rows = [np.round(rng.normal(0.3, 1, count), decimals) for count in (3, 6, 9) for decimals in (0, 1)]
    for row in [*rows, np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), np.array([0.0, 0.0, 2.0])]:
        assert paired_tests.class_test(row[None])[0] == pytest.approx(stats.wilcoxon(row).pvalue, abs=1e-12)
