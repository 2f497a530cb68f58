"""Power and numbers of seeds, against repeated t-tests."""

import numpy as np
import pytest
from scipy.special import ndtri, stdtrit

from fcdd_sweep.metrics.paired_tests import seed_test
from fcdd_sweep.metrics.power import POWER, detectable_shift, needed_seeds, seed_power, usual_degrees


@pytest.mark.parametrize(("seeds", "alpha"), [(3, 0.05), (5, 0.05), (5, 0.005)])
def test_the_power_is_how_often_a_difference_is_found(seeds, alpha):
    draws = np.random.default_rng(seeds).normal(1.5, 1.0, (20_000, 1, seeds))
    found = np.mean(seed_test(draws).p_value < alpha)
    assert float(seed_power(1.5 * np.sqrt(seeds), seeds - 1, alpha)) == pytest.approx(found, abs=0.012)


@pytest.mark.parametrize(("classes", "seeds"), [(1, 4), (3, 3), (10, 5)])
def test_the_usual_degrees_of_freedom_are_those_of_the_test(classes, seeds):
    draws = np.random.default_rng(classes).normal(0, 1.0, (4000, classes, seeds))
    assert usual_degrees(classes, seeds) == pytest.approx(seed_test(draws).degrees.mean(), rel=0.06)


def test_without_a_difference_the_power_is_the_level_and_a_large_one_is_always_found():
    assert seed_power(0.0, 4, 0.05) == pytest.approx(0.05)
    assert seed_power(-500.0, 4, 0.05) == pytest.approx(1.0)
    assert np.isnan(seed_power(np.nan, 4, 0.05))


def test_the_detectable_difference_is_found_four_times_in_five():
    degrees = np.array([1.0, 1.2, 2.0, 2.9, 4.0, 40.0, 3e4])
    for level in (0.05, 0.05 / 190, 0.05 / 4950):
        shift = detectable_shift(degrees, level)
        assert seed_power(shift, degrees, level) == pytest.approx(POWER, abs=2e-5)
    assert np.isnan(detectable_shift(np.array([np.nan]), 0.05))


def test_a_thousand_configs_with_two_seeds_cost_no_time_and_have_a_limit():
    """With one degree of freedom the mean is that many standard errors which the spread of one number takes four times
    in five."""
    level = 0.05 / 499_500
    (shift,) = detectable_shift(np.array([1.0]), level)
    assert shift == pytest.approx(stdtrit(1, 1 - level / 2) * ndtri(0.9), rel=1e-6)


def test_the_number_of_seeds_is_the_first_that_finds_the_difference():
    shift, seeds = np.array([1.2]), np.array([5.0])
    (found,) = needed_seeds(shift, np.array([4.0]), seeds, 0.05)
    powers = [float(seed_power(1.2 * np.sqrt(n / 5), n - 1, 0.05)) for n in (found - 1, found)]
    assert powers[0] < POWER <= powers[1]
    assert np.isnan(needed_seeds(np.array([0.001, np.nan]), np.array([4.0, 4.0]), np.array([5.0, 5.0]), 0.05)).all()
