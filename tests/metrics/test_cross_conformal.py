"""Cross-conformal decisions: their bounds against the worst case, and the rate that made scores give."""

from __future__ import annotations

import itertools
import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

from fcdd_sweep.metrics.cross_conformal import (
    LeftOutScores,
    false_alarm_bound,
    fewest_folds,
    largest_limit,
    p_value_column,
)


def worst_case(limit, models, per_model):
    """Greatest probability that counts, each uniform on 0 to `per_model`, add up to at most `limit`, by all joint
    distributions."""
    cells = list(itertools.product(range(per_model + 1), repeat=models))
    margins = [
        [float(cell[model] == count) for cell in cells] for model in range(models) for count in range(per_model + 1)
    ]
    hit = [-float(sum(cell) <= limit) for cell in cells]
    return -linprog(hit, A_eq=margins, b_eq=[1 / (per_model + 1)] * len(margins)).fun


@pytest.mark.parametrize(("models", "per_model"), [(2, 4), (3, 4), (4, 3)])
def test_the_bound_holds_for_any_dependence_of_the_folds(models, per_model):
    for limit in range(models * per_model):
        tournament = Fraction(2 * limit + per_model, (models + 1) * per_model)
        assert min(float(tournament), worst_case(limit, models, per_model)) <= false_alarm_bound(
            limit, models, per_model
        ) + Fraction(1, 10**9)


@pytest.mark.parametrize(("models", "per_model"), [(4, 1), (5, 3), (2, 7)])
def test_no_more_images_win_against_almost_all_others_than_the_bound_says(models, per_model):
    """Of the images of one fold more than there are models, by any outcome of the comparisons."""
    rng = np.random.default_rng(0)
    fold = np.repeat(np.arange(models + 1), per_model)
    apart = fold[:, None] != fold
    for _ in range(200):
        strength = rng.normal(size=len(fold)) * rng.choice([0, 1, 5])
        won = strength[:, None] + rng.normal(size=(len(fold),) * 2) > strength
        wins = (np.triu(won, 1) | np.tril(~won.T, -1)) & apart
        for limit in range(models * per_model):
            most = (wins.sum(1) >= models * per_model - limit).sum()
            assert most <= 2 * limit + per_model


@pytest.mark.parametrize(
    ("limit", "models", "per_model", "bound"),
    [
        (0, 19, 1, Fraction(1, 20)),  # each image left out by a model of its own: as 19 held-out images
        (3, 99, 1, Fraction(7, 100)),
        (0, 5, 19, Fraction(1, 20)),  # as one fold of 19 held-out images
        (0, 5, 4, Fraction(1, 6)),
        (20, 5, 100, min(Fraction(j * (j + 1), 202) / (j - 4) for j in range(5, 102))),
    ],
)
def test_the_bound_has_known_values(limit, models, per_model, bound):
    assert false_alarm_bound(limit, models, per_model) == bound


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
@pytest.mark.parametrize(("models", "per_model"), [(5, 20), (5, 300), (20, 3), (150, 1)])
def test_the_limit_is_the_largest_that_keeps_the_rate(models, per_model, rate):
    limit = largest_limit(models, per_model, rate)
    if limit is None:
        assert false_alarm_bound(0, models, per_model) > rate
        return
    assert false_alarm_bound(limit, models, per_model) <= rate < false_alarm_bound(limit + 1, models, per_model)


@pytest.mark.parametrize(
    ("images", "rate", "folds"),
    [(18, 0.05, None), (19, 0.05, 19), (24, 0.05, 19), (60, 0.05, 19), (95, 0.05, 5), (94, 0.05, 19), (3, 0.3, 3)],
)
def test_as_few_models_are_trained_as_decisions_need(images, rate, folds):
    assert fewest_folds(images, rate) == folds


def by_mean(train, x):
    return np.abs(x - train.mean(1, keepdims=True)).max(-1)


def by_neighbor(train, x):
    return np.abs(x[:, :, None] - train[:, None]).max(-1).min(2)


@pytest.mark.parametrize("score", [by_mean, by_neighbor])
@pytest.mark.parametrize(("images", "models", "rate"), [(24, 24, 0.05), (40, 5, 0.2), (60, 20, 0.1)])
def test_over_redraws_no_more_nominal_images_are_called_anomalous_than_stated(score, images, models, rate):
    """An "image" has two values; its "heatmap" are their distances, of which the largest is its score."""
    redraws = 1000
    drawn = np.random.default_rng(5).standard_t(3, size=(redraws, images + 1, 2))
    train, new = drawn[:, :images], drawn[:, images:]
    fold, counts = np.arange(images) % models, np.zeros(redraws, int)
    for model in range(models):
        left_out = score(train[:, fold != model], train[:, fold == model])
        counts += (left_out >= score(train[:, fold != model], new)).sum(1)
    alarms = (counts <= largest_limit(models, images // models, rate)).mean()
    assert 0 < alarms <= rate + 2 * math.sqrt(rate / redraws)


def test_counts_are_those_of_a_loop_and_ties_count_against_an_alarm():
    rng = np.random.default_rng(1)
    fold = np.repeat([0, 1, 2], 4)
    scores = LeftOutScores(fold, {"score_mean": rng.integers(0, 5, 12).astype(float)})
    values = rng.integers(-1, 6, (3, 2, 2)).astype(np.float32)
    slow = [[(scores.columns["score_mean"][fold == k] >= value).sum() for value in values.ravel()] for k in range(3)]
    found = [scores.counts(model, "score_mean", values).ravel().tolist() for model in range(3)]
    assert found == [list(map(int, each)) for each in slow]
    assert (scores.models, scores.per_model, len(scores)) == (3, 4, 12)
    assert scores.p_values(np.array([0, 12])).tolist() == [1 / 13, 1.0]


def test_every_column_of_scores_has_one_of_p_values():
    assert (p_value_column("score_mean"), p_value_column("score_top_0_1")) == ("p_value_mean", "p_value_top_0_1")


def test_the_documented_numbers_of_models_are_those_that_are_taken():
    text = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\S+|no decision) \| (\d+) \| (\d+) \|$", text, flags=re.MULTILINE)
    assert len(rows) == 4
    for images, *models in rows:
        found = [fewest_folds(int(images), rate) for rate in (0.05, 0.1, 0.2)]
        assert [str(each or "no decision") for each in found] == models
