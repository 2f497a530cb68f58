"""Rows of `comparisons.parquet` at the level of test images: DeLong's test in each class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics.paired_tests import PairedTest, Placements, delong_test, holm, placements
from fcdd_sweep.metrics.statistics import ALPHA
from fcdd_sweep.report.common_values import CommonValues
from fcdd_sweep.report.comparison_rows import about_pair, better_name, incomplete
from fcdd_sweep.report.run_files import Trial
from fcdd_sweep.results import schemas
from fcdd_sweep.results.files import TableRow, read_columns
from fcdd_sweep.results.tree import TrialPaths

TrialsByKey = Mapping[tuple[str, int], Trial]
"""An entry's trials by class and seed."""
_UNDEFINED = PairedTest(*(np.asarray(np.nan) for _ in PairedTest._fields))


class _Images(NamedTuple):
    """Test images of a class, and how an entry places them, as the mean over its seeds.

    Attributes:
        paths: names of nominal, then of anomalous images, each sorted.
    """

    paths: npt.NDArray[np.object_]
    placements: Placements


def image_rows(values: CommonValues, trials: Sequence[TrialsByKey]) -> Iterator[TableRow]:
    """Yield one row per pair and class on the mean AUROC of the common seeds, with test images as what varies.

    Args:
        values: of `image_auroc`.
        trials: of each entry, with at least the common classes and seeds.
    """
    rows: list[TableRow] = []
    tests: list[PairedTest] = []
    pairs: list[Sequence[int]] = []
    for column, name in enumerate(values.classes):
        seeds = [seed for seed, planned in zip(values.seeds, values.planned[column], strict=True) if planned]
        images = [_images([own[name, seed] for seed in seeds]) for own in trials]
        for row, pair in enumerate(values.pairs.tolist()):
            lost = int((np.isnan(values.differences[row, column]) & values.planned[column]).sum())
            cells, test = _tested(images[pair[0]], images[pair[1]], lost)
            cells |= {"normal_class": name, "n_pairs": len(seeds) - lost, "dropped": lost, "n_classes": 1}
            rows.append(about_pair(values, "images", "delong", pair) | cells)
            tests.append(test)
            pairs.append(pair)
    yield from _decided(values, rows, tests, pairs)


def _images(trials: Sequence[Trial]) -> _Images | str:
    """Return the images and their placements, or in a sentence why there are none."""
    found = [_of_trial(trial) for trial in trials if trial.folder is not None]
    if not found or any(each is None for each in found):
        return "no image AUROC"
    known = [each for each in found if each is not None]
    if any(not np.array_equal(each.paths, known[0].paths) for each in known):
        return "seeds have different test images"
    nominal, anomalous = (np.mean(parts, axis=0) for parts in zip(*(each.placements for each in known), strict=True))
    return _Images(known[0].paths, Placements(nominal, anomalous))


def _of_trial(trial: Trial) -> _Images | None:
    if trial.folder is None:
        return None
    table = read_columns(TrialPaths(trial.folder).scores, schemas.SCORES)
    names = ("split", "path", "label", trial.metrics["image_score"])
    split, path, label, score = (np.array(table[name].to_pylist(), dtype=object) for name in names)
    tested = split == "test"
    path, label, score = path[tested], label[tested].astype(np.int8), score[tested].astype(np.float64)
    if len(np.unique(label)) < 2:
        return None
    order = np.lexsort((path.astype(str), label))
    return _Images(path[order], placements(score[order], label[order]))


def _tested(first: _Images | str, second: _Images | str, lost: int) -> tuple[TableRow, PairedTest]:
    """Return the size of the test and why there is none, and the test."""
    reason = incomplete(lost) or next((each for each in (first, second) if isinstance(each, str)), None)
    if reason or isinstance(first, str) or isinstance(second, str):
        return {"n": 0, "reason": reason}, _UNDEFINED
    if not np.array_equal(first.paths, second.paths):
        return {"n": 0, "reason": "the test images differ"}, _UNDEFINED
    test = delong_test(first.placements, second.placements)
    reason = "no image is placed differently" if np.isnan(test.p_value) else None
    return {"n": len(first.paths), "reason": reason}, test


def _decided(
    values: CommonValues, rows: Sequence[TableRow], tests: Sequence[PairedTest], pairs: Sequence[Sequence[int]]
) -> Iterator[TableRow]:
    family = values.family * len(values.classes)
    test = PairedTest(*(np.array(part) for part in zip(*tests, strict=True)))
    corrected, levels = holm(test.p_value, family)
    (low, high), (wide_low, wide_high) = test.interval(), test.interval(levels)
    for row, cells in enumerate(rows):
        sign = int(np.sign(test.mean[row])) if corrected[row] < ALPHA else 0
        yield cells | {
            "estimate": test.mean[row],
            "low": low[row],
            "high": high[row],
            "p_value": test.p_value[row],
            "p_corrected": corrected[row],
            "family": family,
            "corrected_low": wide_low[row],
            "corrected_high": wide_high[row],
            "better": better_name(values, pairs[row], sign),
        }
