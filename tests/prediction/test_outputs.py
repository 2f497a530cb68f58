"""Tables, pictures and their names for any number of images."""

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.prediction import outputs, pictures
from fcdd_sweep.prediction.found_images import PictureNames
from fcdd_sweep.prediction.outputs import check_output
from fcdd_sweep.prediction.predict import predict
from fcdd_sweep.prediction.targets import HowToPredict
from fcdd_sweep.prediction.watch import watch_folder
from tests.prediction.runs import CORPUS


@pytest.fixture
def images(tmp_path):
    (tmp_path / "in").mkdir()
    for i in np.flatnonzero(CORPUS.is_test):
        Image.fromarray(CORPUS.images[i, 0]).save(tmp_path / "in" / f"{i}.png")
    return tmp_path / "in"


def names_of(*files):
    names = PictureNames()
    return [names.path(Path("/nowhere"), Path(file)).as_posix() for file in files]


def test_pictures_are_named_like_their_images_and_none_takes_the_place_of_another():
    assert names_of("a.png", "b.JPG", "c.tar.tiff") == ["heatmaps/a.png", "heatmaps/b.png", "heatmaps/c.tar.png"]
    found = names_of("a.png", "a.jpg", "a-2.png", "A.png", "x/a.png", "a")
    assert found[:3] == ["heatmaps/a.png", "heatmaps/a-2.png", "heatmaps/a-2-2.png"]
    assert len({name.casefold() for name in found}) == len(found)


def test_an_image_that_several_arguments_lead_to_is_scored_once(run, images, monkeypatch):
    monkeypatch.chdir(images.parent)
    (images / "scan.webp").write_bytes(b"RIFF")
    given = [images / "41.png", Path("in"), images, Path("in/../in/41.png")]
    result = predict(run / "normal_plain" / "it_0", given, None, HowToPredict("cpu"))
    assert result.count == 24 and len(result.unreadable) == 1
    assert result.rows[0][0] == str(images / "41.png")
    assert "27 images named more than once are scored once." in result.notes


def test_a_hidden_image_is_ignored_in_its_folder_and_read_where_it_is_named_itself(run, images):
    hidden = images / "._41.png"
    (images / "41.png").rename(hidden)
    result = predict(run / "normal_plain" / "it_0", [images], None, HowToPredict("cpu"))
    assert (result.count, result.unreadable, result.notes) == (23, (), ())
    assert predict(run / "normal_plain" / "it_0", [hidden], None, HowToPredict("cpu")).count == 1


def test_pictures_of_earlier_predictions_are_no_images(run, images):
    given = sorted(images.glob("*.png"))
    predict(run / "normal_plain" / "it_0", given[:2], images / "out", HowToPredict("cpu"))
    assert len(list((images / "out" / "heatmaps").iterdir())) == 2
    result = predict(run / "normal_plain" / "it_0", [images], None, HowToPredict("cpu"))
    assert result.count == len(given) and f"2 pictures of earlier predictions in {images} not read." in result.notes


def test_two_images_of_one_stem_have_pictures_of_their_own(run, tmp_path):
    for name in ("a.png", "a.bmp"):
        Image.fromarray(CORPUS.images[0, 0]).save(tmp_path / name)
    result = predict(run / "normal_plain" / "it_0", [tmp_path / "a.png", tmp_path / "a.bmp"], tmp_path / "out")
    rows = pq.read_table(result.scores).to_pylist()
    assert [row["heatmap"] for row in rows] == ["heatmaps/a.png", "heatmaps/a-2.png"]
    assert sorted(path.name for path in result.heatmaps.iterdir()) == ["a-2.png", "a.png"]


def test_rows_are_written_in_groups_and_a_failure_leaves_nothing(run, images, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "ROWS_TOGETHER", 10)
    result = predict(run / "normal_plain" / "it_0", [images], tmp_path / "out", HowToPredict("cpu", batch_size=7))
    file = pq.ParquetFile(result.scores)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10, 10, 4]
    assert (tmp_path / "out" / "predictions.csv").read_text().count("\n") == 25

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fcdd_sweep.prediction.pictures.save_picture", full)
    with pytest.raises(OSError, match="No space left"):
        predict(run / "normal_plain" / "it_0", [images], tmp_path / "full")
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["heatmaps"]


@pytest.mark.parametrize("wanted", ["auto", "all", "anomalous", "none"])
def test_which_images_are_drawn(wanted, run, images, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "FIRST", 5)
    how = HowToPredict("cpu", pictures=wanted)
    result = predict(run / "normal_plain" / "it_0", [images], tmp_path / "out", how)
    rows = pq.read_table(result.scores).to_pylist()
    expected = [
        wanted == "all" or (wanted != "none" and row["label"] == 1) or (wanted == "auto" and i < 5)
        for i, row in enumerate(rows)
    ]
    assert [row["heatmap"] is not None for row in rows] == expected
    assert len(list(result.heatmaps.rglob("*.png"))) == sum(expected)
    rule = f"{sum(expected)} pictures of 24 images: " + ("the first 5 and " if wanted == "auto" else "")
    assert [note for note in result.notes if "pictures" in note] == (
        [f"{rule}those that are called anomalous. Draw all with --pictures all."]
        if wanted in ("auto", "anomalous")
        else []
    )


def test_the_terminal_shows_all_of_few_images_and_the_highest_scores_of_many(run, images, monkeypatch):
    result = predict(run / "normal_plain" / "it_0", [images], None, HowToPredict("cpu"))
    assert [row[0] for row in result.rows] == [str(images / f"{i}.png") for i in np.flatnonzero(CORPUS.is_test)]
    monkeypatch.setattr(outputs, "MOST_SHOWN", 5)
    few = predict(run / "normal_plain" / "it_0", [images], None, HowToPredict("cpu"))
    by_score = sorted(result.rows, key=lambda row: -float(row[3]))
    assert [row[0] for row in few.rows] == [row[0] for row in by_score[:5]]
    assert few.count == 24 and few.anomalous == sum(row[1] == "anomalous" for row in result.rows)


@pytest.mark.parametrize("where", ["in", "in/below/out", "link/out", "IN/link/out"])
def test_an_output_whose_pictures_would_be_read_as_images_is_refused(where, run, images, tmp_path):
    (tmp_path / "link").symlink_to(images)
    (tmp_path / "IN").mkdir()
    (tmp_path / "IN" / "link").symlink_to(images)
    source, how = tmp_path / where.split("/")[0], HowToPredict("cpu")
    before = sorted(tmp_path.rglob("*"))
    wanted = f"{tmp_path / where}: pictures in it would be read as images of {source}"
    with pytest.raises(InputError, match=wanted):
        predict(run, [source], tmp_path / where, how)
    with pytest.raises(InputError, match=wanted):
        predict(run, [], tmp_path / where, how, source)
    with pytest.raises(InputError, match=wanted):
        watch_folder(run, source, tmp_path / where, how, print)
    assert sorted(tmp_path.rglob("*")) == before


def test_images_where_the_pictures_would_be_are_refused(run, images, tmp_path):
    images.rename(tmp_path / "heatmaps")
    for source in (tmp_path / "heatmaps", tmp_path / "heatmaps" / "41.png"):
        with pytest.raises(InputError, match="pictures in it would be read as images of"):
            predict(run, [source], tmp_path, HowToPredict("cpu"))
    check_output(tmp_path / "heatmaps-2", [tmp_path / "heatmaps"])


def peak_bytes(images, run, output):
    tracemalloc.start()
    try:
        predict(run / "normal_plain" / "it_0", images, output, HowToPredict("cpu", batch_size=4, pictures="none"))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_images(run, tmp_path):
    """Kept whole, each image would take 0.6 MB; of a prediction, its heatmap and what the network saw take 4 kB."""
    files = [tmp_path / f"{i}.png" for i in range(48)]
    for path in files:
        Image.new("RGB", (400, 500)).save(path)
    peaks = [peak_bytes(files[:count], run, tmp_path / f"out{i}") for i, count in enumerate((8, 8, 48))]
    assert peaks[2] - peaks[1] < 2e6
