"""The command `predict` as a user sees it: output, exit codes, no tracebacks."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from fcdd_sweep import cli
from fcdd_sweep.prediction import watch
from tests.detectors import random_detector
from tests.prediction.runs import CORPUS, write_parts
from tests.trees import write_image

DOCUMENTATION = Path(__file__).parent.parent.parent / "docs" / "prediction.md"


@pytest.fixture
def call(capsys):
    def run(*arguments):
        try:
            code = cli.main(["predict", *map(str, arguments), "--device", "cpu"])
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return run


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(CORPUS.images[41, 0]).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_table_and_the_number_of_anomalous_images_are_printed(call, run, photo, tmp_path):
    Image.fromarray(CORPUS.images[40, 0]).save(tmp_path / "b.png")
    code, out, err = call(run / "normal_plain" / "it_0", photo, tmp_path / "b.png")
    lines = out.splitlines()
    assert code == 0 and err == ""
    assert lines[0].split() == ["image", "decision", "heatmap", "score", "threshold", "regions", "area"]
    assert re.fullmatch(rf"{photo} +anomalous +region +\S+ +\S+ +1 +\S+%", lines[1])
    assert re.fullmatch(rf"{tmp_path / 'b.png'} +nominal +clear +\S+ +\S+ +0 +0.00%", lines[2])
    assert "decisions: with 10 held-out images at most 1 in 10 of new nominal images is called anomalous" in out
    assert lines[-1] == "2 images scored, 1 anomalous, 0 skipped"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_class_votes_and_labels_are_compared(call, run, parts, tmp_path):
    code, out, err = call(run, "--labels", parts, "--output", tmp_path / "out")
    assert code == 0 and "note: Labels read from test/{good,crack}/IMAGES, with maps." in err
    assert re.search(r"anomalous \((67|100)% of seeds\)", out)
    assert "24 labelled images, 12 nominal, 12 anomalous" in out and "false-alarm rate" in out
    assert re.search(r"image AUROC [01]\.\d{3}, average precision [01]\.\d{3}; pixel AUROC [01]\.\d{3}", out)
    assert (tmp_path / "out" / "roc.png").is_file() and (tmp_path / "out" / "evaluation.csv").is_file()


def test_a_seed_that_cannot_vote_is_named_also_while_a_folder_is_watched(call, run, photo, tmp_path, monkeypatch):
    shutil.copytree(run / "normal_plain", tmp_path / "normal_plain")
    (tmp_path / "normal_plain" / "it_1" / "scores.parquet").write_bytes(b"PAR1")
    left = f"2 of 3 seeds decide, for {tmp_path / 'normal_plain'}; left out: it_1 (scores.parquet is damaged: it is not"
    code, out, err = call(tmp_path, photo)
    assert code == 0 and f"note: {left}" in err and "half of 2 seeds decide" in out

    def end(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.NewFiles, "take", end)
    code, out, _ = call(tmp_path / "normal_plain", "--watch", photo.parent)
    assert code == 0 and out.startswith(f"note: {left}")


def test_an_output_that_has_predictions_is_refused_before_anything_is_scored(call, run, photo, tmp_path):
    leaf, output = run / "normal_plain" / "it_0", tmp_path / "out"
    (tmp_path / "inbox").mkdir()
    assert call(leaf, photo, "--output", output)[0] == 0
    before = {path: path.read_bytes() for path in output.rglob("*.*")}
    for images in ([photo, "--pictures", "none"], ["--watch", tmp_path / "inbox"]):
        code, out, err = call(leaf, *images, "--output", output)
        assert (code, out) == (2, "") and f"{output / 'predictions.csv'}: holds predictions already" in err
        assert "or remove predictions.parquet, predictions.csv and heatmaps from it" in err
    assert {path: path.read_bytes() for path in output.rglob("*.*")} == before
    (output / "predictions.csv").unlink()
    assert call(leaf, photo, "--output", output)[0] == 2


def test_an_image_that_does_not_decode_is_skipped_with_exit_code_1(call, run, photo, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    code, out, err = call(run, photo, tmp_path / "bad.png")
    assert code == 1 and f"skipped {tmp_path / 'bad.png'}: does not decode" in err
    assert out.endswith("1 image scored, 1 anomalous, 1 skipped\n")


def test_where_no_image_can_be_read_each_one_says_why(call, run, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    code, out, err = call(run, tmp_path / "bad.png")
    assert (code, out) == (2, "") and f"{tmp_path / 'bad.png'}: does not decode" in err and ".:" not in err


def test_a_map_that_cannot_be_used_is_counted_and_its_image_is_not_skipped(call, run, tmp_path):
    root = write_parts(tmp_path / "parts")
    name = next((root / "ground_truth" / "crack").iterdir())
    Image.new("L", (5, 5), 255).save(name)
    code, out, err = call(run / "normal_plain" / "it_0", "--labels", root)
    assert code == 1 and f"left out {name}: the map has 5x5 pixels" in err and "skipped" not in err
    assert re.search(r"24 images scored, \d+ anomalous, 0 skipped, 1 map left out\n$", out)


def test_without_pictures_there_is_no_folder_of_them(call, run, photo, tmp_path):
    code, out, _ = call(run, photo, "--pictures", "none", "--output", tmp_path / "out")
    assert code == 0 and "predictions: " in out and "heatmaps: " not in out
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["predictions.csv", "predictions.parquet"]
    code, out, _ = call(run, photo, "--output", tmp_path / "drawn")
    assert f"heatmaps: {tmp_path / 'drawn' / 'heatmaps'}\n" in out


def test_a_threshold_of_the_users_is_said_to_be_one(call, run, photo):
    code, out, _ = call(run / "normal_plain" / "it_0", photo, "--threshold", "1e9")
    assert code == 0 and "nominal" in out.splitlines()[1] and "region, disagrees" in out.splitlines()[1]
    assert (
        "decisions: the image threshold of 1e+09 is yours, without a stated false-alarm rate; for pixels: with 10"
        in out
    )


def test_at_native_scale_there_are_no_decisions(call, run, photo):
    code, out, _ = call(run / "normal_plain" / "it_0", photo, "--tile", 16, "--native-scale")
    assert code == 0 and "no decision" in out.splitlines()[1]
    assert "decisions: no threshold: not calibrated at this scale" in out
    assert out.endswith("1 image scored, no decisions, 0 skipped\n")


def test_a_detector_that_cannot_run_in_tiles_is_refused_by_name(call, photo, tmp_path):
    detector, _ = random_detector({"name": "AE28"}, "ae", size=28)
    torch.save(detector.snapshot(), tmp_path / "ae.pt")
    code, out, err = call(tmp_path / "ae.pt", photo, "--tile", 16)
    assert (code, out) == (2, "") and "method ae: cannot run in tiles" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN"], "predict: no images are given. Name images or folders, --labels SOURCE or --watch DIR"),
        (["RUN", "x.png", "--watch", "."], "--watch: predicts on images as they arrive, and cannot be used with"),
        (["RUN", "x.png", "--threshold", "many"], "argument --threshold: found 'many'. Allowed: a number"),
        (["RUN", "x.png", "--threshold", "nan"], "Allowed: a number"),
        (["RUN", "x.png", "--tile", "0"], "Allowed: a whole number, at least 1"),
        (["RUN", "x.png"], "x.png: there is no such file or folder"),
        (["RUN", "--watch", "nowhere"], "there is no folder nowhere"),
        (["none", "x.png", "--labels", "nowhere"], "error: 3 problems:"),
    ],
)
def test_bad_input_ends_with_2_and_says_why(arguments, message, call, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*[run if word == "RUN" else word for word in arguments])
    assert (code, out) == (2, "") and message in err
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_several_classes_lists_them(call, run, photo, tmp_path):
    for name in ("normal_nut", "normal_bolt"):
        shutil.copytree(run / "normal_plain" / "it_0", tmp_path / "run" / name / "it_0")
    code, _, err = call(tmp_path / "run", photo)
    assert code == 2 and f"Allowed: one of {tmp_path / 'run' / 'normal_bolt'}, {tmp_path / 'run' / 'normal_nut'}" in err


def test_watching_ends_with_ctrl_c_and_counts(call, run, tmp_path, monkeypatch):
    (tmp_path / "inbox").mkdir()
    steps = iter([lambda: write_image(tmp_path / "inbox" / "new.png"), lambda: None])

    def take(self, plain=watch.NewFiles.take):
        step = next(steps, None)
        if step is None and not self._before:
            raise KeyboardInterrupt
        if step is not None:
            step()
        return plain(self)

    monkeypatch.setattr(watch.NewFiles, "take", take)
    monkeypatch.setattr(watch, "WAIT_S", 0.0)
    code, out, _ = call(run, "--watch", tmp_path / "inbox")
    assert code == 0 and f"{tmp_path / 'inbox' / 'new.png'}: " in out
    assert re.search(r"1 image scored, [01] anomalous, 0 skipped\n$", out)


def test_the_python_of_the_documentation_runs(run, photo, tmp_path, monkeypatch):
    (block,) = re.findall(r"```python\n(.+?)```", DOCUMENTATION.read_text(), flags=re.DOTALL)
    (tmp_path / "results" / "parts").mkdir(parents=True)
    (tmp_path / "results" / "parts" / "normal_parts").symlink_to(run / "normal_plain")
    photo.rename(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(block, found)
    assert found["found"].label == 1 and (tmp_path / "figure.png").is_file()
