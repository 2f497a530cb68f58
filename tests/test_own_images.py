"""Experiment files for folders of images: what is seen, what is chosen, and that the file says it and runs."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fcdd_sweep import cli, own_images
from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.config.presets import PRESETS
from fcdd_sweep.data.appearance import LOOKED_AT, appearance_of
from fcdd_sweep.metrics.decision import fewest_images
from fcdd_sweep.own_images import choices_for, experiment_text, inspect_images, run_name, too_little
from fcdd_sweep.planning.plan import plan_file
from fcdd_sweep.report import aggregate
from fcdd_sweep.report.figures.run_figures import RunFigures
from fcdd_sweep.results import schemas
from fcdd_sweep.results.files import read_rows
from tests.trees import write_class_first, write_image, write_images, write_mask, write_mvtec, write_one_vs_rest


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return call


def chosen(root, **options):
    return {choice.key: choice.value for choice in choices_for(inspect_images(root, options), "x")}


def write_gray(folder, count, side=200, value=90):
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, value, (side, side))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03}.png")
    return folder


def test_what_images_look_like_is_seen(tmp_path):
    files = [write_image(tmp_path / f"{n}.png", size) for n, size in enumerate([(20, 24), (30, 50), (64, 40)])]
    gray_in_rgb = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, 2)
    Image.fromarray(gray_in_rgb).save(tmp_path / "g.png")
    found = appearance_of([*files, tmp_path / "g.png"])
    assert (found.smallest, found.largest, found.sizes, found.looked_at) == ((16, 16), (40, 64), 4, 4)
    assert found.colored == 0.75
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert appearance_of([tmp_path / "bad.png"]) is None
    assert appearance_of([files[0], tmp_path / "bad.png"]).unreadable == 1
    assert appearance_of(files * LOOKED_AT).looked_at == LOOKED_AT


def test_sizes_are_ordered_by_area_and_specks_are_told(tmp_path):
    for number, size in enumerate([(300, 700), (320, 320), (60, 5), (9, 9)]):
        write_image(tmp_path / "parts" / "train" / "good" / f"{number}.png", size)
    lines = inspect_images(tmp_path / "parts", {}).lines
    assert "  pixels  9x9 to 700x300 px (median 700x300), all in color. No image has more than 8 bits." in lines
    assert "note: 1 of 4 images less than 8 px wide or high: remove what is no photograph." in lines
    (tmp_path / "parts" / "train" / "good" / "2.png").unlink()
    assert "px wide or high" not in "\n".join(inspect_images(tmp_path / "parts", {}).lines)


def test_a_jpeg_of_a_gray_picture_in_three_channels_has_no_color(tmp_path):
    gray = np.repeat(np.random.default_rng(0).integers(0, 255, (80, 80, 1)).astype(np.uint8), 3, 2)
    Image.fromarray(gray).save(tmp_path / "a.jpg")
    assert appearance_of([tmp_path / "a.jpg"]).colored == 0


def test_sizes_color_depth_masks_classes_and_layout_are_told(tmp_path):
    root = write_mvtec(tmp_path / "parts", ("bolt", "nut"), defects=("crack",))
    found = inspect_images(root, {})
    assert found.layout == "CLASS/{train,test}/{good,crack}/IMAGES, with maps" and found.n_masks == 4
    assert found.counts["bolt"] == (4, 0, 2, 2)
    text = "\n".join(found.lines)
    assert "bolt, nut: train 4 normal, 0 anomalous; test 2 normal, 2 anomalous" in text
    assert "24x20 px, all in color. No image has more than 8 bits." in text and "masks   4 images" in text
    for path in (root / "bolt" / "train" / "good").iterdir():
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), np.full((20, 24), 900, np.uint16))
    assert "4 images of more than 8 bits (TIFF)" in "\n".join(inspect_images(root, {}).lines)


def test_in_one_vs_rest_the_other_classes_are_the_anomalies(tmp_path):
    found = inspect_images(write_one_vs_rest(tmp_path / "data"), {})
    assert found.counts["cat"] == (4, 8, 2, 4)
    (sentence,) = found.gaps
    assert sentence.startswith("Images of the other folders count as anomalous for each class; if all show one kind")
    assert inspect_images(write_one_vs_rest(tmp_path / "one", ("cat",)), {}).gaps == ()
    assert chosen(tmp_path / "data")["anomalies.mode"] == "malformed_normal_gt"  # 8 are too few
    for name in ("cat", "dog", "owl"):
        write_images(tmp_path / "data" / "train" / name, 7)
    assert chosen(tmp_path / "data")["anomalies.mode"] == "other"


@pytest.mark.parametrize("nominal", [3, 5, 8, 24, 40, 57, 100, 400, 3000])
def test_the_held_out_images_allow_the_false_alarm_rate(nominal, monkeypatch):
    monkeypatch.setitem(PRESETS["folder"].tree, "evaluation", {"image_score": "max"})
    share, rate = own_images._calibration(nominal)
    held_out = own_images.held_out_of(nominal, share)
    if share:
        assert held_out >= fewest_images(rate) and held_out <= nominal / 2 and 0.05 <= rate <= 0.25
        assert rate == 0.05 or held_out < fewest_images(rate - 0.01)
    else:
        assert nominal < 9


@pytest.mark.parametrize(
    ("nominal", "score", "rate"),
    [
        (24, "max", 0.12),
        (100, "max", 0.05),
        (400, "auto", 0.05),
        *((n, "auto", 0.05) for n in (121, 160, 161, 199, 200)),
    ],
)
def test_the_image_score_is_chosen_only_where_enough_images_can_choose_it(nominal, score, rate):
    """Of 8 held-out images of 24, two would choose, and the label would often not be that of the heatmap."""
    share, found = own_images._calibration(nominal)
    assert (own_images._image_score(own_images.held_out_of(nominal, share)), found) == (score, rate)


def test_sizes_follow_the_images_up_to_that_of_the_preset(tmp_path):
    small = chosen(write_gray(tmp_path / "small", 6, side=50))
    assert (small["images.load_size"], small["images.size"], small["images.color"]) == (48, 48, "gray")
    large = chosen(write_gray(tmp_path / "large", 6, side=300))
    assert large["images.size"] == PRESETS["folder"].tree["images"]["size"]


def test_many_real_training_anomalies_replace_rendered_ones(tmp_path):
    root = write_class_first(tmp_path / "parts", ("bolt",))
    assert chosen(root)["anomalies.mode"] == "malformed_normal_gt"
    write_images(root / "bolt" / "train" / "anomalous", 12, seed=50)
    assert chosen(root)["anomalies.mode"] == "other" and "anomalies.source" not in chosen(root)


def test_what_is_too_little_is_told(tmp_path):
    root = write_class_first(tmp_path / "parts", ("bolt",))
    notes = too_little(inspect_images(root, {}))
    assert notes == [
        "class 'bolt': 3 nominal training images: below 50 expect a wide spread between draws of the images.",
        "class 'bolt': 2 nominal and 3 anomalous test images: below 20 of a kind an AUROC says little.",
    ]
    shutil.rmtree(root / "bolt" / "test")
    found = inspect_images(root, {})
    assert "no test anomalies, so nothing can say how well it works" in too_little(found)[1]
    assert "no test anomalies" not in "\n".join(found.lines)  # `init` prints both, and once is enough


def test_one_image_is_too_few_to_hold_some_out(tmp_path):
    write_images(tmp_path / "parts" / "train" / "good", 1)
    reasons = [choice.reason for choice in choices_for(inspect_images(tmp_path / "parts", {}), "x")]
    assert "1 image: too few to hold some out, so there is no decision, only scores." in reasons


@pytest.mark.parametrize("tree", ["mvtec", "one_vs_rest", "flat", "good_bad"])
def test_the_file_that_is_written_is_valid_and_plans_what_was_chosen(tmp_path, tree):
    root = tmp_path / "Schraube 'groß' #1: a"
    {
        "mvtec": lambda: write_mvtec(root),
        "one_vs_rest": lambda: write_one_vs_rest(root),
        "flat": lambda: write_images(root, 24),
        "good_bad": lambda: [write_images(root / "good", 30), write_images(root / "bad", 4, seed=9)],
    }[tree]()
    found = inspect_images(root, {"group": r"^(part\d+)_"} if tree == "good_bad" else {})
    choices = choices_for(found, run_name(root))
    path = tmp_path / "x.yaml"
    path.write_text(experiment_text(choices, ["head"]), encoding="utf-8")
    experiment, planned = plan_file(path)
    assert experiment.dataset.root == root and experiment.name == "Schraube-gro-1-a"
    assert planned.classes == tuple(found.counts)
    plain = experiment.model_dump(mode="json", by_alias=True)
    for choice in choices:
        value = plain
        for key in choice.key.split("."):
            value = value[key]
        assert value == choice.value, choice.key


def test_every_choice_has_a_reason_and_lines_stay_short(tmp_path):
    choices = choices_for(inspect_images(write_images(tmp_path / "parts", 24)[0].parent, {}), "parts")
    lines = experiment_text(choices, []).splitlines()
    assert [choice.key for choice in choices if not choice.reason] == ["schema"]
    assert all(len(line) <= 100 for line in lines if line.lstrip().startswith("#"))


@pytest.mark.parametrize(("name", "expected"), [("parts", "parts"), ("零件", "own-images"), ("a b.c", "a-b.c")])
def test_a_run_is_named_like_the_folder_as_far_as_names_allow(tmp_path, name, expected):
    (tmp_path / name).mkdir()
    assert run_name(tmp_path / name) == expected


def test_errors_of_the_tree_end_with_exit_code_2_and_write_nothing(call, tmp_path):
    write_images(tmp_path / "odd" / "good", 3)
    write_images(tmp_path / "odd" / "test" / "scratch", 3)
    for arguments, expected in (
        (["init", "odd"], "scratch"),
        (["init", "missing"], f"{tmp_path / 'missing'}: "),
        (["init", "odd", "--layout", "mvtek"], "--layout: found 'mvtek'. Allowed: auto, labels, mvtec"),
        (["init", "odd/good", "--group", "("], "--group: is no regular expression"),
    ):
        code, _, err = call(*arguments)
        assert code == 2 and expected in err, err
    assert list(tmp_path.glob("*.yaml")) == []


MVTEC = "read it as MVTec's layout with --layout mvtec"


@pytest.mark.parametrize(
    ("tree", "arguments", "step", "key"),
    [
        (["train/good", "test/anomolous"], [], MVTEC, "set dataset.options.layout: mvtec"),
        (
            *(["train/normal", "test/scratch"], []),
            *(f"{MVTEC}, or move scratch to anomalous/scratch", "set dataset.options.layout: mvtec, or move"),
        ),
        (
            *(["train/normal", "test/a", "test/b"], []),
            *("types of defects, read them as MVTec's layout with --layout mvtec", "set dataset.options.layout: mvtec"),
        ),
        (["match", "training"], [], "classes, give --layout classes", "set dataset.options.layout: classes"),
        (["x/y/train/good"], [], "Name {root}/x, which holds 'y'", "Set dataset.root to {root}/x, which"),
        (
            ["a", "b"],
            ["--layout", "flat"],
            "directly in the folder. Leave it out to",
            "in dataset.root. Remove the key",
        ),
    ],
)
def test_hints_name_what_can_be_typed_without_a_file_and_the_key_with_one(call, tmp_path, tree, arguments, step, key):
    root = tmp_path / "odd"
    for number, name in enumerate(tree):
        write_images(root / name, 3, seed=number)
    code, _, err = call("init", "odd", *arguments)
    assert code == 2 and step.format(root=root) in err and "dataset." not in err
    options = {"layout": arguments[1]} if arguments else {}
    (tmp_path / "own.yaml").write_text(
        f"schema: 2\nname: own\npreset: folder\ndataset: {{root: {root}, options: {json.dumps(options)}}}\n"
    )
    code, _, err = call("own.yaml", "--dry-run")
    assert code == 2 and key.format(root=root) in err and "--layout" not in err


def test_a_folder_that_cannot_be_read_is_an_error(call, tmp_path, monkeypatch):
    write_images(tmp_path / "parts", 6)
    forbidden, usual = tmp_path / "parts", os.stat

    def stat(path, *args, **kwargs):
        if forbidden in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, *args, **kwargs)

    def scandir(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.stat", stat)
    monkeypatch.setattr("os.scandir", scandir)
    code, _, err = call("init", "parts")
    assert code == 2 and "Permission denied" in err and "Traceback" not in err


def test_values_that_are_given_are_written_in_their_places(call, tmp_path):
    """Images of 16 bits among others of 8 need a range that nothing but the user knows."""
    write_images(tmp_path / "parts", 30)
    tifffile.imwrite(tmp_path / "parts" / "deep.tif", np.full((40, 40), 900, np.uint16))
    code, _, err = call("init", "parts")
    assert code == 2 and "Set images.bit_depth" in err and not (tmp_path / "parts.yaml").exists()
    code, out, err = call("init", "parts", "--set=images.bit_depth=10", "--set=images.max_megapixels=50")
    assert code == 0, err
    assert "1 image of more than 8 bits (TIFF)." in out
    images = load_experiment(tmp_path / "parts.yaml").images
    assert (images.bit_depth, images.max_megapixels) == (10, 50)
    assert "  # As given by --set.\n  bit_depth: 10\n" in (tmp_path / "parts.yaml").read_text()
    for key in ("training.epochs=3", "images={bit_depth: 10}", "dataset.root=x"):
        code, _, err = call("init", "parts", "-o", "other.yaml", f"--set={key}")
        assert code == 2 and "init does not take" in err and "Allowed: images.bit_depth" in err
    code, _, err = call("init", "parts", "--set=training.epoch=3")
    assert code == 2 and "there is no key training.epoch" in err


def test_a_file_that_is_there_is_not_overwritten(call, tmp_path):
    write_images(tmp_path / "parts", 6)
    (tmp_path / "parts.yaml").write_text("mine")
    code, _, err = call("init", "parts")
    assert code == 2 and "is there already, and init overwrites no file. Start it: fcdd-sweep " in err
    assert "parts.yaml. Or name another file with -o" in err
    assert (tmp_path / "parts.yaml").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_named(call, tmp_path):
    write_images(tmp_path / "parts", 6)
    code, _, err = call("init", "parts", "-o", "nowhere/x.yaml")
    assert code == 2 and "nowhere/x.yaml: cannot be written (No such file or directory)" in err


@pytest.mark.parametrize("table", ["metrics.parquet", "plan.parquet"])
def test_pictures_of_results_are_not_taken_for_own_images(call, tmp_path, table):
    write_images(tmp_path / "leaf", 6)
    (tmp_path / "leaf" / table).write_bytes(b"")
    code, _, err = call("init", "leaf")
    assert code == 2 and "leaf: holds results of a run. Allowed: a folder of photographs" in err
    assert not (tmp_path / "leaf.yaml").exists()


def test_images_that_all_fail_to_open_are_an_error(tmp_path):
    (tmp_path / "parts").mkdir()
    for number in range(9):
        (tmp_path / "parts" / f"{number}.png").write_text(f"no image {number}")
    with pytest.raises(InputError, match="none of its images can be opened"):
        inspect_images(tmp_path / "parts", {})


def test_where_images_do_not_decode_all_are_named_and_no_file_is_left(call, tmp_path):
    for path in write_images(tmp_path / "parts", 9)[:2]:
        path.write_text(f"no image {path.name}")
    assert "note: 2 of 9 images do not open" in "\n".join(inspect_images(tmp_path / "parts", {}).lines)
    code, _, err = call("init", "parts")
    assert code == 2 and "000.png: does not decode" in err and "001.png: does not decode" in err
    assert not (tmp_path / "parts.yaml").exists()


@pytest.mark.slow
def test_init_states_the_cost_and_its_run_ends_with_a_report_and_a_decision(call, tmp_path, monkeypatch):
    """On 24 images, with short training: what the file says otherwise is planned above."""
    monkeypatch.setattr(aggregate, "draw_run", lambda run, ranked, anew: RunFigures())
    for key, value in {"min_steps": 2, "epochs": 2}.items():
        monkeypatch.setitem(PRESETS["folder"].tree["training"], key, value)
    monkeypatch.setitem(PRESETS["folder"].tree["images"], "size", 32)
    root = tmp_path / "parts"
    write_images(root / "train" / "good", 24)
    for path in write_images(root / "test" / "bad", 3, seed=5):
        write_mask(root / "ground_truth" / "bad" / path.name)
    write_images(root / "test" / "good", 3, seed=6)
    code, out, _ = call("init", root, "--run", "--local")
    assert code == 0
    assert "1 trial: " in out and "CPU-hours, about" in out and "written: parts.yaml" in out
    assert "1 of 1 trial done" in out and (tmp_path / "results" / "parts" / "report.html").is_file()
    experiment = load_experiment(tmp_path / "parts.yaml")
    assert experiment.training.min_steps == 2 and experiment.evaluation.false_alarm_rate > 0.05
    images = read_rows(tmp_path / "results" / "parts" / "images.parquet", schemas.IMAGE_LIST)
    assert Counter((row["split"], row["label"]) for row in images) == {("train", 0): 24, ("test", 0): 3, ("test", 1): 3}
    assert {row["path"] for row in images} == {str(path.relative_to(root)) for path in root.glob("t*/*/*.png")}
    assert Path("parts.yaml").read_text().startswith("# Written by `fcdd-sweep init")
