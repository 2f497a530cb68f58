"""Cross-conformal decisions: by several models, each of which was trained without a fold of the nominal images.

A fold's images are scored by the model that has not seen them. Of a new image, count the left-out images whose score by
their model is at least that of the new image by the same model: of n left-out images, (1 + count) / (n + 1) is its
p-value, and it is called anomalous when the count is at most a limit.

For a new image that is drawn like the left-out ones two bounds on the probability of that hold, whatever the
distribution of images and scores; the lower one is kept. With K folds of m = n / K images and a limit C:

* (2C + m) / (n + m). Let the new image be one of a further fold, and let any two images of different folds compare
  their scores by the model that was trained without both folds. Of n + m images at most 2C + m win against all but C of
  the n images in other folds, and each image is equally likely to be one of them.
* min over whole j of j(j + 1) / (2(m + 1)(j - C/K)). The count of one fold is at least uniform on 0 to m, whatever the
  other counts are: by Markov's inequality on the mean over folds of max(j - count, 0).

Sources: Vovk, Cross-conformal predictors, 2015; Vovk and Wang, Combining p-values via averaging, Biometrika 107 (2020);
Barber et al., Predictive inference with the jackknife+, Annals of Statistics 49 (2021), theorem 4, whose proofs these
sharpen for a given limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics.ranking import FloatArray, Numbers
from fcdd_sweep.metrics.statistics import exact_fraction

OUT_OF_FOLD = "out_of_fold"
"""Value of `split` in `scores.parquet` of training images, each scored by the model that has not seen it."""
FEWEST_FOLDS = 5
"""Where `evaluation.folds` is auto, there are at least as many folds: models of half the images are poor."""


def p_value_column(score_column: str) -> str:
    """Return the column of `scores.parquet` with the p-values of a column of scores."""
    return score_column.replace("score", "p_value", 1)


def false_alarm_bound(limit: int, models: int, per_model: int) -> Fraction:
    """Return the greatest probability with which a new nominal image is called anomalous; see the module.

    Args:
        limit: an image is called anomalous when it has at most this count.
        models: number of folds, at least 1.
        per_model: number of images in each, at least 1.
    """
    tournament = Fraction(2 * limit + per_model, (models + 1) * per_model)
    mean = Fraction(limit, models)
    best = float(mean) + math.sqrt(mean * mean + mean)  # where the second bound is least as a function of a real j
    first = math.floor(mean) + 1
    near = {min(max(each, first), per_model + 1) for each in (math.floor(best), math.ceil(best))}
    merged = [Fraction(j * (j + 1), 2 * (per_model + 1)) / (j - mean) for j in near if j > mean]
    return min(Fraction(1), tournament, *merged)


@lru_cache(maxsize=1024)
def largest_limit(models: int, per_model: int, rate: float) -> int | None:
    """Return the greatest limit whose bound is at most `rate`; None where there is none."""
    wanted = exact_fraction(rate)
    if not models or not per_model or false_alarm_bound(0, models, per_model) > wanted:
        return None
    low, high = 0, models * per_model
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if false_alarm_bound(middle, models, per_model) <= wanted else (low, middle - 1)
    return low


@lru_cache(maxsize=1024)
def fewest_folds(images: int, rate: float) -> int | None:
    """Return the least number of folds, from `FEWEST_FOLDS` on, that gives decisions; None where no number does.

    Args:
        images: number of nominal training images; what remains when they are divided by the folds is in all trainings.
        rate: the false-alarm rate.
    """
    for models in range(max(2, min(FEWEST_FOLDS, images)), images + 1):
        if largest_limit(models, images // models, rate) is not None:
            return models
    return None


@dataclass(frozen=True)
class LeftOutScores:
    """Scores of nominal training images by the models that have not seen them.

    Attributes:
        fold: (n,) int64, from 0: which model scored an image; all folds have equally many images.
        columns: (n,) float64 by column of `scores.parquet`.
    """

    fold: npt.NDArray[np.int64]
    columns: Mapping[str, FloatArray]

    def __len__(self) -> int:
        return len(self.fold)

    @property
    def models(self) -> int:
        return int(self.fold.max()) + 1 if len(self.fold) else 0

    @property
    def per_model(self) -> int:
        return len(self.fold) // max(self.models, 1)

    def counts(self, model: int, column: str, values: Numbers) -> npt.NDArray[np.int64]:
        """Return of each value, a score by one of the models, how many images that it left out have at least it.

        Args:
            model: its number.
            column: of the scores.
            values: of any shape.
        """
        own = np.sort(self.columns[column][self.fold == model])
        found: npt.NDArray[np.int64] = len(own) - np.searchsorted(own, values, side="left")
        return found

    def p_values(self, counts: npt.NDArray[np.int64]) -> FloatArray:
        """Return the p-values of counts over all models, between 0 and 1."""
        return (1 + counts) / (len(self) + 1)

    def limit(self, rate: float) -> int | None:
        """Return the largest count of an image that is called anomalous; None where no decision keeps the rate."""
        return largest_limit(self.models, self.per_model, rate)

    def level(self, rate: float) -> float:
        """Return the p-value up to which an image is called anomalous; NaN where no decision keeps the rate."""
        limit = self.limit(rate)
        return math.nan if limit is None else (1 + limit) / (len(self) + 1)
