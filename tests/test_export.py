"""Export of a detector as an ONNX file."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from fcdd_sweep import cli, export
from fcdd_sweep.config.errors import InputError
from fcdd_sweep.export import differences, export_onnx, onnx_bytes
from fcdd_sweep.prediction.predict import predict
from fcdd_sweep.results import files
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.trainer import train
from tests.detectors import random_detector
from tests.specs import defects_corpus, spec

DOCS = Path(__file__).parent.parent / "docs" / "export.md"
CORPUS = defects_corpus()
ASIDE = {"validation": {"nominal_fraction": 0.25}}


@pytest.fixture(scope="module")
def outcome():
    return train(spec(evaluation=ASIDE), TrialData(CORPUS))


@pytest.fixture
def leaf(outcome, tmp_path):
    """A trial's folder with what export reads."""
    torch.save(outcome.snapshot, tmp_path / "snapshot.pt")
    files.write_arrays(tmp_path / "maps.npz", outcome.maps)
    return tmp_path


def session_of(content):
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def found_and_expected(detector, raw):
    session = session_of(onnx_bytes(detector))
    detection = detector.detect(raw)
    return session.run(None, {"images": raw}), (detection.scores.numpy(), detector.heatmaps(detection.maps).numpy())


@pytest.mark.parametrize(
    ("network", "method", "size"),
    [
        ({"name": "FCDD_CNN28_W"}, "fcdd", 28),
        ({"name": "FCDD_CNN32_LW3K"}, "fcdd", 32),
        ({"name": "FCDD_CNN32_S"}, "fcdd", 35),
        ({"name": "FCDD_CNN224"}, "fcdd", 96),
        ({"name": "FCDD_CNN224_VGG_NOPT"}, "fcdd", 64),
        ({"backbone": "resnet18", "node": "layer2", "weights": "none"}, "fcdd", 64),
        ({"backbone": "efficientnet_b0", "node": "features.4", "weights": "none"}, "fcdd", 64),
        ({"name": "AE28"}, "ae", 28),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else None,
)
@pytest.mark.slow
def test_every_network_family_gives_the_numbers_of_torch(network, method, size):
    detector, raw = random_detector(network, method, size)
    (score, heatmap), (expected, expected_heatmap) = found_and_expected(detector, raw)
    assert np.ptp(expected) > 1e-3 * expected.max()
    np.testing.assert_allclose(score, expected, rtol=0, atol=1e-4 * expected.max())
    np.testing.assert_allclose(heatmap, expected_heatmap, rtol=0, atol=1e-4 * expected_heatmap.max())


@pytest.mark.parametrize(
    ("preprocessing", "dataset", "channels", "supervision"),
    [
        ("none", "textures", 1, "maps"),
        ("lcn", "textures", 1, "maps"),
        ("aug1", "textures", 3, "maps"),
        ("aug1", "folder", 3, "labels"),  # photographs trained by crops alone are tested on the central crop
        ("aug1", "cifar10", 3, "labels"),
    ],
)
@pytest.mark.slow
def test_every_preprocessing_gives_the_numbers_of_torch(preprocessing, dataset, channels, supervision, tmp_path):
    detector, raw = random_detector(
        {"name": "FCDD_CNN28"},
        size=28,
        channels=channels,
        dataset={"name": dataset, **({} if dataset == "textures" else {"root": tmp_path})},
        preprocessing=preprocessing,
        training={"supervision": supervision},
    )
    raw[0] = 77  # a constant image, which local contrast normalization makes 0
    (score, heatmap), (expected, expected_heatmap) = found_and_expected(detector, raw)
    np.testing.assert_allclose(score, expected, rtol=0, atol=1e-4 * expected.max())
    np.testing.assert_allclose(heatmap, expected_heatmap, rtol=0, atol=1e-4 * expected_heatmap.max())


@pytest.mark.slow
def test_labels_follow_the_threshold_and_batches_have_any_size():
    plain, raw = random_detector({"name": "FCDD_CNN28"}, size=28)
    scores = plain.detect(raw).scores.numpy()
    middle = float(np.sort(scores)[5:7].mean())
    detector, _ = random_detector({"name": "FCDD_CNN28"}, size=28, threshold=middle)
    session = session_of(onnx_bytes(detector))
    for batch in (raw, raw[:1], raw[:5]):
        score, heatmap, anomalous = session.run(None, {"images": batch})
        assert score.shape == anomalous.shape == (len(batch),) and heatmap.shape == (len(batch), 1, 28, 28)
        assert anomalous.tolist() == (scores[: len(batch)] > middle).tolist()


@pytest.mark.slow
def test_the_file_holds_its_metadata_and_no_path_of_this_machine(outcome, leaf):
    export_onnx(leaf, leaf / "x.onnx")
    about = session_of((leaf / "x.onnx").read_bytes()).get_modelmeta().custom_metadata_map
    assert about["threshold"] == ""  # too few images are held out for a decision
    expected = {"normal_class": "plain", "method": "fcdd", "network": "FCDD_CNN28", "load_size": "32", "size": "28"}
    assert {name: about[name] for name in expected} == expected
    assert json.loads(about["settings"])["preprocessing"] == about["preprocessing"] == "lcnaug1"
    documented = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.+?)\|", DOCS.read_text(), re.MULTILINE)))
    assert set(about) <= set(documented)
    assert str(Path(export.__file__).parent).encode() not in (leaf / "x.onnx").read_bytes()


@pytest.mark.slow
def test_the_file_is_checked_on_the_images_that_are_said(leaf):
    kept = export_onnx(leaf, leaf / "x.onnx")
    assert kept.images == f"24 test images of {leaf / 'maps.npz'}"
    assert kept.score_difference < 1e-5 and kept.heatmap_difference < 1e-5
    (leaf / "photos").mkdir()
    for i in range(3):
        Image.fromarray(CORPUS.images[i, 0]).save(leaf / "photos" / f"{i}.png")
    (leaf / "photos" / "2.png").write_bytes(b"no image")
    given = export_onnx(leaf / "snapshot.pt", leaf / "x.onnx", [leaf / "photos"])
    assert given.images == f"2 images of {leaf / 'photos'}" and "2.png" in given.notes[0]


@pytest.mark.slow
def test_a_file_whose_results_differ_is_not_left(leaf, monkeypatch):
    def rounded(self, images):
        maps, scores = self.detector.method.detect(
            self.network, self.detector.preprocessor.normalized(images[..., :28, :28] / 255)
        )
        return scores.float() * 1.001, self.weights @ maps @ self.weights.mT, scores > 0

    monkeypatch.setattr(export._Graph, "forward", rounded)
    with pytest.raises(InputError, match=r"x.onnx: onnxruntime differs from torch by .* Allowed: at most 0.0001"):
        export_onnx(leaf, leaf / "x.onnx")
    assert not (leaf / "x.onnx").exists()


def test_the_difference_is_relative_to_the_largest_score(monkeypatch):
    detector, raw = random_detector({"name": "FCDD_CNN28"}, size=28)
    detection = detector.detect(raw)
    scores, heatmaps = detection.scores.numpy().astype(np.float32), detector.heatmaps(detection.maps).numpy()
    scores[3] += 0.25 * scores.max()
    heatmaps[10, 0, 5, 7] -= 0.5 * heatmaps.max()

    class Session:
        taken = 0

        def __init__(self, content, providers):
            pass

        def run(self, names, inputs):
            part = slice(Session.taken, Session.taken + len(inputs["images"]))
            Session.taken = part.stop
            return [scores[part], heatmaps[part]]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert differences(detector, b"", raw) == pytest.approx((0.25, 0.5), rel=1e-5)


def test_hsc_is_refused_by_name(leaf):
    detector, _ = random_detector({"name": "CNN28"}, "hsc", 28)
    torch.save(detector.snapshot(), leaf / "hsc.pt")
    with pytest.raises(InputError, match="method hsc cannot be exported"):
        export_onnx(leaf / "hsc.pt", leaf / "x.onnx")


def test_without_images_to_check_on_nothing_is_written(leaf):
    (leaf / "maps.npz").unlink()
    with pytest.raises(InputError, match=r"no images to check the export on.*--images DIR"):
        export_onnx(leaf, leaf / "x.onnx")
    assert not (leaf / "x.onnx").exists()


def test_a_missing_package_is_bad_input_that_names_the_extra(leaf, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else object())
    assert cli.main(["export", str(leaf), "--onnx", str(leaf / "x.onnx")]) == 2
    error = capsys.readouterr().err
    assert (
        "needs onnxscript, which is not installed" in error
        and "pip install onnxscript" in error
        and "'.[export]'" in error
    )


@pytest.mark.parametrize("photo", ["crop.png", "turned.jpg", "gray.png"])
@pytest.mark.slow
def test_the_documented_example_gives_the_scores_of_predict(photo, leaf, exported, capsys):
    name, images = exported[photo]
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line]) <= 30
    (leaf / "score.py").write_text(code)
    run = [sys.executable, "-I", str(leaf / "score.py"), str(name), str(images)]
    result = subprocess.run(run, capture_output=True, text=True, cwd=leaf, check=True)
    row = files.read_table(predict(name.with_suffix(".pt"), [images], leaf / "out").scores).to_pylist()[0]
    path, score, label, *_ = result.stdout.split()
    assert path == str(images) and float(score) == pytest.approx(row["score"], rel=1e-5)
    assert label == str(row["label"] == 1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Photographs by name, each with the file of a detector that reads it in another way."""
    folder = tmp_path_factory.mktemp("exported")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(folder / "crop.png")
    Image.fromarray(pixels).save(folder / "turned.jpg", exif=exif, quality=95)
    Image.fromarray(pixels[..., 0]).save(folder / "gray.png")
    ways = {
        "crop.png": (3, {"aspect": "crop", "resize": "area"}),
        "turned.jpg": (3, {"aspect": "stretch", "resize": "bilinear"}),
        "gray.png": (1, {"aspect": "stretch", "resize": "nearest"}),
    }
    found = {}
    for photo, (channels, images) in ways.items():
        color = "rgb" if channels == 3 else "gray"
        sizes = {"load_size": 32, "size": 28, "color": color, **images}
        detector, _ = random_detector({"name": "FCDD_CNN28"}, "fcdd", 28, channels, 0.001, images=sizes)
        name = folder / f"{photo}.onnx"
        torch.save(detector.snapshot(), name.with_suffix(".pt"))
        export_onnx(name.with_suffix(".pt"), name, [folder])
        found[photo] = (name, folder / photo)
    return found
