"""Predictions on labelled images against what is known of them."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from fcdd_sweep.config.errors import DataError, InputError
from fcdd_sweep.metrics.statistics import wilson_interval
from fcdd_sweep.prediction.labels import PixelCounts, read_labels
from fcdd_sweep.prediction.predict import predict
from fcdd_sweep.prediction.targets import HowToPredict
from fcdd_sweep.results import files
from fcdd_sweep.training.detector import load_detector
from tests.prediction.runs import write_parts
from tests.trees import write_image


def csv_rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def truth(path):
    return int("crack" in path)


def test_metrics_at_the_threshold_and_the_curve_are_those_of_the_labels(run, parts, tmp_path):
    leaf = run / "normal_plain" / "it_0"
    result = predict(leaf, [], tmp_path / "out", HowToPredict("cpu", pictures="none"), parts)
    rows = files.read_table(result.scores).to_pylist()
    label, score = np.array([truth(row["path"]) for row in rows]), np.array([row["score"] for row in rows])
    called = np.array([row["label"] for row in rows])
    assert [row["given_label"] for row in rows] == label.tolist() and set(label) == set(called) == {0, 1}
    (found,) = csv_rows(tmp_path / "out" / "evaluation.csv")
    assert float(found["image_auroc"]) == pytest.approx(roc_auc_score(label, score))
    assert float(found["image_ap"]) == pytest.approx(average_precision_score(label, score))
    (tn, fp), (fn, tp) = confusion_matrix(label, called)
    counts = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    assert [int(found[name]) for name in counts] == [tn, fp, fn, tp]
    assert float(found["f1"]) == pytest.approx(2 * tp / (2 * tp + fp + fn))
    interval = [float(found[name]) for name in ("false_alarm_low", "false_alarm_high")]
    assert interval == pytest.approx(wilson_interval(fp, fp + tn))
    assert float(found["threshold"]) == rows[0]["threshold"] and found["basis"] == result.basis
    points = csv_rows(tmp_path / "out" / "roc.csv")
    x, y, _ = roc_curve(label, score, drop_intermediate=False)
    assert [float(point["false_positive_rate"]) for point in points] == pytest.approx(x)
    assert [float(point["true_positive_rate"]) for point in points] == pytest.approx(y)
    above = [[kind for kind, value in zip(label, score, strict=True) if value >= float(p["score"])] for p in points]
    precision = [sum(kinds) / len(kinds) for kinds in above[1:]]
    assert [float(point["precision"]) for point in points] == pytest.approx([1.0, *precision])
    assert Image.open(tmp_path / "out" / "roc.png").width > 500
    heatmaps = [each.heatmap for each in predictions(leaf, rows)]
    masks = [mask_of(row["path"]) for row in rows]
    exact = roc_auc_score(np.concatenate(masks, axis=None), np.concatenate(heatmaps, axis=None))
    assert float(found["pixel_auroc"]) == pytest.approx(exact, abs=1e-3)
    assert int(found["n_masks"]) == label.sum()
    assert f"image AUROC {roc_auc_score(label, score):.3f}" in result.evaluation.lines[1]


def predictions(leaf, rows):
    return load_detector(leaf / "snapshot.pt", "cpu").predict([row["path"] for row in rows])


def mask_of(path):
    if not truth(path):
        return np.zeros((64, 64), bool)
    name = path.replace("/test/", "/ground_truth/").replace(".png", "_mask.png")
    return np.asarray(Image.open(name)) > 0


def test_pixel_counts_in_bins_give_the_exact_area_to_a_ten_thousandth():
    rng = np.random.default_rng(0)
    counts, every = PixelCounts(), []
    for scale in (1e-6, 1.0, 1e6):
        heatmap = (scale * rng.gamma(2, 1, (20, 20))).astype(np.float32)
        positive = rng.random((20, 20)) < heatmap / heatmap.max()
        counts.add(heatmap, positive, np.ones((20, 20)))
        every.append((heatmap.ravel(), positive.ravel()))
    scores, labels = (np.concatenate(part) for part in zip(*every, strict=True))
    assert counts.auroc() == pytest.approx(roc_auc_score(labels, scores), abs=1e-4)
    assert np.isnan(PixelCounts().auroc())


def table_of(parts, path, **columns):
    images = sorted(each.relative_to(parts).as_posix() for each in (parts / "test").rglob("*.png"))
    rows = {"path": images, "label": ["ok" if "good" in name else "NG" for name in images], **columns}
    table = pa.table(rows)
    pq.write_table(table, path) if path.suffix == ".parquet" else pa.csv.write_csv(table, path)
    return path


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_a_table_gives_the_labels_that_the_folders_give(name, tmp_path):
    root = write_parts(tmp_path / "parts")
    by_folder = {each.path: each.label for each in read_labels(root).images}
    by_table = read_labels(table_of(root, root / name))
    assert {each.path: each.label for each in by_table.images} == by_folder
    assert len(by_folder) == 24 and sum(by_folder.values()) == 12
    masks = ["" if not truth(path) else path.replace("test", "ground_truth").replace(".png", "_mask.png")
             for path in sorted(each.relative_to(root).as_posix() for each in by_folder)]  # fmt: skip
    with_masks = read_labels(table_of(root, root / name, mask=masks))
    assert {each.path: each.masks for each in with_masks.images} == {
        each.path: each.masks for each in read_labels(root).images
    }


def test_images_of_the_training_half_are_passed_over_and_said(tmp_path):
    root = write_parts(tmp_path / "parts", masks=False)
    write_image(root / "train" / "good" / "a.png")
    found = read_labels(root)
    assert len(found.images) == 24 and found.notes[-1] == "1 image of the training half is passed over."


@pytest.mark.parametrize(
    ("files_of", "message"),
    [
        (
            ["a.png", "b.png"],
            "its folders do not say which images are nominal and which anomalous. Allowed: folders good",
        ),
        (["cats/a.png", "dogs/b.png", "c.png"], "its folders do not say"),
        (["cats/a.png"], "its folders do not say"),
        ([], "its folders do not say"),
    ],
)
def test_folders_that_say_nothing_of_labels_are_refused(files_of, message, tmp_path):
    (tmp_path / "x").mkdir()
    for name in files_of:
        write_image(tmp_path / "x" / name)
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "x")
    with pytest.raises(DataError, match="there is no folder"):
        read_labels(tmp_path / "nowhere")


def test_of_one_folder_per_class_that_of_the_detector_is_nominal(tmp_path):
    for name in ("bolt/a.png", "nut/b.png", "nut/old/c.png", "screw/d.png"):
        write_image(tmp_path / name)
    known = read_labels(tmp_path)
    assert {each.path.name: each.label for each in known.of_class("nut")} == {
        "a.png": 1,
        "b.png": 0,
        "c.png": 0,
        "d.png": 1,
    }
    assert "the detector's class is nominal" in known.notes[0]
    with pytest.raises(DataError, match=r"none of them \(bolt, nut, screw\) is named as the detector's class, plain"):
        known.of_class("plain")


def test_of_several_classes_that_of_the_detector_is_compared(run, tmp_path):
    for name in ("plain", "nut"):
        write_parts(tmp_path / "every" / name, masks=False)
    known = read_labels(tmp_path / "every")
    assert {each.path.parts[-4] for each in known.of_class("plain")} == {"plain"}
    with pytest.raises(DataError, match="holds the classes nut, plain, but the detector was trained on bolt"):
        known.of_class("bolt")


def test_images_of_one_label_leave_curves_undefined(run, tmp_path):
    for i in range(3):
        write_image(tmp_path / "set" / "good" / f"{i}.png", seed=i)
    result = predict(run / "normal_plain" / "it_0", [], tmp_path / "out", HowToPredict("cpu"), tmp_path / "set")
    (row,) = csv_rows(tmp_path / "out" / "evaluation.csv")
    assert row["image_auroc"] == row["image_ap"] == row["pixel_auroc"] == "" and row["n_images"] == "3"
    assert not (tmp_path / "out" / "roc.png").exists()
    assert "image AUROC n/a" in result.evaluation.lines[1]


def test_a_map_of_another_size_is_named_and_left_out_of_pixel_metrics_alone(run, tmp_path):
    root = write_parts(tmp_path / "parts")
    name = next((root / "ground_truth" / "crack").iterdir())
    Image.new("L", (5, 5), 255).save(name)
    (root / "test" / "good" / "lost.png").symlink_to("/nowhere")
    result = predict(run / "normal_plain" / "it_0", [], None, HowToPredict("cpu"), root)
    (lost,), (other,) = result.unreadable, result.unread_maps
    assert lost.startswith(f"{root / 'test' / 'good' / 'lost.png'}: is a link that leads nowhere")
    assert other.startswith(f"{name}: the map has 5x5 pixels, but its image ") and "has 64x64" in other
    assert (result.evaluation.row["n_images"], result.evaluation.row["n_masks"]) == (24, 11)


def test_problems_of_all_inputs_come_together(tmp_path):
    with pytest.raises(InputError) as caught:
        predict(tmp_path / "none", [tmp_path / "no.png"], None, HowToPredict("cpu"), tmp_path / "empty")
    assert [problem.where.rsplit("/", 1)[1] for problem in caught.value.problems] == ["no.png", "none", "empty"]
