"""ROC and precision-recall metrics against scikit-learn and pair counting."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as oracle

from fcdd_sweep.metrics import ranking


def repeated(scores, positives, negatives):
    """The same data with one entry a sample: what scikit-learn understands without doubt."""
    label = np.concatenate([np.ones(positives.sum(), int), np.zeros(negatives.sum(), int)])
    return label, np.concatenate([np.repeat(scores, positives), np.repeat(scores, negatives)])


def counted(seed, n=60, ties=True):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, n).astype(np.float32) if ties else rng.normal(size=n).astype(np.float32)
    return scores, rng.integers(0, 5, n), rng.integers(0, 7, n)


def share_of_ordered_pairs(label, score):
    difference = score[label == 1][:, None] - score[label == 0][None, :]
    return np.mean((difference > 0) + 0.5 * (difference == 0))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [True, False])
def test_counts_give_what_scikit_learn_gives_for_repeated_samples(seed, ties):
    data = counted(seed, ties=ties)
    label, score = repeated(*data)
    assert ranking.auroc(*data) == pytest.approx(oracle.roc_auc_score(label, score), abs=1e-12)
    assert ranking.rank(*data).average_precision() == pytest.approx(
        oracle.average_precision_score(label, score), abs=1e-12
    )
    assert ranking.auroc(*data) == pytest.approx(share_of_ordered_pairs(label, score), abs=1e-12)
    f1 = [oracle.f1_score(label, score >= threshold) for threshold in np.unique(score)]
    assert ranking.rank(*data).f1_max() == pytest.approx(max(f1), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_curves_have_scikit_learns_points(seed):
    data = counted(seed)
    label, score = repeated(*data)
    fpr, tpr, threshold = oracle.roc_curve(label, score, drop_intermediate=False)
    roc = ranking.rank(*data).roc
    np.testing.assert_allclose(np.stack(roc), np.stack([fpr, tpr, threshold]), atol=1e-12)
    precision, recall, threshold = oracle.precision_recall_curve(label, score)
    pr = ranking.rank(*data).pr
    np.testing.assert_allclose(pr.x, recall[::-1], atol=1e-12)
    np.testing.assert_allclose(pr.y, precision[::-1], atol=1e-12)
    np.testing.assert_allclose(pr.threshold[1:], threshold[::-1])


def test_plain_labels_are_counts_of_one():
    label, score = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8, 0.05])
    assert ranking.auroc(score, label) == oracle.roc_auc_score(label, score)
    assert ranking.auroc(score, label) == ranking.auroc(score, label, 1 - label)
    assert ranking.auroc(score, label.astype(bool).astype(int)) == pytest.approx(3.5 / 6)


def test_fractional_weights_agree_with_sample_weights():
    rng = np.random.default_rng(0)
    score, label, weight = rng.normal(size=50), rng.integers(0, 2, 50), rng.random(50)
    mine = ranking.auroc(score, label * weight, (1 - label) * weight)
    assert mine == pytest.approx(oracle.roc_auc_score(label, score, sample_weight=weight), abs=1e-12)


def test_all_scores_equal_is_half():
    assert ranking.auroc(np.zeros(6), np.array([1, 0, 0, 1, 1, 0])) == 0.5


def test_perfect_and_reversed_scores_are_one_and_zero():
    label = np.array([0, 0, 1, 1])
    assert ranking.auroc(label * 1.0, label) == 1.0
    assert ranking.auroc(-1.0 * label, label) == 0.0
    assert ranking.rank(label * 1.0, label).f1_max() == 1.0


@pytest.mark.parametrize("label", [[0, 0, 0], [1, 1, 1]])
def test_a_missing_class_is_undefined_never_zero_or_one(label):
    found = ranking.rank(np.arange(3.0), np.array(label))
    assert np.isnan([found.auroc(), found.average_precision(), found.f1_max()]).all()
    assert np.isnan(found.roc.x).all() or np.isnan(found.roc.y).all()
    assert np.isnan(found.pr.y).all()


def test_curves_begin_above_every_score():
    roc = ranking.rank(np.array([0.3, 0.2]), np.array([1, 0])).roc
    assert (roc.x[0], roc.y[0], roc.threshold[0]) == (0.0, 0.0, np.inf)
    assert (roc.x[-1], roc.y[-1]) == (1.0, 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_of_a_diverged_training_are_refused(bad):
    with pytest.raises(ValueError, match="1 of 3 are not"):
        ranking.auroc(np.array([0.0, bad, 1.0]), np.array([0, 1, 1]))


def test_shapes_that_differ_and_labels_other_than_zero_and_one_are_refused():
    with pytest.raises(ValueError, match="one length"):
        ranking.auroc(np.zeros(3), np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="non-empty"):
        ranking.auroc(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match="0 and 1"):
        ranking.auroc(np.zeros(2), np.array([0, 2]))


def test_scores_too_close_for_a_mean_stay_apart():
    score = np.array([1.0, np.nextafter(np.float32(1), np.float32(2))], np.float32)
    assert ranking.auroc(score, np.array([0, 1])) == 1.0


def test_a_million_entries_take_seconds_at_most():
    rng = np.random.default_rng(0)
    scores = rng.random(1_000_000, np.float32)
    positives, negatives = rng.integers(0, 3, 1_000_000), rng.integers(0, 9, 1_000_000)
    start = time.perf_counter()
    found = ranking.rank(scores, positives, negatives)
    assert abs(found.auroc() - 0.5) < 2e-3
    assert abs(found.average_precision() - 0.2) < 2e-3
    assert time.perf_counter() - start < 5


def brute_counts(mask, size):
    height, width = mask.shape
    positive, total = np.zeros((size, size), int), np.zeros((size, size), int)
    for y in range(height):
        for x in range(width):
            cell = y * size // height, x * size // width
            total[cell] += 1
            positive[cell] += bool(mask[y, x])
    return positive, total


@pytest.mark.parametrize("shape", [(30, 30), (7, 41), (64, 20), (5, 5), (28, 28), (61, 33)])
def test_cell_counts_are_those_of_counting_pixel_by_pixel(shape):
    mask = np.random.default_rng(sum(shape)).random(shape) < 0.3
    positive, total = ranking.cell_counts(mask, 14)
    expected = brute_counts(mask, 14)
    np.testing.assert_array_equal(positive, expected[0])
    np.testing.assert_array_equal(total, expected[1])
    assert total.sum() == mask.size and positive.sum() == mask.sum()


def test_counts_give_the_pixel_metrics_of_the_enlarged_heatmap():
    rng = np.random.default_rng(1)
    heatmap, mask = rng.random((14, 14), np.float32), rng.random((50, 33)) < 0.2
    positive, total = ranking.cell_counts(mask, 14)
    enlarged = heatmap[np.arange(50)[:, None] * 14 // 50, np.arange(33) * 14 // 33]
    counted = ranking.rank(heatmap.ravel(), positive.ravel(), (total - positive).ravel())
    direct = ranking.rank(enlarged.ravel(), mask.ravel().astype(int))
    assert counted.auroc() == pytest.approx(direct.auroc(), abs=1e-12)
    assert counted.average_precision() == pytest.approx(direct.average_precision(), abs=1e-12)


def test_a_map_smaller_than_the_heatmap_leaves_cells_unread():
    _, total = ranking.cell_counts(np.ones((3, 3), bool), 5)
    assert (total == 0).any() and total.sum() == 9


def test_whole_multiples_enlarge_as_pillow_does():
    heatmap = np.random.default_rng(2).random((8, 8)).astype(np.float32)
    mask = np.random.default_rng(3).random((24, 16)) < 0.4
    enlarged = np.asarray(Image.fromarray(heatmap).resize((16, 24), Image.Resampling.NEAREST))
    positive, _ = ranking.cell_counts(mask, 8)
    assert (positive * heatmap).sum() == pytest.approx(enlarged[mask].sum(), rel=1e-5)
