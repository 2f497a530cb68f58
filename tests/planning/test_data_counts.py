"""What a plan says although nothing is wrong: what the machine lacks, what will be fetched, what is scarce."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.config.schema import Images
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.records import DatasetScan, one_vs_rest_record
from fcdd_sweep.planning import checks
from fcdd_sweep.planning import describe as describing
from fcdd_sweep.planning import plan as planning
from fcdd_sweep.planning.checks import Machine, this_machine
from fcdd_sweep.planning.data_counts import listed
from fcdd_sweep.planning.describe import describe
from fcdd_sweep.planning.plan import plan_file
from tests import trees
from tests.formats import write_png16

HEAD = "schema: 2\nname: x\npreset: digits\nseeds: 1\n"


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """The notes on an experiment but for those on decisions, made on a machine with two cores and no GPU."""
    monkeypatch.setattr(planning, "this_machine", lambda: Machine(cores=2, gpu=False, bf16=False))

    def notes(text, *overrides):
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        experiment, found = plan_file(path, overrides)
        assert all(f"note: {note}" in describe(found, experiment) for note in found.notes)
        return tuple(note for note in found.notes if not note.startswith("no decision"))

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
        ("training.precision=bf16", "training.precision is bf16, which this machine's CPU has no instructions for: a"),
    ],
)
def test_what_this_machine_lacks_is_noted(notes, monkeypatch, override, note):
    (found,) = notes(HEAD, override)
    assert note in found
    monkeypatch.setattr(planning, "this_machine", lambda: Machine(cores=8, gpu=True))
    assert notes(HEAD, override) == ()


def deep_folder(root, values=2090, **options):
    """A class of one normal training image and one test image, of 16 bits."""
    for half in ("train", "test"):
        write_png16(root / half / "bolt" / "normal" / "a.png", np.full((8, 8), values, np.uint16), **options)
    trees.write_image(root / "test" / "bolt" / "anomalous" / "b.jpg") if options else None
    return root


@pytest.mark.parametrize(
    ("options", "override", "note"),
    [
        (
            {},
            "seeds=1",
            "2 images of more than 8 bits (PNG): their range will be measured on 1 nominal training image.",
        ),
        ({}, "images.bit_depth=12", "2 images of more than 8 bits (PNG): values 0 to 4095 become 0 to 255 (images.bit"),
        ({}, "images.range=[2000, 2200]", "values 2000 to 2200 become 0 to 255 (images.range)."),
        (
            {"sbit": [12]},
            "seeds=1",
            "sBIT declares 12 bits, checked on the nominal training images; those of 8 bits are",
        ),
    ],
)
def test_the_plan_states_the_range_of_images_of_more_than_8_bits(notes, tmp_path, options, override, note):
    root = deep_folder(tmp_path / "data", **options)
    (found,) = [
        each for each in notes(HEAD.replace("digits", "folder"), f"dataset.root={root}", override) if "8 bits" in each
    ]
    assert note in found


def test_a_range_that_has_no_effect_is_noted(notes):
    assert notes(HEAD, "images.bit_depth=12") == ("No image has more than 8 bits: images.bit_depth has no effect.",)


def test_images_whose_range_cannot_be_found_are_reported_by_the_plan(tmp_path):
    root = deep_folder(tmp_path / "data")
    tifffile.imwrite(root / "train" / "bolt" / "normal" / "f.tif", np.zeros((8, 8), np.float32))
    path = tmp_path / "x.yaml"
    path.write_text(HEAD.replace("digits", "folder"))
    with pytest.raises(ExperimentError, match=r"f.tif: 1 image of floating point.*whose range is unknown. Set images"):
        plan_file(path, [f"dataset.root={root}"])


@pytest.mark.parametrize("gpu", [True, False])
def test_what_auto_means_on_this_machine_is_part_of_the_plan(tmp_path, monkeypatch, gpu):
    monkeypatch.setattr(describing, "this_machine", lambda: Machine(cores=2, gpu=gpu))
    path = tmp_path / "x.yaml"
    path.write_text(HEAD, encoding="utf-8")
    texts = {device: describe(*reversed(plan_file(path, [f"resources.device={device}"]))) for device in ("auto", "cpu")}
    expected = "a GPU: one is seen" if gpu else "the CPU: no GPU that torch can use is seen"
    assert f"device auto ({expected} on this machine); a trial reserves" in texts["auto"]
    assert "device cpu; a trial reserves" in texts["cpu"]


def test_a_torch_without_cuda_uses_no_gpu(tmp_path, monkeypatch):
    (tmp_path / "nvidia0").touch()
    for version, gpu in (("2.9.0+cpu", False), ("2.9.0+cu130", True), ("2.9.0", True)):
        monkeypatch.setattr(checks, "version", lambda name, version=version: version)
        assert this_machine(tmp_path).gpu is gpu


def test_instructions_for_bfloat16_are_seen_by_the_flags_of_the_cpu(tmp_path):
    cpu = tmp_path / "cpuinfo"
    flags = {
        "flags\t: fpu avx512f amx_bf16": True,
        "Features\t: fp asimd bf16": True,
        "flags\t: fpu avx512f bf16x": False,
    }
    for line, found in flags.items():
        cpu.write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n")
        assert this_machine(cpu=cpu).bf16 is found
    assert this_machine(cpu=tmp_path / "none").bf16  # another system than Linux: nothing is said


@pytest.mark.parametrize("device", ["nvidia0", "kfd", "dxg", ""])
def test_a_gpu_is_seen_by_its_device_file(tmp_path, monkeypatch, device):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(checks, "version", lambda name: "2.9.0+cu130")
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
    (note,) = notes(text, "dataset.classes=[bolt]", "anomalies.limit=50", "evaluation.image_score=max")
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
    (note,) = notes(text, "network.name=FCDD_CNN224_VGG_F", "evaluation.image_score=max")
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
    assert notes(text, "evaluation.image_score=max") == ("Class 'nut' has no test anomalies.",)


@pytest.mark.parametrize(
    ("count", "word", "text"),
    [(1, "trial", "1 trial"), (0, "class", "0 classes"), (2.5, "CPU", "2.5 CPUs"), (1.0, "CPU", "1 CPU")],
)
def test_a_number_of_things_is_grammatical(count, word, text):
    assert count_noun(count, word) == text


@pytest.fixture
def described(tmp_path):
    """The description of a plan of a folder with the exact numbers of its images."""

    def described(root, *overrides):
        path = tmp_path / "own.yaml"
        path.write_text("schema: 2\nname: own\npreset: folder\nseeds: 1\n", encoding="utf-8")
        experiment, found = plan_file(path, [f"dataset.root={root}", *overrides])
        return describe(found, experiment)

    return described


@pytest.mark.parametrize(
    ("folders", "layout"),
    [
        (["bolt/train/normal", "bolt/test/anomalous"], "CLASS/{train,test}/{normal,anomalous}/IMAGES"),
        (["train/bolt/normal", "test/bolt/anomalous"], "{train,test}/CLASS/{normal,anomalous}/IMAGES"),
        (["cat", "dog"], "CLASS/IMAGES, one folder per class"),
        (["bolt/train/good", "bolt/test/good", "bolt/test/crack"], "CLASS/{train,test}/{good,crack}/IMAGES"),
        (["OK", "NG"], "{OK,NG}/IMAGES"),
        (["."], "one folder of nominal images"),
    ],
)
def test_a_plan_says_in_one_line_how_the_folders_are_read(described, tmp_path, folders, layout):
    for each in folders:
        trees.write_images(tmp_path / "data" / each, 8)
    lines = [line.strip() for line in described(tmp_path / "data").splitlines()]
    assert f"layout     {layout}" in lines


def test_a_plan_counts_images_by_class_split_and_label(described, tmp_path):
    root = trees.write_class_first(tmp_path / "data", ("bolt", "nut", "washer"))
    trees.write_images(root / "nut" / "train" / "normal" / "more", 7)
    lines = [line.strip() for line in described(root).splitlines()]
    assert "images     bolt, washer: train 3 normal, 1 anomalous; test 2 normal, 3 anomalous" in lines
    assert "nut: train 10 normal, 1 anomalous; test 2 normal, 3 anomalous" in lines
    assert "washer" not in described(root, "dataset.classes=[bolt]")


def test_a_plan_counts_the_images_of_one_vs_rest_by_class_and_split(described, tmp_path):
    root = trees.write_one_vs_rest(tmp_path / "data", ("ape", "bee", "cat", "dog", "owl"))
    assert "  images     ape, bee, cat and 2 more classes, each: 4 train, 2 test\n" in described(root)


def test_a_plan_counts_what_is_passed_over(described, tmp_path):
    root = trees.write_one_vs_rest(tmp_path / "data", ("ape", "bee"))
    for number in range(8):
        (root / "train" / "ape" / f"{number}.heic").write_bytes(b"photo")
    trees.write_images(root / "validation" / "ape", 3)
    text = described(root)
    assert f"note: Not read in {root}, as the endings are not those of images: 8 .heic. Convert .heic" in text
    assert f"note: Not read in {root}, as they are in no class: 3 images in validation." in text


def test_a_plan_counts_the_pages_after_the_first(described, tmp_path):
    root = trees.write_one_vs_rest(tmp_path / "data", ("ape", "bee"))
    pages = [Image.fromarray(trees.pixels(seed=number)) for number in range(5)]
    scan, film = root / "train" / "ape" / "scan.TIF", root / "test" / "bee" / "film.gif"
    pages[0].save(scan, format="TIFF", save_all=True, append_images=pages[1:])
    pages[0].save(film, save_all=True, append_images=pages[1:3])
    trees.write_image(root / "train" / "ape" / "single.tiff")
    note = f"6 pages of 2 files are not read, of {scan} (5 pages), {film} (3 pages)."
    assert note in described(root)
    photos = tmp_path / "photos"
    shutil.copytree(root / "train" / "ape", photos)
    exposure = f"anomalies={{mode: noise, source: {{folder: {photos}}}}}"
    assert f"{photos / 'scan.TIF'} (5 pages)" in described(root, exposure)


def test_a_plan_says_what_outlier_exposure_leaves_out(described, tmp_path):
    root = trees.write_one_vs_rest(tmp_path / "data", ("ape", "bee"))
    trees.write_images(tmp_path / "photos", 3)
    (tmp_path / "photos" / "lost.png").symlink_to("/nowhere")
    text = described(root, f"anomalies={{mode: noise, source: {{folder: {tmp_path / 'photos'}}}}}")
    assert f"note: Left out: {tmp_path / 'photos' / 'lost.png'}: is a link that leads nowhere" in text


def test_the_smallest_counts_are_listed_first_and_the_rest_are_counted():
    assert (
        listed({"a": 9, "b": 1, "c": 5, "d": 7, "e": 8})
        == "class 'b' has 1, class 'c' has 5, class 'd' has 7 and 2 more classes"
    )
    assert listed({"a": 2}) == "class 'a' has 2"
