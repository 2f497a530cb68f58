"""The images that a trial's figures show."""

from __future__ import annotations

import numpy as np

from fcdd_sweep.metrics import shown_images


def test_equidistant_images_run_from_most_nominal_to_most_anomalous():
    label = np.array([0, 1] * 20)
    score = np.random.default_rng(0).permutation(40).astype(float)
    chosen = shown_images.equidistant(label, score, 1)
    own = np.sort(score[label == 1])
    assert (label[chosen] == 1).all()
    np.testing.assert_array_equal(score[chosen], own[[0, 4, 8, 11, 15, 19]])
    assert len(shown_images.equidistant(label[:6], score[:6], 1)) == 3
    assert len(shown_images.equidistant(np.zeros(5), np.arange(5.0), 1)) == 0


def test_shown_images_are_those_of_all_figures_once_each():
    rng = np.random.default_rng(4)
    label, score = rng.integers(0, 2, 300), rng.normal(size=300)
    chosen = shown_images.shown_images(label, score)
    assert (np.diff(chosen) > 0).all()
    for value in (0, 1):
        own = np.flatnonzero(label == value)
        by_score = own[np.argsort(score[own])]
        for part in (shown_images.equidistant(label, score, value), own[:20], by_score[:10], by_score[-10:]):
            assert set(part) <= set(chosen)


def test_extremes_of_few_images_name_none_twice():
    chosen = shown_images.extremes(np.zeros(13), np.arange(13.0), 0)
    assert sorted(chosen) == list(range(13))
