"""Several models that decide together: p-values and masks against loops, and the same decisions from a snapshot."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fcdd_sweep.export import export_onnx
from fcdd_sweep.metrics.cross_conformal import largest_limit
from fcdd_sweep.metrics.image_decision import closed
from fcdd_sweep.prediction.targets import with_threshold
from fcdd_sweep.training.detector import load_detector
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.tiling import TiledPredictor
from fcdd_sweep.training.trainer import train
from tests.specs import defects_corpus, spec

CORPUS = defects_corpus(train=26)
TEST = CORPUS.images[CORPUS.is_test]


@functools.cache
def trained(image_score="mean"):
    evaluation = {"calibration": "cross", "folds": 4, "false_alarm_rate": 0.45, "image_score": image_score}
    return train(spec(training={"epochs": 6}, evaluation=evaluation, keep={"maps": "all"}), TrialData(CORPUS))


@pytest.fixture(params=["mean", "max"])
def result(request):
    return trained(request.param)


@pytest.fixture
def detector(result, tmp_path):
    torch.save(result.snapshot, tmp_path / "snapshot.pt")
    return load_detector(tmp_path / "snapshot.pt", "cpu")


def test_maps_and_scores_are_means_over_the_models(result, detector):
    members = detector.ensemble.members
    assert len(members) == 4 and detector.network is members[0].network
    each = [member.detect(TEST) for member in members]
    found = detector.detect(TEST)
    assert found.maps.numpy() == pytest.approx(np.mean([one.maps.numpy() for one in each], 0), rel=1e-6)
    assert found.scores.tolist() == pytest.approx(np.mean([one.scores.numpy() for one in each], 0), rel=1e-12)
    assert result.scores["score_mean"][:24] == found.scores.tolist()
    assert len(detector.detect(TEST[:0]).maps) == 0 and len(detector.scored(TEST[:0]).columns["p_value_mean"]) == 0


def test_p_values_and_masks_are_those_of_loops(result, detector):
    """The mask marks a pixel whose value few left-out heatmaps reach anywhere, by the models that left them out."""
    members, left_out = detector.ensemble.members, detector.ensemble.left_out
    joint = detector.detect_together(TEST, batch_size=7)
    limit = largest_limit(4, 6, 0.45)
    pixels = np.zeros((24, 28, 28), int)
    means = np.zeros(24, int)
    for k, member in enumerate(members):
        found, own = member.detect(TEST), left_out.fold == k
        heat = member.heatmaps(found.maps)[:, 0].numpy()
        for largest, mean in zip(left_out.columns["score_max"][own], left_out.columns["score_mean"][own], strict=True):
            pixels += largest >= heat
            means += mean >= found.scores.numpy()
    assert (joint.masks == (pixels <= limit)).all() and joint.masks.any() and not joint.masks.all()
    assert joint.p_values["p_value_mean"].tolist() == ((1 + means) / 25).tolist()
    assert joint.p_values["p_value_max"].tolist() == ((1 + pixels.min((1, 2))) / 25).tolist()
    for name, values in joint.p_values.items():
        assert result.scores[name][:24] == values.tolist()
    has_region = joint.masks.any((1, 2))
    assert result.metrics["test_region_rate"] == has_region[np.array(result.scores["label"][:24]) == 0].mean()


def test_predictions_are_the_stored_decisions(result, detector):
    column = result.metrics["image_score"].replace("score", "p_value")
    labels = (np.array(result.scores[column][:24]) <= result.metrics["p_value_level"]).astype(int)
    found = detector.predict(TEST)
    assert [each.label for each in found] == labels.tolist() and 0 < labels.sum() < 24
    assert [each.score for each in found] == pytest.approx(result.scores["score"][:24], rel=1e-12)
    assert [each.decision.p_value for each in found] == result.scores[column][:24]
    assert all(each.threshold is None and "proven bound" in each.basis for each in found)
    if column == "p_value_max":  # image and mask are decided by the same pixels
        assert all(each.agrees for each in found) and result.metrics["test_agreement"] == 1.0


def test_without_a_decision_there_is_no_label_and_no_mask(detector):
    evaluation = detector.settings.evaluation.model_copy(update={"false_alarm_rate": 0.01})
    strict = replace(detector, settings=detector.settings.model_copy(update={"evaluation": evaluation}))
    assert strict.detect_together(TEST[:2]).masks is None
    assert [(each.label, each.has_region) for each in strict.predict(TEST[:2])] == [(None, None)] * 2


@pytest.mark.parametrize("result", [pytest.param("mean", marks=pytest.mark.long), "max"], indirect=True)
@pytest.mark.slow
def test_the_exported_file_decides_as_the_models_do_together(result, detector, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("torch", minversion="2.7")
    torch.save(result.snapshot, tmp_path / "snapshot.pt")
    written = export_onnx(tmp_path / "snapshot.pt", tmp_path / "x.onnx", [saved_images(tmp_path)])
    assert written.differences.is_small and not written.notes
    session = onnxruntime.InferenceSession((tmp_path / "x.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["score", "heatmap", "p_value", "anomalous", "mask"]
    found = dict(zip(names, session.run(None, {"images": TEST}), strict=True))
    column = result.metrics["image_score"].replace("score", "p_value")
    joint = detector.detect_together(TEST)
    assert found["score"] == pytest.approx(np.array(result.scores["score"][:24]), rel=1e-5)
    assert found["p_value"] == pytest.approx(joint.p_values[column], rel=1e-6)
    assert found["anomalous"].tolist() == [each.label == 1 for each in detector.predict(TEST)]
    assert (found["mask"][:, 0] == closed(joint.masks, detector.cell_px)).all() and 0 < found["anomalous"].sum() < 24
    about = session.get_modelmeta().custom_metadata_map
    assert (about["models"], float(about["p_value_level"])) == ("4", result.metrics["p_value_level"])


def saved_images(folder):
    """A folder with the test images as files."""
    (folder / "images").mkdir()
    for i, image in enumerate(TEST):
        Image.fromarray(np.moveaxis(image, 0, -1).squeeze()).save(folder / "images" / f"{i}.png")
    return folder / "images"


def test_decisions_that_hang_on_rounding_are_those_that_slack_turns(detector):
    """An image that scores exactly as a left-out image does is on the edge: raised a little, it counts one less."""
    column = "p_value_mean"
    plain = detector.detect_together(TEST).p_values[column]
    raised, lowered = (detector.detect_together(TEST, slack=slack).p_values[column] for slack in (0.5, -0.5))
    assert (raised <= plain).all() and (plain <= lowered).all() and (raised < lowered).any()
    unchanged = detector.detect_together(TEST, slack=1e-12).p_values[column]
    assert unchanged.tolist() == plain.tolist()


@pytest.mark.parametrize("tile", [12, pytest.param(5, marks=pytest.mark.long)])
def test_tiles_decide_as_the_whole_image_does(detector, tile):
    whole, in_tiles = detector.predict(TEST), TiledPredictor(detector, tile).predict(TEST)
    assert [each.label for each in in_tiles] == [each.label for each in whole]
    assert [each.decision.p_value for each in in_tiles] == [each.decision.p_value for each in whole]
    assert [each.score for each in in_tiles] == pytest.approx([each.score for each in whole], rel=1e-5)
    assert all((a.decision.mask == b.decision.mask).all() for a, b in zip(whole, in_tiles, strict=True))
    (native,) = TiledPredictor(detector, tile, native_scale=True).predict(TEST[:1])
    assert native.label is None and native.decision.p_value is None


def test_a_threshold_of_the_user_labels_by_the_score_and_leaves_the_mask(detector):
    plain, given = detector.predict(TEST), with_threshold(detector, 0.5).predict(TEST)
    assert [each.label for each in given] == [int(each.score > 0.5) for each in plain]
    assert all((a.decision.mask == b.decision.mask).all() for a, b in zip(plain, given, strict=True))
    assert all("is yours" in each.basis and each.threshold == 0.5 for each in given)
