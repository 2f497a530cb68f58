"""Is one config better than another? Paired tests, each at one level: test images, seeds, or classes.

- Images (`delong_test`): would other test images of the same kind turn the order around? Trained networks are fixed.
- Seeds (`seed_test`): would training again? Classes and test images are fixed. Seeds are paired within each class;
  values of different classes are never pooled as if they were repetitions of one another.
- Classes (`class_test`): would other classes? One number per class and config, the mean over its seeds.

`better`, in tables and on pages, is what `decide_pairs` says. All functions take arrays of many comparisons at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from fcdd_sweep.metrics.ranking import FloatArray, Numbers
from fcdd_sweep.metrics.statistics import ALPHA, Summary, share_below, summarize

LEAST_SEEDS = 3
"""Fewer seeds decide nothing: with two, the interval is 9 standard deviations wide on either side."""
_NO_SPREAD = 1e-12
"""A standard error up to it is that of rounding alone."""


class PairedTest(NamedTuple):
    """Tests of mean differences against 0; arrays of one shape. Undefined is NaN.

    Attributes:
        mean: mean difference.
        std_error: standard error of the mean.
        degrees: degrees of freedom of Student's t; infinite for a normal distribution.
        p_value: two-sided; NaN without a spread, too.
    """

    mean: FloatArray
    std_error: FloatArray
    degrees: FloatArray
    p_value: FloatArray

    def interval(self, alpha: FloatArray | float = ALPHA) -> tuple[FloatArray, FloatArray]:
        """Return the ends of the interval that leaves out 0 exactly where the p-value is below `alpha`."""
        half = _quantile(self.degrees, 1 - np.asarray(alpha) / 2) * self.std_error
        half = np.where(np.isnan(self.p_value), np.nan, half)
        return self.mean - half, self.mean + half


def _quantile(degrees: FloatArray, share: FloatArray | float) -> FloatArray:
    normal = np.isinf(degrees)
    return np.where(normal, ndtri(share), stdtrit(np.where(normal, 1.0, degrees), share))


def _tested(mean: FloatArray, variance: FloatArray, degrees: FloatArray) -> PairedTest:
    error = np.sqrt(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = -np.abs(mean) / np.where(error > _NO_SPREAD, error, np.nan)
    normal = np.isinf(degrees)
    p_value = 2 * np.where(normal, ndtr(ratio), stdtr(np.where(normal, 1.0, degrees), ratio))
    return PairedTest(mean, error, degrees, p_value)


def seed_test(differences: FloatArray) -> PairedTest:
    """Test the mean over classes of differences between two configs, with seeds as what varies.

    Each class has a variance of its own, over its seeds; degrees of freedom are Welch and Satterthwaite's. With one
    class it is the paired t-test.

    Args:
        differences: (..., C, S), NaN where a class lacks a seed. Draws of different classes are independent, so seeds
            need not be the same in all classes.
    Returns:
        Arrays of shape (...,). NaN where a class has no difference; `p_value` also where one has fewer than two.
    """
    known = ~np.isnan(differences)
    n = known.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.where(known, differences, 0.0).sum(axis=-1) / np.where(n > 0, n, np.nan)
        squares = np.where(known, (differences - means[..., None]) ** 2, 0.0).sum(axis=-1)
        shares = squares / np.where(n > 1, n - 1, np.nan) / n / differences.shape[-2] ** 2
        variance = shares.sum(axis=-1)
        degrees = variance**2 / (shares**2 / (n - 1)).sum(axis=-1)
    return _tested(means.mean(axis=-1), variance, degrees)


def seed_summary(differences: Mapping[tuple[str, int], float | None], alpha: float = ALPHA) -> tuple[Summary, float]:
    """Return a summary of one pair's differences by class and seed, with the interval of `seed_test`, and its p-value.

    The mean is that over classes; `std` and `n` are of all known differences.

    Args:
        differences: by class and seed; None and NaN where either trial is missing.
        alpha: the interval leaves out 0 where the p-value is below it; `ALPHA` over the number of comparisons for one
            of several.
    """
    classes, seeds = (list(dict.fromkeys(part)) for part in zip(*differences, strict=True)) if differences else ([], [])
    values = np.full((len(classes), len(seeds)), np.nan)
    for (name, seed), difference in differences.items():
        values[classes.index(name), seeds.index(seed)] = np.nan if difference is None else difference
    known = summarize(values.ravel())
    if not known.n:
        return known, np.nan
    test = seed_test(values[~np.isnan(values).all(axis=1)])
    low, high = test.interval(alpha)
    summary = known._replace(mean=float(test.mean), low=float(low), high=float(high))
    return summary, float(test.p_value)


def holm(p_values: FloatArray, family: int) -> tuple[FloatArray, FloatArray]:
    """Correct p-values for the number of comparisons by Holm's method.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).

    Args:
        p_values: (..., P); NaN is not tested.
        family: number of comparisons, P or more: of comparisons that were chosen by their results, all that there were.
    Returns:
        Corrected p-values, and the levels at which they are tested: the interval at such a level leaves out 0 exactly
        where the corrected p-value is below `ALPHA`.
    """
    order = np.argsort(p_values, axis=-1)  # NaN comes last
    rest = family - np.arange(p_values.shape[-1])
    ordered = np.take_along_axis(p_values, order, axis=-1)
    corrected = np.minimum(np.maximum.accumulate(ordered * rest, axis=-1), 1.0)
    passed = np.minimum.accumulate(corrected < ALPHA, axis=-1)
    first_kept = np.minimum(passed.sum(axis=-1, keepdims=True), len(rest) - 1)
    levels = ALPHA / np.where(passed, rest, rest[first_kept])
    back = np.argsort(order, axis=-1)
    return np.take_along_axis(corrected, back, axis=-1), np.take_along_axis(levels, back, axis=-1)


class SeedDecisions(NamedTuple):
    """What is decided of pairs of configs, arrays of shape (..., P).

    Attributes:
        test: of the first minus the second config of each pair, at the level of seeds.
        corrected: p-values corrected for the family.
        levels: the levels at which they are tested, see `holm`.
        better: 1 where the first config is better, -1 where the second is, 0 where neither.
    """

    test: PairedTest
    corrected: FloatArray
    levels: FloatArray
    better: npt.NDArray[np.int8]


def decide_pairs(differences: FloatArray, family: int) -> SeedDecisions:
    """Decide which config of each pair is better: training again with other seeds would hardly turn the order around.

    Pairs with a class of fewer than `LEAST_SEEDS` common seeds are undecided.

    Args:
        differences: (..., P, C, S), of the first minus the second config; NaN where a trial is missing.
        family: see `holm`.
    """
    test = seed_test(differences)
    enough = (~np.isnan(differences)).sum(axis=-1).min(axis=-1) >= LEAST_SEEDS
    test = test._replace(p_value=np.where(enough, test.p_value, np.nan))
    corrected, levels = holm(test.p_value, family)
    decided = corrected < ALPHA
    return SeedDecisions(test, corrected, levels, np.where(decided, np.sign(test.mean), 0).astype(np.int8))


def all_pairs(count: int) -> npt.NDArray[np.intp]:
    """Return the (P, 2) pairs of `count` configs, the earlier one first."""
    return np.stack(np.triu_indices(count, 1), axis=1)


class Placements(NamedTuple):
    """Share of the other label's images that each image is on the right side of; a tie counts half. The mean of either
    is the AUROC.

    Attributes:
        nominal, anomalous: (n,) one entry per image of the label.
    """

    nominal: FloatArray
    anomalous: FloatArray


def placements(scores: Numbers, label: Numbers) -> Placements:
    """Return the placements of images, in their order.

    Args:
        scores: (n,) finite; higher is more anomalous.
        label: (n,) 0 nominal, 1 anomalous; both must occur.
    """
    scores, label = np.asarray(scores, np.float64), np.asarray(label)
    nominal, anomalous = scores[label == 0], scores[label == 1]
    return Placements(1 - share_below(nominal, np.sort(anomalous)), share_below(anomalous, np.sort(nominal)))


def delong_test(first: Placements, second: Placements) -> PairedTest:
    """Test the difference of two AUROC over the same images; of several seeds, give the means of their placements.

    Source: DeLong et al., Biometrics 44 (1988).
    """
    parts = [one - other for one, other in zip(first, second, strict=True)]
    enough = min(map(len, parts)) > 1
    variance = sum(part.var(ddof=1) / len(part) for part in parts) if enough else np.nan
    return _tested(np.asarray(parts[1].mean()), np.asarray(variance), np.asarray(np.inf))


def class_test(means: FloatArray) -> FloatArray:
    """Return the p-values of Wilcoxon's signed-rank test over classes, (P,); NaN where no class differs.

    Args:
        means: (P, C) difference of two configs in each class, over its seeds.
    """
    return np.array([_signed_rank_p(row) for row in means], np.float64)


_MOST_EXACT = 13
"""Classes up to which ties are dealt with exactly, by all signs of the differences, as scipy does."""


def _signed_rank_p(row: FloatArray) -> float:
    """Return the p-value of one row: that of `scipy.stats.wilcoxon`, which takes a hundred times as long for ties."""
    if not row.any() or np.isnan(row).any():
        return float("nan")
    sizes = np.abs(row[row != 0])
    if len(row) > _MOST_EXACT or len(np.unique(sizes)) == len(row):
        from scipy.stats import wilcoxon  # it takes a second to import

        return float(wilcoxon(row).pvalue)
    order = np.sort(sizes)
    twice_rank = np.searchsorted(order, sizes, "left") + np.searchsorted(order, sizes, "right") + 1
    counts = np.ones(1)  # of the signs by twice their sum of positive ranks
    for rank in twice_rank.tolist():
        counts = np.concatenate([counts, np.zeros(rank)]) + np.concatenate([np.zeros(rank), counts])
    seen = int(twice_rank[row[row != 0] > 0].sum())
    share = min(counts[: seen + 1].sum(), counts[seen:].sum()) / counts.sum()
    return float(min(1.0, 2 * share))


def class_interval(means: FloatArray, alpha: float = ALPHA) -> tuple[float, float, float]:
    """Return Hodges and Lehmann's estimate of a shift, and the ends of the interval that belongs to Wilcoxon's test.

    Args:
        means: (C,) differences of two configs.
    Returns:
        The ends are NaN where even the widest interval does not reach the level: C is too small.
    """
    count = len(means)
    rows, columns = np.triu_indices(count)
    walsh = np.sort((means[rows] + means[columns]) / 2)
    below = np.cumsum(signed_rank_shares(count))  # P(W <= w)
    outside = int(np.searchsorted(below, alpha / 2, "right"))  # so many Walsh averages may be left out at either end
    if not outside:
        return float(np.median(walsh)), np.nan, np.nan
    return float(np.median(walsh)), float(walsh[outside - 1]), float(walsh[-outside])


def signed_rank_shares(count: int) -> FloatArray:
    """Return the probability of each sum of signed ranks, 0 to count * (count + 1) / 2, where signs are fair coins."""
    shares = np.zeros(count * (count + 1) // 2 + 1)
    shares[0] = 1.0
    for rank in range(1, count + 1):
        shifted = np.zeros_like(shares)
        shifted[rank:] = shares[:-rank]
        shares = (shares + shifted) / 2
    return shares


def least_classes(family: int) -> int:
    """Return the number of classes from which on Wilcoxon's test can decide one of `family` comparisons.

    With C classes the smallest two-sided p-value is 2 / 2^C.
    """
    return int(np.floor(np.log2(2 * family / ALPHA))) + 1


def friedman_test(means: FloatArray) -> tuple[float, float]:
    """Test whether any of the configs differs from another over classes: Friedman's statistic and its p-value.

    Args:
        means: (K, C), K of 3 or more.
    Returns:
        NaN for fewer than two classes, and where all configs tie in all classes.
    """
    from scipy.stats import friedmanchisquare  # it takes a second to import

    if means.shape[1] < 2 or (means == means[0]).all():
        return np.nan, np.nan
    found = friedmanchisquare(*means)
    return float(found.statistic), float(found.pvalue)
