"""Which detectors a folder stands for, and how several predict together."""

import dataclasses
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.prediction.targets import HowToPredict, find_snapshots, load_target
from fcdd_sweep.training.detector import load_detector
from tests.prediction.runs import CORPUS, write_leaf

IMAGES = list(CORPUS.images[CORPUS.is_test][:, 0])


def seeds_of(run):
    return [load_detector(run / "normal_plain" / f"it_{seed}" / "snapshot.pt", "cpu") for seed in range(3)]


def test_a_snapshot_a_leaf_a_class_and_a_run_with_one_class_are_found(run):
    leaf = run / "normal_plain" / "it_1"
    assert find_snapshots(leaf / "snapshot.pt") == find_snapshots(leaf) == ([leaf / "snapshot.pt"], [])
    every = [run / "normal_plain" / f"it_{seed}" / "snapshot.pt" for seed in range(3)]
    assert find_snapshots(run / "normal_plain") == find_snapshots(run) == (every, [])


def test_a_run_with_several_classes_or_configs_names_all_of_them(run, tmp_path):
    for place in ("normal_a/it_0", "lr-0.1/normal_a/it_0", "baselines/hsc/normal_a/it_0", "search/normal_b/it_0"):
        shutil.copytree(run / "normal_plain" / "it_0", tmp_path / place)
    with pytest.raises(InputError) as caught:
        find_snapshots(tmp_path)
    (problem,) = caught.value.problems
    assert problem.what.startswith("holds 2 classes or configs")
    assert problem.allowed == f"one of {tmp_path / 'normal_a'}, {tmp_path / 'lr-0.1' / 'normal_a'}"
    found = find_snapshots(tmp_path / "lr-0.1").snapshots
    assert found == [tmp_path / "lr-0.1" / "normal_a" / "it_0" / "snapshot.pt"]


def test_what_holds_no_snapshot_says_why(tmp_path):
    (tmp_path / "run" / "normal_a" / "it_0").mkdir(parents=True)
    with pytest.raises(InputError, match=r"has no seed that can predict.*unless keep.snapshots is none"):
        find_snapshots(tmp_path / "run")
    (tmp_path / "run" / "normal_a" / "it_0" / "metrics.parquet").touch()
    with pytest.raises(InputError, match=r"it_0: is the folder of a trial without snapshot.pt.*keep.snapshots: all"):
        find_snapshots(tmp_path / "run" / "normal_a" / "it_0")
    (tmp_path / "photos" / "good").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no trials. Allowed: a snapshot.pt, the folder of a trial"):
        find_snapshots(tmp_path / "photos")
    with pytest.raises(InputError, match="there is no such file or folder"):
        find_snapshots(tmp_path / "nowhere")


def test_seeds_vote_and_their_standardized_scores_are_averaged(run):
    found = load_target(run, HowToPredict("cpu")).predictor.predict(IMAGES)
    alone = [detector.predict(IMAGES) for detector in seeds_of(run)]
    z = []
    for seed, predictions in enumerate(alone):
        held_out = held_out_scores(run, seed)
        z.append([(each.score - held_out.mean()) / held_out.std(ddof=1) for each in predictions])
    assert [each.score for each in found] == pytest.approx(np.mean(z, axis=0), rel=1e-5)
    labels = np.array([[each.label for each in predictions] for predictions in alone])
    assert [each.label for each in found] == (labels.sum(0) >= 2).astype(int).tolist()
    assert 0 < labels.sum() < labels.size
    for i, each in enumerate(found):
        assert each.agreement == pytest.approx((labels[:, i] == each.label).mean())
        masks = np.sum([predictions[i].mask for predictions in alone], axis=0)
        np.testing.assert_array_equal(each.mask, masks >= 2)
        mean = np.mean([predictions[i].heatmap / predictions[i].pixel_threshold for predictions in alone], axis=0)
        np.testing.assert_allclose(each.heatmap, mean, rtol=1e-4, atol=1e-6)
    assert found[0].basis.startswith("half of 3 seeds decide, so that at most 20% of new nominal images is called")
    assert found[0].threshold is None and found[0].pixel_threshold is None


def held_out_scores(run, seed):
    """The scores of a seed's held-out nominal images."""
    rows = pq.read_table(run / "normal_plain" / f"it_{seed}" / "scores.parquet").to_pylist()
    return np.array([row["score_max"] for row in rows if row["split"] == "validation" and row["label"] == 0])


def test_seeds_without_held_out_images_give_the_mean_of_their_scores_and_no_decision(tmp_path):
    for seed in (0, 1):
        write_leaf(tmp_path / "normal_plain" / f"it_{seed}", seed, {})
    target = load_target(tmp_path, HowToPredict("cpu"))
    found = target.predictor.predict(IMAGES[:3])
    (note,) = target.notes
    assert note.startswith("Scores are means of the seeds' plain scores: it_0, it_1 have too few different scores of")
    alone = [
        load_detector(tmp_path / "normal_plain" / f"it_{seed}" / "snapshot.pt", "cpu").predict(IMAGES[:3])
        for seed in (0, 1)
    ]
    expected = np.mean([[each.score for each in one] for one in alone], axis=0)
    assert [each.score for each in found] == pytest.approx(expected, rel=1e-6)
    assert {(each.label, each.agreement, each.has_region) for each in found} == {(None, None, None)}
    assert found[0].basis.startswith("no decision")


def test_a_threshold_of_the_users_decides_for_one_seed_and_for_several(run):
    leaf = run / "normal_plain" / "it_0"
    alone = load_detector(leaf / "snapshot.pt", "cpu").predict(IMAGES)
    middle = float(np.median([each.score for each in alone]))
    found = load_target(leaf, HowToPredict("cpu", threshold=middle)).predictor.predict(IMAGES)
    assert [each.label for each in found] == [int(each.score > middle) for each in alone]
    assert {each.threshold for each in found} == {middle} and sum(each.label for each in found) == len(found) // 2
    assert "is yours, without a stated false-alarm rate; for pixels: with 10 held-out images" in found[0].basis
    together = load_target(run, HowToPredict("cpu", threshold=1e9)).predictor.predict(IMAGES[:4])
    assert {(each.label, each.agreement, each.threshold) for each in together} == {(0, 1.0, 1e9)}
    assert "the image threshold of 1e+09 is yours" in together[0].basis


def test_seeds_in_tiles_predict_what_they_predict_as_a_whole(run):
    whole = load_target(run, HowToPredict("cpu")).predictor.predict(IMAGES[:3])
    tiled = load_target(run, HowToPredict("cpu", tile=9)).predictor.predict(IMAGES[:3])
    assert [each.score for each in tiled] == pytest.approx([each.score for each in whole], rel=1e-4)
    assert [each.label for each in tiled] == [each.label for each in whole]
    native = load_target(run, HowToPredict("cpu", native_scale=True)).predictor.predict(IMAGES[:1])
    assert native[0].label is None and native[0].basis == "no threshold: not calibrated at this scale"
    with pytest.raises(InputError, match="--threshold: cannot be used with --native-scale"):
        load_target(run, HowToPredict("cpu", native_scale=True, threshold=1.0))


def test_seeds_that_see_images_differently_do_not_predict_together(run, tmp_path):
    shutil.copytree(run / "normal_plain", tmp_path / "normal_plain")
    path = tmp_path / "normal_plain" / "it_2" / "snapshot.pt"
    detector = load_detector(path, "cpu")
    images = detector.settings.images.model_copy(update={"resize": "nearest"})
    torch.save(dataclasses.replace(
        detector, settings=detector.settings.model_copy(update={"images": images})).snapshot(), path)  # fmt: skip
    with pytest.raises(InputError, match="different settings of images or methods"):
        load_target(tmp_path, HowToPredict("cpu"))


def test_seeds_whose_snapshots_are_of_several_classes_do_not_predict_together(run, tmp_path):
    shutil.copytree(run / "normal_plain", tmp_path / "normal_plain")
    path = tmp_path / "normal_plain" / "it_2" / "snapshot.pt"
    torch.save(dataclasses.replace(load_detector(path, "cpu"), normal_class="nut").snapshot(), path)
    with pytest.raises(InputError, match=r"trained on several classes \(plain, nut\), and cannot predict together"):
        load_target(tmp_path, HowToPredict("cpu"))
