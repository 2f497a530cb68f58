"""The choice of an image score, against slow oracles, and blind to everything but selection images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fcdd_sweep.metrics.decision import calibrating_paths, decision_metrics
from fcdd_sweep.metrics.score_choice import CANDIDATES, SelectionScores, choose_score, is_for_selection

PATHS = [f"good/{i}.png" for i in range(400)]
CHOOSING = [path for path in PATHS if is_for_selection(path)]
CALIBRATING = [path for path in PATHS if not is_for_selection(path)]


def rows(split, paths, label, defect, scores):
    return [
        {"split": split, "path": path, "label": label, "defect": defect, **dict(zip(CANDIDATES, each, strict=True))}
        for path, each in zip(paths, scores, strict=True)
    ]


def columns(found):
    return {name: [row[name] for row in found] for name in found[0]}


def scores(rng, n, shifts):
    """(n, 6) scores: a normal variable that all candidates share, one of each, and a shift by candidate."""
    return rng.normal(size=(n, 1)) + 0.5 * rng.normal(size=(n, len(CANDIDATES))) + np.array(shifts)


NOTHING = (0,) * 6
"""What anomalies add to each score."""


def trial(seed, gains=NOTHING, choosing=8, anomalies=12, split="selection"):
    """Columns of `scores.parquet`: a test set, held-out images of both parts, and anomalies on the choosing ones."""
    rng = np.random.default_rng(seed)
    held_out = [CHOOSING[i] for i in rng.permutation(len(CHOOSING))[:choosing]]
    held_out += [CALIBRATING[i] for i in rng.permutation(len(CALIBRATING))[:30]]
    on = [held_out[i % choosing] for i in range(anomalies)] if choosing else []
    return columns(
        [
            *rows("test", [f"test/{i}" for i in range(20)], 0, "", scores(rng, 20, NOTHING)),
            *rows("test", [f"bad/{i}" for i in range(20)], 1, "stain", scores(rng, 20, (0.3, 3, 1, 1, 1, 1))),
            *rows("validation", held_out, 0, "", scores(rng, len(held_out), NOTHING)),
            *rows(split, on, 1, "mixed_blob", scores(rng, len(on), gains)),
            *rows("reserved", ["bad/99"], 1, "stain", [[None] * len(CANDIDATES)]),
        ]
    )


def selected(found, rate=0.1):
    return SelectionScores.of(found, calibrating_paths(found, rate))


def selections(gains=NOTHING, seeds=range(3), **more):
    return [selected(trial(seed, gains, **more)) for seed in seeds]


def test_about_a_fifth_of_the_images_is_for_the_choice_and_a_new_one_moves_none():
    assert 0.14 < len(CHOOSING) / len(PATHS) < 0.26
    assert is_for_selection("good/3.png") == ("good/3.png" in CHOOSING)


def test_a_score_s_auroc_is_the_share_of_pairs_within_trials_that_it_orders():
    found = selections((0.2, 2, 1, 0.5, 0.3, 0))
    choice = choose_score(found)
    for number, candidate in enumerate(choice.candidates):
        right = pairs = 0.0
        for each in found:
            n, m = len(each.nominal), len(each.anomalous)
            both = np.concatenate([each.nominal[:, number], each.anomalous[:, number]])
            right += n * m * roc_auc_score([0] * n + [1] * m, both)
            pairs += n * m
        assert candidate.auroc == pytest.approx(right / pairs)
        assert candidate.gain == pytest.approx(candidate.auroc - choice.candidates[0].auroc)
    assert (choice.n_trials, choice.n_anomalous) == (3, 36)
    assert choice.n_nominal == len({path for each in found for path in each.nominal_path})


def test_the_standard_error_is_the_spread_of_the_gain_over_draws_of_images():
    """Real anomalies, each an image of its own: the estimate against the spread over 300 draws."""
    rng, gains, estimates = np.random.default_rng(5), [], []
    for _ in range(300):
        each = SelectionScores(
            scores(rng, 15, NOTHING),
            scores(rng, 20, (0.5, 1.0, 1, 1, 1, 1)),
            tuple(f"good/{i}" for i in range(15)),
            tuple(f"bad/{i}" for i in range(20)),
            frozenset({"images"}),
        )
        candidate = choose_score([each]).candidates[1]
        gains.append(candidate.gain)
        estimates.append(candidate.std_error)
    assert np.std(gains) == pytest.approx(math.sqrt(np.mean(np.square(estimates))), rel=0.15)


def test_the_same_images_scored_by_more_trials_are_no_more_evidence():
    """Copies of a trial add no image: gain and standard error stay."""
    (one,) = selections((0.2, 2, 1, 0.5, 0.3, 0), seeds=[4])
    alone, copied = choose_score([one]), choose_score([one] * 4)
    for first, second in zip(alone.candidates, copied.candidates, strict=True):
        assert second[1:] == pytest.approx(first[1:])


@pytest.mark.parametrize(
    ("gains", "column"),
    [
        ((0, 4, 2, 1, 0.5, 0.2), "score_max"),
        ((0, 1, 2, 1, 4, 0.2), "score_top_3"),
        ((0, 0, 0, 0, 0, 0), "score_mean"),
        ((4, 0, 0, 0, 0, 0), "score_mean"),
        ((90, 90, 90, 90, 90, 90), "score_mean"),  # all perfect
        ((0, 90, 90, 90, 90, 90), "score_max"),  # of equal ones the first
    ],
)
def test_the_best_score_is_used_and_the_mean_where_none_is_better_beyond_noise(gains, column):
    choice = choose_score(selections(gains))
    assert choice.column == column and choice.is_made
    best = max(choice.candidates, key=lambda each: each.auroc)
    assert (best.gain > best.std_error) == (column != "score_mean")
    assert (
        f"{len({p for s in selections(gains) for p in s.nominal_path})} nominal images and 36 anomalies" in choice.text
    )
    assert "rendered mixed_blob" in choice.text


def test_the_largest_value_is_preferred_to_others_that_are_better_within_noise_only():
    """It agrees with the decision about the heatmap."""
    found = selections((0, 2.2, 0, 2.8, 0, 0))
    by_column = {each.column: each for each in choose_score(found).candidates}
    assert by_column["score_top_1"].auroc > by_column["score_max"].auroc
    assert choose_score(found).column == "score_max"
    assert choose_score(selections((0, 1, 0, 4, 0, 0))).column == "score_top_1"


def test_a_largest_value_that_is_not_better_than_the_mean_is_not_used_however_noisy_it_is():
    rng = np.random.default_rng(0)
    nominal, anomalous = (np.repeat(rng.normal(size=(n, 1)), len(CANDIDATES), 1) for n in (8, 24))
    anomalous += np.array((1.2, 1.2, 1.2, 1.2, 1.2, 1.7))
    nominal[:, 1], anomalous[:, 1] = rng.normal(size=8), rng.normal(size=24) + 1.2
    names = [tuple(f"{label}/{i}" for i in range(n)) for label, n in (("good", 8), ("spots", 24))]
    choice = choose_score([SelectionScores(nominal, anomalous, *names, frozenset({"spots"}))])
    largest, best = choice.candidates[1], choice.candidates[-1]
    assert best.gain > best.std_error and largest.gain <= largest.std_error
    assert choice.column == "score_top_10"


def test_images_that_calibrate_choose_nothing_nor_do_anomalies_rendered_on_them():
    """Anomalies of `evaluation.validation` may be rendered on any held-out image."""
    found = trial(0, (0, 4, 2, 1, 0.5, 0.2), split="validation")
    wrong = rows("validation", CALIBRATING[:3], 0, "", [[100.0] * 6] * 3)
    wrong += rows("validation", CALIBRATING[:3], 1, "mixed_blob", [[-100.0] * 6] * 3)
    with_wrong = {name: [*values, *(row[name] for row in wrong)] for name, values in found.items()}
    plain, other = selected(found), selected(with_wrong)
    np.testing.assert_array_equal(plain.nominal, other.nominal)
    np.testing.assert_array_equal(plain.anomalous, other.anomalous)
    assert set(plain.nominal_path) <= set(CHOOSING) and len(plain.anomalous) == 12


def test_the_images_of_the_choice_calibrate_no_threshold():
    found = trial(0)
    calibrating = [
        found["score_max"][i]
        for i, (split, path, label) in enumerate(zip(found["split"], found["path"], found["label"], strict=True))
        if split == "validation" and label == 0 and not is_for_selection(path)
    ]
    decided = decision_metrics(found, "score_max", 0.1, selecting=True)
    assert (decided["n_calibration"], decision_metrics(found, "score_max", 0.1)["n_calibration"]) == (30, 38)
    assert decided["threshold"] == sorted(calibrating)[27]  # ceil(31 * 0.9) = 28
    assert decided["threshold_source"].endswith("(8 others chose the image score)")


def test_held_out_images_that_are_too_few_for_any_threshold_all_choose():
    """38 of them: at a rate of 2% 49 are needed, at 10% nine."""
    found = trial(0, (0, 4, 2, 1, 0.5, 0.2))
    assert [len(selected(found, rate).nominal) for rate in (0.02, 0.1)] == [38, 8]
    decided = decision_metrics(found, "score_max", 0.02, selecting=True)
    assert math.isnan(decided["threshold"]) and decided["n_calibration"] == 0
    assert decided["threshold_source"].endswith("a false-alarm rate of 2%; 38 are held out")


def test_real_anomalies_are_told_from_rendered_ones():
    found = trial(0, split="validation")
    real = rows("validation", ["folder/1.png", "folder/2.png"], 1, "folder", [[9.0] * 6] * 2)
    mixed = {name: [*values, *(row[name] for row in real)] for name, values in found.items()}
    assert selected(mixed).sources == {"rendered mixed_blob", "images of evaluation.validation.anomalies"}
    assert len(selected(mixed).anomalous) == 14


def test_test_images_have_no_part_in_choice_and_thresholds():
    """Labels, scores and defects of all test images permuted: nothing that is chosen or calibrated changes."""
    gains, rng = (0, 4, 2, 1, 0.5, 0.2), np.random.default_rng(1)
    plain, permuted = [trial(seed, gains) for seed in range(3)], [trial(seed, gains) for seed in range(3)]
    for found in permuted:
        for name in ("label", "defect", *CANDIDATES):
            found[name][:40] = [found[name][i] for i in rng.permutation(40)]
    first, second = (choose_score([selected(found) for found in each]) for each in (plain, permuted))
    assert first == second and first.column == "score_max"
    for one, other in zip(plain, permuted, strict=True):
        before, after = (decision_metrics(each, first.column, 0.1, selecting=True) for each in (one, other))
        names = ("threshold", "pixel_threshold", "n_calibration", "threshold_source")
        assert [before[name] for name in names] == [after[name] for name in names]
        assert before["accuracy"] != after["accuracy"]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "no scores of selection images"),
        ([trial(0, choosing=0, anomalies=0)], "no scores of selection images"),
        ([trial(0, choosing=1)], "too few selection images"),
        ([{**trial(0), "label": [1 - label for label in trial(0)["label"]]}], "no scores of selection images"),
    ],
    ids=["no trial", "nothing held out", "one image", "nominal label 1"],
)
def test_without_images_of_both_labels_the_score_is_the_mean_and_a_sentence_says_why(found, words):
    choice = choose_score([selected(each) for each in found])
    assert (choice.column, choice.is_made) == ("score_mean", False)
    assert choice.text.startswith("auto: mean of the anomaly map, as trials have") and words in choice.text
