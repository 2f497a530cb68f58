"""What a plan says although nothing is wrong: what the machine lacks, what will be fetched, what is scarce."""

from __future__ import annotations

import re
import shutil

import pytest

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.config.schema import Images
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.records import DatasetScan, one_vs_rest_record
from fcdd_sweep.planning import plan as planning
from fcdd_sweep.planning.checks import Machine, this_machine
from fcdd_sweep.planning.describe import describe
from fcdd_sweep.planning.plan import plan_file
from tests import trees

HEAD = "schema: 2\nname: x\npreset: digits\nseeds: 1\n"


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """The notes on an experiment, made on a machine with two cores and no GPU."""
    monkeypatch.setattr(planning, "this_machine", lambda: Machine(cores=2, gpu=False))

    def notes(text, *overrides):
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        experiment, found = plan_file(path, overrides)
        assert all(f"note: {note}" in describe(found, experiment) for note in found.notes)
        return found.notes

    return notes


@pytest.mark.parametrize(
    ("override", "note"),
    [
        ("resources.cpus=3", "resources.cpus is 3, but this machine has 2 CPU cores: no trial can start on it."),
        (
            "resources.device=cuda",
            "resources.device is cuda, but no GPU is seen on this machine: no trial can start on",
        ),
        ("training.threads=3", "training.threads is 3, but this machine has 2 CPU cores."),
    ],
)
def test_what_this_machine_lacks_is_noted(notes, monkeypatch, override, note):
    (found,) = notes(HEAD, override)
    assert note in found
    monkeypatch.setattr(planning, "this_machine", lambda: Machine(cores=8, gpu=True))
    assert notes(HEAD, override) == ()


@pytest.mark.parametrize("device", ["nvidia0", "kfd", "dxg", ""])
def test_a_gpu_is_seen_by_its_device_file(tmp_path, monkeypatch, device):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "null").touch()
    (tmp_path / (device or "nvidiactl")).touch()  # the driver's own file is there without any GPU, too
    assert this_machine(tmp_path).gpu == bool(device)
    program = tmp_path / "nvidia-smi"
    program.touch(0o755)
    assert this_machine(tmp_path).gpu


def test_a_gaussian_that_is_wide_for_its_field_is_noted(notes):
    (note,) = notes(HEAD, "heatmaps.kernel_std_px=7")
    assert (
        "heatmaps.kernel_std_px is 7, wide for a receptive field of 18 px" in note and "Set it to 3.6 or less" in note
    )
    assert notes(HEAD, "heatmaps.kernel_std_px=6") == ()
    assert notes(HEAD, "heatmaps.kernel_std_px=null") == ()
    assert notes(HEAD, "method=hsc", "network.name=CNN32", "heatmaps.kernel_std_px=7") == ()


def test_a_limit_beyond_the_training_anomalies_is_noted(notes):
    (note,) = notes(HEAD + "dataset: {classes: ['3', '4']}\n", "anomalies.limit=5000")
    pattern = (
        r"anomalies.limit asks for 5000 training anomalies, but class '\d' has 10\d\d, class '\d' has 10\d\d: all are"
    )
    assert re.search(pattern, note)
    assert notes(HEAD, "anomalies.limit=500") == ()


def test_a_limit_beyond_the_training_anomalies_of_a_class_is_noted(notes, tmp_path):
    trees.write_class_first(tmp_path / "data")
    text = HEAD.replace("digits", "folder") + f"dataset: {{root: {tmp_path / 'data'}}}\nanomalies: {{mode: other}}\n"
    (note,) = notes(text, "dataset.classes=[CLASS]".replace("CLASS", "bolt"), "anomalies.limit=50")
    assert re.search(r"asks for 50 training anomalies, but class 'bolt' has \d+: all are used", note)


def test_holding_out_more_than_is_left_is_noted(notes):
    (note,) = notes(HEAD, "evaluation.validation.nominal_fraction=0.9999")
    assert "evaluation.validation.nominal_fraction is 0.9999: more nominal images are held out than trained on" in note
    assert "class '0' has 1, class '1' has 1, class '2' has 1 and 7 more classes" in note
    assert notes(HEAD, "evaluation.validation.nominal_fraction=0.5") == ()


def test_weights_that_will_be_fetched_are_noted(notes, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    trees.write_one_vs_rest(tmp_path / "data")
    text = HEAD.replace("digits", "folder") + f"dataset: {{root: {tmp_path / 'data'}}}\n"
    (note,) = notes(text, "network.name=FCDD_CNN224_VGG_F")
    assert "VGG11_BN_Weights.IMAGENET1K_V1 is not in torch's cache and will be downloaded from https" in note


def test_a_class_without_training_images_is_a_problem_of_the_plan(notes, monkeypatch):
    def scanned(dataset, images):
        assert isinstance(images, Images)
        return DatasetScan(
            tuple(
                one_vs_rest_record(f"x/{name}", name, is_test=name == "3", stamp="", load=lambda: None, also=also)
                for name, also in (("1", ()), ("2", ("5",)), ("3", ()))
            )
        )

    monkeypatch.setattr("fcdd_sweep.planning.sections.scan_dataset", scanned)
    assert notes(HEAD, "dataset.classes=['1', '5']", "anomalies.limit=1") == ()
    with pytest.raises(ExperimentError) as caught:
        notes(HEAD, "dataset.classes=['1', '3', '4']")
    (problem,) = caught.value.problems
    assert problem.what == "'digits' has no nominal training image of class 3, 4"


def test_what_the_test_half_lacks_is_noted(notes, tmp_path):
    trees.write_class_first(tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "nut" / "test" / "anomalous")
    text = HEAD.replace("digits", "folder") + f"dataset: {{root: {tmp_path / 'data'}}}\n"
    assert notes(text) == ("Class 'nut' has no test anomalies.",)


@pytest.mark.parametrize(
    ("count", "word", "text"),
    [(1, "trial", "1 trial"), (0, "class", "0 classes"), (2.5, "CPU", "2.5 CPUs"), (1.0, "CPU", "1 CPU")],
)
def test_a_number_of_things_is_grammatical(count, word, text):
    assert count_noun(count, word) == text
