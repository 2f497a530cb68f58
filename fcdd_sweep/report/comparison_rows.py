"""Rows of `comparisons.parquet` at the levels of seeds and classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics.paired_tests import (
    LEAST_SEEDS,
    SeedDecisions,
    class_interval,
    class_test,
    decide_pairs,
    friedman_test,
    holm,
    least_classes,
)
from fcdd_sweep.metrics.power import detectable_shift, needed_seeds
from fcdd_sweep.metrics.ranking import FloatArray
from fcdd_sweep.metrics.resampling import Estimates, resample
from fcdd_sweep.metrics.statistics import ALPHA
from fcdd_sweep.report.common_values import CommonValues
from fcdd_sweep.results.files import TableRow


def seed_rows(values: CommonValues) -> Iterator[TableRow]:
    """Yield one row per pair on the mean over classes, with what its design can find, and one per pair and class."""
    family = values.family
    found = decide_pairs(values.differences, family)
    overall = _t_rows(values, found, values.differences, values.planned[None], [None])
    for cells, reach in zip(overall, _reach(values, found), strict=True):
        yield cells | ({} if cells["better"] else reach)
    if len(values.classes) > 1:
        single = values.differences.reshape(-1, 1, values.differences.shape[-1])
        planned = np.tile(values.planned[:, None], (len(values.pairs), 1, 1))
        by_class = decide_pairs(single, family * len(values.classes))
        yield from _t_rows(values, by_class, single, planned, values.classes)


def _t_rows(
    values: CommonValues,
    found: SeedDecisions,
    differences: FloatArray,
    planned: npt.NDArray[np.bool_],
    classes: Sequence[str | None],
) -> Iterator[TableRow]:
    """Yield one row per pair and class, None for all classes together.

    Args:
        differences: (R, C, S) what was decided on.
        planned: the same shape, or (1, C, S).
    """
    family = values.family * len(classes)
    known = ~np.isnan(differences)
    lost = (~known & planned).sum(axis=(1, 2))
    seeds = known.sum(axis=2).min(axis=1)
    low, high = found.test.interval()
    wide_low, wide_high = found.test.interval(found.levels)
    for row in range(len(differences)):
        pair, name = values.pairs[row // len(classes)].tolist(), classes[row % len(classes)]
        reason = incomplete(lost[row]) or _undecided(found, row, int(seeds[row]))
        yield about_pair(values, "seeds", "paired_t", pair) | {
            "normal_class": name,
            "n": seeds[row],
            "n_classes": differences.shape[1],
            "n_pairs": known[row].sum(),
            "dropped": lost[row],
            "estimate": found.test.mean[row],
            "low": low[row],
            "high": high[row],
            "p_value": found.test.p_value[row],
            "p_corrected": found.corrected[row],
            "family": family,
            "corrected_low": wide_low[row],
            "corrected_high": wide_high[row],
            "better": None if reason else better_name(values, pair, int(found.better[row])),
            "reason": reason,
        }


def about_pair(values: CommonValues, level: str, test: str, pair: Sequence[int]) -> TableRow:
    """Return the cells that say what a row about two entries is about."""
    first, second = (values.names[index] for index in pair)
    return {"metric": values.metric, "level": level, "test": test, "first": first, "second": second}


def better_name(values: CommonValues, pair: Sequence[int], better: int) -> str | None:
    """Return the name of the better one: the first for 1, the second for -1, None for 0."""
    return values.names[pair[0 if better > 0 else 1]] if better else None


def incomplete(lost: int) -> str | None:
    """Return why nothing is decided where pairs are missing; None where none is."""
    return f"incomplete: {lost} planned pairs are missing or undefined" if lost else None


def _undecided(found: SeedDecisions, row: int, seeds: int) -> str | None:
    if not np.isnan(found.corrected[row]):
        return None
    if seeds < LEAST_SEEDS:
        return f"too few seeds to decide: {seeds}, needs {LEAST_SEEDS}"
    return "equal with every seed" if found.test.mean[row] == 0 else "no spread over seeds: nothing to test against"


def _reach(values: CommonValues, found: SeedDecisions) -> Iterator[TableRow]:
    """Yield for each pair the difference that the design can find, and how many more seeds the seen one needs."""
    level = ALPHA / values.family
    tested = ~np.isnan(found.test.p_value)
    degrees, error = (np.where(tested, part, np.nan) for part in (found.test.degrees, found.test.std_error))
    seeds = (~np.isnan(values.differences)).sum(axis=-1).min(axis=-1).astype(np.float64)
    needed = needed_seeds(found.test.mean / error, degrees, np.maximum(seeds, 2), level)
    smallest = detectable_shift(degrees, level) * error
    for row in range(len(tested)):
        more = needed[row] - seeds[row]
        yield {"detectable": smallest[row], "more_seeds": None if np.isnan(more) else max(1, int(more))}


def class_rows(values: CommonValues) -> Iterator[TableRow]:
    """Yield Friedman's test of all whole entries, then Wilcoxon's of each pair, over classes."""
    count, means = len(values.classes), _class_means(values.values)
    whole = int(values.whole.sum())
    statistic, p_friedman = friedman_test(means[values.whole]) if whole > 2 else (np.nan, np.nan)
    if len(values.names) > 2:
        yield {
            "metric": values.metric,
            "level": "classes",
            "test": "friedman",
            "n": count,
            "n_classes": count,
            "n_pairs": whole * int(values.planned.sum()),
            "dropped": (np.isnan(values.values) & values.planned).sum(),
            "estimate": statistic,
            "p_value": p_friedman,
            "p_corrected": p_friedman,
            "family": 1,
            "reason": _no_friedman(statistic, whole, count),
        }
    least, differences = least_classes(values.family), means[values.pairs[:, 0]] - means[values.pairs[:, 1]]
    lost = (np.isnan(values.differences) & values.planned).sum(axis=(1, 2))
    differences[lost > 0] = np.nan
    p_values = class_test(differences)
    corrected, levels = holm(p_values, values.family)
    gate = None if len(values.names) < 3 or p_friedman < ALPHA else "Friedman's test finds no difference among all"
    for row, pair in enumerate(values.pairs.tolist()):
        few = f"too few classes to decide: {count}, needs {least}" if count < least else None
        equal = "equal in every class" if np.isnan(p_values[row]) else None
        reason = incomplete(lost[row]) or few or equal or gate
        estimate, low, high = class_interval(differences[row])
        _, wide_low, wide_high = class_interval(differences[row], levels[row])
        sign = int(np.sign(estimate)) if not reason and corrected[row] < ALPHA else 0
        yield about_pair(values, "classes", "wilcoxon", pair) | {
            "n": count,
            "n_classes": count,
            "n_pairs": int(values.planned.sum()) - lost[row],
            "dropped": lost[row],
            "estimate": estimate,
            "low": low,
            "high": high,
            "p_value": p_values[row],
            "p_corrected": corrected[row],
            "family": values.family,
            "corrected_low": wide_low,
            "corrected_high": wide_high,
            "better": better_name(values, pair, sign),
            "reason": reason,
        }


def _class_means(values: FloatArray) -> FloatArray:
    """Return the means over seeds; NaN where there is none."""
    known = ~np.isnan(values)
    return np.asarray(
        np.where(known, values, 0.0).sum(axis=-1) / np.where(known.any(axis=-1), known.sum(axis=-1), np.nan)
    )


def _no_friedman(statistic: float, whole: int, classes: int) -> str | None:
    if not np.isnan(statistic):
        return None
    if whole < 3:
        return f"too few complete configs: {whole}, needs 3"
    return f"too few classes to decide: {classes}, needs 2" if classes < 2 else "equal in every class"


def resampled_rows(values: CommonValues) -> Iterator[TableRow]:
    """Yield estimates with an interval by resampling seeds within classes; null for what is incomplete."""
    kept = np.flatnonzero(values.whole)
    place = {int(index): row for row, index in enumerate(kept)}
    pairs = [(first, second) for first, second in values.pairs.tolist()]
    whole = {pair: row for row, pair in enumerate(pair for pair in pairs if set(pair) <= place.keys())}
    least = int(values.planned.sum(axis=1).min())
    reason = f"too few seeds to resample: {least}, needs {LEAST_SEEDS}" if least < LEAST_SEEDS else None
    if not reason and not values.planned.all():
        reason = "the classes have different seeds in common"
    found = None
    if not reason and whole:
        chosen = np.array([[place[first], place[second]] for first, second in whole], np.intp)
        found = resample(values.values[kept], chosen)
    for pair in pairs:
        row = whole.get(pair)
        for test, figures in (("bootstrap", "means"), ("probability_of_improvement", "improvement")):
            cells = _estimated(values, pair, None if found is None else getattr(found, figures), row, reason)
            yield about_pair(values, "seeds", test, pair) | cells | {"n": least}
    for index, name in enumerate(values.names):
        for level, test, figures in (("seeds", "iqm", "interquartile"), ("classes", "average_rank", "ranks")):
            about = {"metric": values.metric, "level": level, "test": test, "first": name}
            estimates = None if found is None else getattr(found, figures)
            cells = _estimated(values, (index,), estimates, place.get(index), reason)
            yield about | cells | {"n": least if level == "seeds" else len(values.classes)}


def _estimated(
    values: CommonValues, entries: Sequence[int], estimates: Estimates | None, row: int | None, reason: str | None
) -> TableRow:
    """Return the cells of one estimate; `row` is its place among the estimates, None where an entry is incomplete."""
    lost = int((np.isnan(values.values[list(entries)]).any(axis=0) & values.planned).sum())
    cells: TableRow = {"n_classes": len(values.classes), "n_pairs": int(values.planned.sum()) - lost, "dropped": lost}
    if row is None or estimates is None:
        return cells | {"reason": incomplete(lost) or reason or "fewer than two are complete"}
    return cells | {"estimate": estimates.value[row], "low": estimates.low[row], "high": estimates.high[row]}
