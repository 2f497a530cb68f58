"""Export of a detector as an ONNX file."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from packaging.version import Version
from PIL import Image

import fcdd_sweep
from fcdd_sweep import cli, export
from fcdd_sweep.config.errors import InputError
from fcdd_sweep.export import Differences, differences, export_onnx, onnx_bytes, run_onnx
from fcdd_sweep.prediction.predict import predict
from fcdd_sweep.results import files
from fcdd_sweep.training import detector_graph
from fcdd_sweep.training.detector import load_detector
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.trainer import train
from tests.detectors import random_detector
from tests.specs import defects_corpus, small_experiment, spec

DOCS = Path(__file__).parent.parent / "docs" / "export.md"
CORPUS = defects_corpus()
ASIDE = {"validation": {"nominal_fraction": 0.25}}
pytestmark = pytest.mark.skipif(
    Version(torch.__version__).release < export.LEAST_TORCH, reason="this torch cannot trace detectors"
)


@pytest.fixture(scope="module")
def outcome():
    return train(spec(evaluation=ASIDE), TrialData(CORPUS))


@pytest.fixture
def leaf(outcome, tmp_path):
    """A trial's folder with what export reads."""
    return write_leaf(outcome, tmp_path)


def write_leaf(outcome, folder):
    torch.save(outcome.snapshot, folder / "snapshot.pt")
    files.write_arrays(folder / "maps.npz", outcome.maps)
    return folder


@pytest.fixture(scope="module")
def plain_export(outcome, tmp_path_factory):
    """The export of a trial without thresholds, and the content of its file."""
    folder = write_leaf(outcome, tmp_path_factory.mktemp("plain"))
    return export_onnx(folder, folder / "x.onnx"), (folder / "x.onnx").read_bytes()


def session_of(content):
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def found_and_expected(detector, raw):
    session = session_of(onnx_bytes(detector))
    detection = detector.detect(raw)
    return session.run(["score", "heatmap"], {"images": raw}), (
        detection.scores.numpy(),
        detector.heatmaps(detection.maps).numpy(),
    )


@pytest.mark.parametrize(
    ("network", "method", "size"),
    [
        pytest.param({"name": "FCDD_CNN28_W"}, "fcdd", 28, marks=pytest.mark.long),
        pytest.param({"name": "FCDD_CNN32_LW3K"}, "fcdd", 32, marks=pytest.mark.long),
        pytest.param({"name": "FCDD_CNN32_S"}, "fcdd", 35, marks=pytest.mark.long),
        pytest.param({"name": "FCDD_CNN224"}, "fcdd", 96, marks=pytest.mark.long),
        pytest.param({"name": "FCDD_CNN224_VGG_NOPT"}, "fcdd", 64, marks=pytest.mark.long),
        pytest.param({"backbone": "resnet18", "node": "layer2", "weights": "none"}, "fcdd", 64, marks=pytest.mark.long),
        pytest.param(
            {"backbone": "efficientnet_b0", "node": "features.4", "weights": "none"}, "fcdd", 64, marks=pytest.mark.long
        ),
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
        ("lcn", "textures", 1, "maps"),
        ("aug1", "folder", 3, "labels"),  # photographs trained by crops alone are tested on the central crop
        pytest.param("none", "textures", 1, "maps", marks=pytest.mark.long),
        pytest.param("aug1", "textures", 3, "maps", marks=pytest.mark.long),
        pytest.param("aug1", "cifar10", 3, "labels", marks=pytest.mark.long),
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
def test_local_contrast_of_faint_images_is_that_of_torch():
    """onnxruntime sums float32 one by one, and dividing by a small contrast would enlarge the rounding."""
    detector, raw = random_detector({"name": "FCDD_CNN28"}, size=28, preprocessing="lcn")
    graph = detector_graph.DetectorGraph(detector)
    faint = torch.from_numpy(200 + (raw[:4] > 100).astype(np.uint8))
    visible = faint.index_select(2, graph.models[0].rows).index_select(3, graph.models[0].columns)
    exact = detector.preprocessor.normalized((visible.float() / 255).double())
    seen = []
    detector.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        graph(faint)
    torch.testing.assert_close(seen[0].double(), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("image_score", [pytest.param("max", marks=pytest.mark.long), {"top": 0.01}], ids=str)
@pytest.mark.slow
def test_every_image_score_and_both_thresholds_decide_as_the_detector_does(image_score):
    plain, raw = random_detector({"name": "FCDD_CNN28"}, size=28, evaluation={"image_score": image_score})
    detection = plain.detect(raw)
    scores, heatmaps = plain.scores(detection)[plain.score_column], plain.heatmaps(detection.maps).numpy()
    between = float(np.sort(scores)[5:7].mean()), float(np.sort(heatmaps.max((1, 2, 3)))[2:4].mean())
    detector = dataclasses.replace(plain, threshold=between[0], pixel_threshold=between[1])
    session, names = session_of(content := onnx_bytes(detector)), ["score", "heatmap", "anomalous", "mask"]
    for batch in (raw, raw[:1], raw[:5]):
        n = len(batch)
        score, heatmap, anomalous, mask = session.run(names, {"images": batch})
        assert score.shape == anomalous.shape == (n,) and heatmap.shape == mask.shape == (n, 1, 28, 28)
        np.testing.assert_allclose(score, scores[:n], rtol=1e-5)
        assert anomalous.tolist() == (scores[:n] > between[0]).tolist()
        np.testing.assert_array_equal(mask, heatmap > between[1])
        assert mask.any((1, 2, 3)).tolist() == (heatmaps[:n].max((1, 2, 3)) > between[1]).tolist()
    assert anomalous.any() or len(raw) > 5
    found = differences(detector, run_onnx(content, names), raw)
    assert found.is_small and found.score < 1e-5 and found.labels == 0


@pytest.mark.slow
def test_without_thresholds_the_file_has_no_decisions_and_the_command_says_why(plain_export):
    result, content = plain_export
    assert [output.name for output in session_of(content).get_outputs()] == ["score", "heatmap"]
    wanted = "The file has no output 'anomalous' and 'mask': no decision: hold out at least 19 nominal images"
    assert any(note.startswith(wanted) for note in result.notes)


@pytest.mark.slow
def test_the_file_holds_its_metadata_and_no_path_of_this_machine(plain_export):
    _, content = plain_export
    about = session_of(content).get_modelmeta().custom_metadata_map
    assert about["threshold"] == about["pixel_threshold"] == ""  # too few images are held out for a decision
    assert about["calibration"].startswith("no decision: hold out at least 19 nominal images")
    expected = {"normal_class": "plain", "method": "fcdd", "network": "FCDD_CNN28", "load_size": "32", "size": "28"}
    expected |= {"image_score": "score_mean", "false_alarm_rate": "0.05", "n_calibration": "10"}
    expected |= {"config_id": spec(evaluation=ASIDE).config_id, "fcdd_sweep": version("fcdd_sweep"), "preset": ""}
    assert {name: about[name] for name in expected} == expected
    assert json.loads(about["settings"])["preprocessing"] == about["preprocessing"] == "lcnaug1"
    documented = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.+?)\|", DOCS.read_text(), re.MULTILINE)))
    assert set(about) == set(documented) - {"images", "score", "heatmap", "p_value", "anomalous", "mask"}
    assert str(Path(export.__file__).parent).encode() not in content


@pytest.mark.slow
def test_the_file_of_a_runs_trial_is_checked_on_images_of_its_data_set_and_names_its_experiment(load, tmp_path):
    text = small_experiment("training: {epochs: 1, passes_per_epoch: 1}\nkeep: {pictures: none}\nseeds: [4]", '["3"]')
    fcdd_sweep.run_sweep(load(text, f"output={tmp_path}"), local=True, progress=None)
    leaf = tmp_path / "small" / "normal_3" / "it_4"
    result = export_onnx(leaf, tmp_path / "x.onnx")
    assert result.images == "100 test images of digits" and result.differences.is_small
    about = session_of((tmp_path / "x.onnx").read_bytes()).get_modelmeta().custom_metadata_map
    digest = hashlib.sha256((tmp_path / "small" / "experiment.yaml").read_bytes()).hexdigest()[:12]
    trial_id = files.read_spec(leaf).trial_id
    expected = {
        "experiment": "small",
        "preset": "digits",
        "experiment_digest": digest,
        "trial_id": trial_id,
        "seed": "4",
    }
    assert {name: about[name] for name in expected} == expected


@pytest.mark.slow
def test_the_file_is_checked_on_the_images_that_are_said(plain_export, leaf):
    kept, _ = plain_export
    assert kept.images.startswith("24 test images of ") and kept.images.endswith("maps.npz")
    assert any("has no class 'plain'" in note for note in kept.notes)
    assert kept.differences.score < 1e-5 and kept.differences.heatmap < 1e-5
    (leaf / "photos").mkdir()
    for i in range(3):
        Image.fromarray(CORPUS.images[i, 0]).save(leaf / "photos" / f"{i}.png")
    (leaf / "photos" / "2.png").write_bytes(b"no image")
    given = export_onnx(leaf / "snapshot.pt", leaf / "x.onnx", [leaf / "photos"])
    assert given.images == f"2 images of {leaf / 'photos'}" and "2.png" in given.notes[0]


@pytest.mark.slow
def test_a_file_whose_results_differ_is_not_left(leaf, monkeypatch):
    computed = detector_graph.DetectorGraph.forward

    def rounded(self, images):
        score, heatmap = computed(self, images)
        return score * 1.001, heatmap

    monkeypatch.setattr(detector_graph.DetectorGraph, "forward", rounded)
    with pytest.raises(InputError, match=r"x.onnx: onnxruntime differs from torch by 1.0e-03 of .* at most 0.0001"):
        export_onnx(leaf, leaf / "x.onnx")
    assert not (leaf / "x.onnx").exists()


def test_differences_are_relative_to_the_largest_and_decisions_count_beyond_them():
    plain, raw = random_detector({"name": "FCDD_CNN28"}, size=28)
    detection = plain.detect(raw)
    scores, heatmaps = detection.scores.numpy().astype(np.float32), plain.heatmaps(detection.maps).numpy()
    detector = dataclasses.replace(plain, threshold=float(scores[0]) * (1 + 1e-6), pixel_threshold=0.5 * heatmaps.max())
    anomalous, mask = scores > detector.threshold, heatmaps > detector.pixel_threshold
    anomalous[0] = not anomalous[0]  # within rounding of the threshold
    farthest = int(np.abs(scores - detector.threshold).argmax())
    anomalous[farthest] = not anomalous[farthest]
    mask[7, 0, 3, :2] = ~mask[7, 0, 3, :2]
    scores[3] += 0.25 * scores.max()
    heatmaps[10, 0, 5, 7] -= 0.5 * heatmaps.max()

    batches = iter(range(0, len(raw), 8))

    def run(batch):
        part = slice(start := next(batches), start + len(batch))
        return {"score": scores[part], "heatmap": heatmaps[part], "anomalous": anomalous[part], "mask": mask[part]}

    found = differences(detector, run, raw)
    assert found == (pytest.approx(0.25, rel=1e-5), pytest.approx(0.5, rel=1e-5), 3) and not found.is_small
    assert not Differences(0.0, float("nan")).is_small and not Differences(0.0, 0.0, 1).is_small


@pytest.mark.slow
def test_a_program_of_torch_decides_as_the_detector_does_and_holds_the_same_metadata(leaf, plain_export, capsys):
    assert cli.main(["export", str(leaf), "--torch", str(leaf / "x.pt2")]) == 0
    (difference,) = re.findall(r"largest difference to torch: (\S+) of the largest score", capsys.readouterr().out)
    assert float(difference) < 1e-5
    about = {"metadata.json": ""}
    program = torch.export.load(leaf / "x.pt2", extra_files=about).module()
    with torch.no_grad():
        score, heatmap = program(torch.from_numpy(CORPUS.images[:3]))
    np.testing.assert_allclose(
        score, load_detector(leaf / "snapshot.pt", "cpu").detect(CORPUS.images[:3]).scores, rtol=1e-5
    )
    assert heatmap.shape == (3, 1, 28, 28)
    assert json.loads(about["metadata.json"]) == session_of(plain_export[1]).get_modelmeta().custom_metadata_map


def test_an_export_without_a_file_to_write_is_bad_input(leaf, capsys):
    assert cli.main(["export", str(leaf)]) == 2
    assert "--onnx FILE or --torch FILE" in capsys.readouterr().err


def test_hsc_is_refused_by_name(leaf):
    detector, _ = random_detector({"name": "CNN28"}, "hsc", 28)
    torch.save(detector.snapshot(), leaf / "hsc.pt")
    with pytest.raises(InputError, match="method hsc cannot be exported"):
        export_onnx(leaf / "hsc.pt", leaf / "x.onnx")


def test_a_torch_that_cannot_trace_is_refused(leaf, monkeypatch):
    monkeypatch.setattr(export, "LEAST_TORCH", (99, 1))
    with pytest.raises(InputError, match=r"cannot trace a detector.*Allowed: torch 99\.1 or newer. Upgrade torch"):
        export_onnx(leaf, leaf / "x.onnx")


def test_without_images_to_check_on_nothing_is_written(leaf):
    (leaf / "maps.npz").unlink()
    with pytest.raises(InputError, match=r"no images to check the export on.*--images DIR"):
        export_onnx(leaf, leaf / "x.onnx")
    assert not (leaf / "x.onnx").exists()


def test_where_the_kept_images_are_damaged_the_file_is_named(leaf):
    (leaf / "maps.npz").write_bytes((leaf / "maps.npz").read_bytes()[:-100])
    with pytest.raises(InputError, match=r"to check the export on, as maps.npz is damaged .*Or name some with"):
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


@pytest.mark.parametrize(
    "photo", ["crop.png", *(pytest.param(name, marks=pytest.mark.long) for name in ("turned.jpg", "gray.png"))]
)
@pytest.mark.slow
def test_the_documented_example_gives_the_scores_of_predict(photo, leaf, tmp_path, capsys):
    name, images = exported(photo, tmp_path)
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line]) <= 30
    blocked = "import sys; sys.modules.update(fcdd_sweep=None, torch=None)\n"  # not even by accident
    (leaf / "score.py").write_text(blocked + code)
    run = [sys.executable, "-I", str(leaf / "score.py"), str(name), str(images)]
    result = subprocess.run(run, capture_output=True, text=True, cwd=leaf, check=True)
    row = files.read_table(predict(name.with_suffix(".pt"), [images], tmp_path / "out").scores).to_pylist()[0]
    path, score, label, region, *_ = result.stdout.split()
    assert path == str(images) and float(score) == pytest.approx(row["score"], rel=1e-5)
    assert label == ("anomalous" if row["label"] == 1 else "nominal")
    assert float(region.rstrip("%")) == pytest.approx(100 * row["region_area"], abs=0.05)


WAYS = {
    "crop.png": (3, {"aspect": "crop", "resize": "area"}),
    "turned.jpg": (3, {"aspect": "stretch", "resize": "bilinear"}),
    "gray.png": (1, {"aspect": "stretch", "resize": "nearest"}),
}
"""Photographs, each with the channels and the settings of a detector that reads it in another way."""


def exported(photo, folder):
    """The file of the photograph's detector, and the photograph."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    channels, images = WAYS[photo]
    options = {"exif": exif, "quality": 95} if photo.endswith(".jpg") else {}
    Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(folder / photo, **options)
    sizes = {"load_size": 32, "size": 28, "color": "rgb" if channels == 3 else "gray", **images}
    detector, raw = random_detector({"name": "FCDD_CNN28"}, "fcdd", 28, channels, 0.001, images=sizes)
    middle = float(detector.heatmaps(detector.detect(raw).maps).median())
    detector = dataclasses.replace(detector, pixel_threshold=middle)
    name = folder / f"{photo}.onnx"
    torch.save(detector.snapshot(), name.with_suffix(".pt"))
    export_onnx(name.with_suffix(".pt"), name, [folder / photo])
    return name, folder / photo
