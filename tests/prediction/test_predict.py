"""Prediction from a snapshot, and snapshots themselves."""

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from fcdd_sweep.config.decision_record import DecisionRecord
from fcdd_sweep.config.errors import DataError, InputError
from fcdd_sweep.config.names import printable
from fcdd_sweep.data.decoding.depth import ValueRange
from fcdd_sweep.prediction.pictures import decision_notes, proportions_of
from fcdd_sweep.prediction.predict import predict
from fcdd_sweep.prediction.targets import HowToPredict
from fcdd_sweep.report.figures.prediction_figure import LEAST_SIDE
from fcdd_sweep.results import files, prediction_schemas
from fcdd_sweep.training.detector import Detector, load_detector
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.trainer import train
from tests.formats import write_png16
from tests.specs import defects_corpus, spec

CORPUS = defects_corpus()


@pytest.fixture(scope="module")
def outcome():
    evaluation = {"validation": {"nominal_fraction": 0.25}, "false_alarm_rate": 0.1}
    return train(spec(evaluation=evaluation), TrialData(CORPUS))


@pytest.fixture
def snapshot(outcome, tmp_path):
    path = tmp_path / "snapshot.pt"
    torch.save(outcome.snapshot, path)
    return path


@pytest.fixture
def test_images(tmp_path):
    """The corpus's test images as files, in the corpus's order."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    index = np.flatnonzero(CORPUS.is_test)
    paths = [folder / f"{i:03}.png" if i % 2 else folder / "below" / f"{i:03}.png" for i in index]
    for i, path in zip(index, paths, strict=True):
        Image.fromarray(CORPUS.images[i, 0]).save(path)
    return folder, paths


def test_an_output_that_cannot_be_made_is_reported_before_anything_is_scored(snapshot, test_images, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match=r"taken: cannot write predictions.*Choose another --output"):
        predict(snapshot, [test_images[0]], tmp_path / "taken")


def test_predicted_scores_are_those_of_the_trial(outcome, snapshot, test_images, tmp_path):
    folder, paths = test_images
    result = predict(snapshot, [folder], tmp_path / "out")
    table = files.read_table(result.scores)
    assert table.schema.equals(prediction_schemas.PREDICTIONS, check_metadata=True)
    found = dict(zip(table["path"].to_pylist(), table["score"].to_pylist(), strict=True))
    scores = zip(outcome.scores["score"], outcome.scores["split"], strict=True)
    expected = [score for score, part in scores if part == "test"]
    assert [found[str(path)] for path in paths] == pytest.approx(expected, rel=1e-6)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        assert [float(row["score"]) for row in csv.DictReader(file)] == table["score"].to_pylist()


def test_decisions_follow_the_threshold(outcome, snapshot, test_images, tmp_path):
    rows = files.read_table(predict(snapshot, [test_images[0]], tmp_path / "out").scores).to_pylist()
    assert {row["threshold"] for row in rows} == {outcome.metrics["threshold"]}
    assert {row["pixel_threshold"] for row in rows} == {outcome.metrics["pixel_threshold"]}
    assert all(row["label"] == (row["score"] > row["threshold"]) for row in rows)
    assert all(row["has_region"] == (row["heatmap_max"] > row["pixel_threshold"]) for row in rows)
    assert all(row["agrees"] == (row["label"] == row["has_region"]) for row in rows)
    assert all((row["n_regions"] > 0) == (row["region_area"] > 0) == row["has_region"] for row in rows)
    found = dict(zip(outcome.scores["path"], outcome.scores["score_max"], strict=True))
    assert [row["heatmap_max"] for row in sorted(rows, key=lambda row: Path(row["path"]).name)] == pytest.approx(
        [found[f"image/{i}"] for i in np.flatnonzero(CORPUS.is_test)], rel=1e-5
    )


@pytest.mark.parametrize(
    ("score", "spots", "note"),
    [
        (0.0, 2, "By its score the image is nominal; by its heatmap, at most 9, above the pixel threshold of 4"),
        (1.0, 0, "By its score the image is anomalous; by its heatmap, at most 0, not above the pixel"),
        (1.0, 2, ""),
        (0.0, 0, ""),
    ],
)
def test_where_label_and_heatmap_disagree_row_and_notes_say_both(snapshot, score, spots, note):
    detector = dataclasses.replace(load_detector(snapshot), threshold=0.5, pixel_threshold=4.0)
    predicted = detector.predict(np.zeros((9, 9), np.uint8))
    heatmap = np.zeros((28, 28), np.float32)
    heatmap[3:5, 3:7] = 9.0 if spots else 0.0
    heatmap[20, 20] = 5.0 if spots else 0.0
    found = detector.decide(score, heatmap)
    agrees = bool(score) == bool(spots)
    assert (found.label, found.has_region, found.agrees) == (int(score), bool(spots), agrees)
    assert (found.n_regions, found.region_area) == (spots, 9 / 784 if spots else 0.0)
    notes = decision_notes(dataclasses.replace(predicted, score=score, decision=found))
    assert notes[-1] == f"Decision: {detector.threshold_source}." and len(notes) == (1 if agrees else 2)
    assert notes[0].startswith(note)


@pytest.mark.parametrize(("image_score", "column"), [("max", "score_max"), ({"top": 0.03}, "score_top_3")])
def test_the_score_that_the_trial_was_tested_by_decides_about_new_images(image_score, column, test_images, tmp_path):
    evaluation = {"validation": {"nominal_fraction": 0.25}, "false_alarm_rate": 0.1, "image_score": image_score}
    result = train(spec(evaluation=evaluation), TrialData(CORPUS))
    torch.save(result.snapshot, tmp_path / "snapshot.pt")
    rows = files.read_table(predict(tmp_path / "snapshot.pt", [test_images[0]], tmp_path / "out").scores).to_pylist()
    found = dict(zip(result.scores["path"], result.scores[column], strict=True))
    assert {row["label"] for row in rows} == {0, 1}
    for row in rows:
        assert row["score"] == pytest.approx(found[f"image/{int(Path(row['path']).stem)}"], rel=1e-5)
        assert row["label"] == (row["score"] > result.metrics["threshold"])
    assert image_score != "max" or all(row["agrees"] for row in rows)


def test_a_record_of_decisions_beside_the_snapshot_decides_and_one_of_another_trial_is_refused(outcome, snapshot):
    record = DecisionRecord(
        trial_id=outcome.snapshot["trial_id"],
        image_score="max",
        image_score_source="auto: why",
        false_alarm_rate=0.5,
        threshold=0.25,
        pixel_threshold=0.5,
        threshold_source="with 20 held-out images",
        n_calibration=20,
    )
    snapshot.with_name("decision.json").write_text(record.model_dump_json())
    found = load_detector(snapshot)
    assert (found.score_column, found.threshold, found.pixel_threshold) == ("score_max", 0.25, 0.5)
    assert (found.n_calibration, found.settings.evaluation.false_alarm_rate) == (20, 0.5)
    other = record.model_copy(update={"trial_id": "another"})
    snapshot.with_name("decision.json").write_text(other.model_dump_json())
    with pytest.raises(InputError, match=r"decision\.json: belongs to trial another, the snapshot to trial"):
        load_detector(snapshot)


def test_without_a_threshold_nothing_is_decided(test_images, tmp_path):
    torch.save(train(spec(), TrialData(CORPUS)).snapshot, tmp_path / "plain.pt")
    rows = files.read_table(predict(tmp_path / "plain.pt", [test_images[0]], tmp_path / "out").scores).to_pylist()
    names = ("threshold", "label", "pixel_threshold", "has_region", "n_regions", "region_area", "agrees")
    assert {row[name] for row in rows for name in names} == {None}


def test_each_image_gets_its_picture(snapshot, test_images, tmp_path):
    folder, paths = test_images
    result = predict(snapshot, [folder], tmp_path / "out")
    pictures = sorted(path.relative_to(result.heatmaps) for path in result.heatmaps.rglob("*.png"))
    assert len(pictures) == len(paths)
    width, height = Image.open(result.heatmaps / pictures[0]).size
    assert width > 3 * LEAST_SIDE and height > LEAST_SIDE


@pytest.mark.parametrize(
    ("size", "aspect", "expected"),
    [
        ((20, 40), "stretch", (2.0, "40x20 px; the network saw it as a square")),
        ((40, 20), "stretch", (0.5, "20x40 px; the network saw it as a square")),
        ((20, 40), "crop", (1.0, "Only the middle square of the file's 40x20 px")),
        ((20, 40), "native", (2.0, "")),
        ((20, 20), "stretch", (1.0, "")),
    ],
)
def test_pictures_have_the_proportions_of_what_was_looked_at(size, aspect, expected):
    proportions, reported = proportions_of(size, aspect)
    assert proportions == expected[0] and expected[1] in reported and bool(reported) == bool(expected[1])


def test_the_picture_of_a_photograph_that_exif_turns_is_upright(snapshot, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "x.jpg", exif=exif)
    picture = Image.open(next(predict(snapshot, [tmp_path / "x.jpg"], tmp_path / "out").heatmaps.rglob("*.png")))
    assert picture.height > 616 > 308 > picture.width - 3 * 308


def test_an_unreadable_image_is_named_and_the_others_are_scored(snapshot, test_images, tmp_path):
    folder, paths = test_images
    paths[3].write_bytes(b"\x89PNG not really")
    result = predict(snapshot, [folder], tmp_path / "out")
    assert result.count == len(paths) - 1
    assert len(result.unreadable) == 1 and paths[3].name in result.unreadable[0]


DEEP = ValueRange(2000, 2255, "measured")
"""Under it a value of 16 bits is a gray level plus 2000."""


@pytest.fixture(scope="module")
def deep_snapshot(tmp_path_factory):
    path = tmp_path_factory.mktemp("deep") / "snapshot.pt"
    corpus = dataclasses.replace(CORPUS, value_range=DEEP)
    torch.save(train(spec(), TrialData(corpus)).snapshot, path)
    return path


def test_images_of_16_bits_are_scored_in_the_range_of_training(deep_snapshot, test_images, tmp_path):
    folder, paths = test_images
    for path in paths:
        write_png16(path, np.asarray(Image.open(path)).astype(np.uint16) + 2000)
    rows = files.read_table(predict(deep_snapshot, [folder], tmp_path / "out").scores).to_pylist()
    found = {row["path"]: row["score"] for row in rows}
    expected = load_detector(deep_snapshot, "cpu").detect(CORPUS.images[CORPUS.is_test]).scores.tolist()
    assert [found[str(path)] for path in paths] == pytest.approx(expected, rel=1e-6)


def test_values_outside_of_the_trained_range_are_counted(deep_snapshot, tmp_path):
    values = np.full((32, 32), 2100, np.uint16)
    values[0, :8] = 4095
    write_png16(tmp_path / "bright.png", values)
    (note,) = predict(deep_snapshot, [tmp_path / "bright.png"], tmp_path / "out").notes
    assert note.startswith(
        "1 of 1 images have values outside of the trained range, which are clipped (values 2000 to 2255"
    )
    assert f"at most {8 / 1024:.2%} of an image: {tmp_path / 'bright.png'}" in note


def test_an_image_of_another_depth_than_the_training_images_is_refused(snapshot, deep_snapshot, test_images, tmp_path):
    deep = write_png16(tmp_path / "deep.png", np.full((32, 32), 2100, np.uint16))
    shallow = test_images[1][0]
    with pytest.raises(InputError, match=r"deep.png: has 16 bits per channel, and no range says"):
        predict(snapshot, [deep], tmp_path / "out")
    with pytest.raises(InputError, match=r"png: has 8 bits, but the training images have more: values 2000 to 2255"):
        predict(deep_snapshot, [shallow], tmp_path / "out")


def test_nothing_readable_is_an_error(snapshot, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="bad.png"):
        predict(snapshot, [tmp_path / "bad.png"], tmp_path / "out")
    with pytest.raises(DataError, match="no such file or folder"):
        predict(snapshot, [tmp_path / "nowhere"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image found"):
        predict(snapshot, [tmp_path / "empty"], tmp_path / "out")


def test_a_snapshot_loads_without_running_code_and_gives_the_same_maps(outcome, snapshot):
    assert torch.load(snapshot, weights_only=True)["normal_class"] == "plain"
    detector = load_detector(snapshot, "cpu")
    test = np.flatnonzero(CORPUS.is_test)
    scores = detector.detect(CORPUS.images[test]).scores.numpy()
    assert scores.tolist() == outcome.scores["score"][: len(test)]


def test_the_folder_of_a_trial_stands_for_its_snapshot(snapshot, tmp_path):
    assert load_detector(snapshot.parent).threshold == load_detector(snapshot).threshold
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty/snapshot.pt: there is no such file"):
        load_detector(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "this is not a snapshot"),
        (b"PK\x03\x04 broken", "the file is damaged or cut off. Copy it again; or remove its folder and run"),
        (b"only text\n", r"this is not a snapshot. Allowed: the snapshot.pt of a finished trial, such as results/RUN/"),
    ],
)
def test_what_is_no_snapshot_is_refused(tmp_path, content, message):
    path = tmp_path / "x.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_detector(path)


def test_foreign_and_unsafe_files_are_refused(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "foreign.pt")
    torch.save(spec, tmp_path / "code.pt")
    for name in ("foreign.pt", "code.pt"):
        with pytest.raises(InputError, match="this is not a snapshot"):
            load_detector(tmp_path / name)


def test_a_snapshot_of_another_version_says_so(outcome, tmp_path):
    torch.save(outcome.snapshot | {"snapshot_version": 99}, tmp_path / "new.pt")
    with pytest.raises(InputError, match="the snapshot has version 99"):
        load_detector(tmp_path / "new.pt")


def test_images_of_one_name_get_pictures_of_their_own(snapshot, tmp_path, monkeypatch):
    for folder in ("a/parts", "b/parts"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(CORPUS.images[0, 0]).save(tmp_path / folder / "one.png")
    result = predict(snapshot, [tmp_path / "a" / "parts", tmp_path / "b" / "parts"], tmp_path / "out")
    rows = files.read_table(result.scores).to_pylist()
    assert len({row["heatmap"] for row in rows}) == 2
    assert all((tmp_path / "out" / row["heatmap"]).is_file() for row in rows)
    monkeypatch.chdir(tmp_path / "a" / "parts")
    result = predict(snapshot, [Path("..")], tmp_path / "up")
    (row,) = files.read_table(result.scores).to_pylist()
    assert row["heatmap"].startswith("heatmaps/a/")
    assert (tmp_path / "up" / row["heatmap"]).is_file()


def test_a_trial_without_test_images_still_gives_readable_heatmaps(tmp_path, test_images):
    outcome = train(spec(), TrialData(dataclasses.replace(CORPUS, is_test=np.zeros(64, dtype=bool))))
    torch.save(outcome.snapshot, tmp_path / "untested.pt")
    result = predict(tmp_path / "untested.pt", [test_images[1][0]], tmp_path / "out")
    picture = np.asarray(Image.open(next(result.heatmaps.rglob("*.png"))))
    left = 16 + 308 + 10  # of the heatmap: 28 px are shown as 308
    heatmap = picture[94:402, left : left + 308]
    assert len(np.unique(heatmap.reshape(-1, 3), axis=0)) > 10
    assert (picture[94:402, left - 5] == 255).all() and (heatmap[:11, :11] == heatmap[0, 0]).all()


NAMES = {
    "bytes": os.fsdecode(b"gr\xfcn.png"),
    "line": "zwei\nzeilen.png",
    "long": "x" * 245 + ".png",
    "wide": "零" * 83 + ".png",
    "chinese": "零件.png",
    "emoji": "🔩.png",
}


def test_images_of_any_name_are_scored_and_none_takes_the_others_down(snapshot, tmp_path):
    folder = tmp_path / os.fsdecode(b"teile-\xff")
    folder.mkdir()
    for name in NAMES.values():
        Image.fromarray(CORPUS.images[0, 0]).save(folder / name, format="PNG")
    result = predict(snapshot, [folder], tmp_path / "out")
    rows = files.read_table(result.scores).to_pylist()
    assert {row["path"] for row in rows} == {f"{tmp_path}/teile-\\xff/{printable(name)}" for name in NAMES.values()}
    assert len({row["heatmap"] for row in rows}) == len(NAMES)
    assert all((tmp_path / "out" / row["heatmap"]).is_file() for row in rows)
    assert any(row["heatmap"].endswith("/零件.png") for row in rows)
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [row["path"] for row in rows]


def test_what_cannot_be_read_is_named_and_the_others_are_scored(snapshot, test_images, tmp_path):
    folder, paths = test_images
    (folder / "lost.png").symlink_to("/nowhere")
    (folder / "below" / "loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "photo.heic").write_bytes(b"photo")
    pages = [Image.fromarray(CORPUS.images[i, 0]) for i in range(3)]
    for name in ("scan.tif", "scan.png"):
        pages[0].save(folder / name, save_all=True, append_images=pages[1:])
    result = predict(snapshot, [folder], tmp_path / "out")
    assert result.count == len(paths) + 2
    assert [sentence.split(": ")[0] for sentence in result.unreadable] == [
        str(folder / name) for name in ("lost.png", "pipe.png", "below/loop.png")
    ]
    files = f"{folder / 'scan.png'} (3 pages), {folder / 'scan.tif'} (3 pages)"
    assert "1 .heic" in result.notes[0] and files in result.notes[1]


def test_all_paths_that_do_not_exist_are_named_at_once(snapshot, test_images, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    given = [test_images[0], tmp_path / "a", tmp_path / "b", tmp_path / "pipe.png"]
    with pytest.raises(DataError) as caught:
        predict(snapshot, given, tmp_path / "out")
    assert [problem.where for problem in caught.value.problems] == [str(path) for path in given[1:]]
    assert not (tmp_path / "out").exists()


def test_images_are_scored_under_the_numerics_of_the_trial(outcome, snapshot, test_images, tmp_path, monkeypatch):
    seen, detect, before = [], Detector.detect, torch.get_num_threads()

    def watched(self, raw, batch_size):
        seen.append((torch.get_num_threads(), torch.backends.cudnn.deterministic))
        return detect(self, raw, batch_size=batch_size)

    monkeypatch.setattr(Detector, "detect", watched)
    of_trial = outcome.snapshot["settings"]["training"]["threads"]
    torch.set_num_threads(of_trial + 1)
    try:
        predict(snapshot, [test_images[0]], tmp_path / "out")
        assert torch.get_num_threads() == of_trial + 1
    finally:
        torch.set_num_threads(before)
    assert seen == [(of_trial, True)]


def test_the_device_is_reported_with_the_reason_where_auto_fell_back_to_the_cpu(
    snapshot, test_images, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    (path, *_) = test_images[1]
    reason = f"as torch sees no GPU (torch {torch.__version__} is built without CUDA)"
    assert predict(snapshot, [path], tmp_path / "a").device == f"cpu, {reason}"
    assert predict(snapshot, [path], tmp_path / "b", HowToPredict("cpu")).device == "cpu"
