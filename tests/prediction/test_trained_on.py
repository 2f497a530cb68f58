"""Labelled images that are in the training half of the detector's own data set."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.schema import Dataset
from fcdd_sweep.data.scanning import scan_dataset
from fcdd_sweep.prediction.predict import predict
from fcdd_sweep.prediction.targets import HowToPredict
from tests.specs import settings
from tests.trees import write_images

FOR_TRAINING = "images that the detector was trained or calibrated on are passed over."


@pytest.fixture
def root(tmp_path):
    """The folder of a data set without a split: 20 good images and 4 bad ones."""
    write_images(tmp_path / "plain" / "good", 20, seed=1)
    write_images(tmp_path / "plain" / "bad", 4, seed=2)
    return tmp_path / "plain"


@pytest.fixture
def leaf(run, root, tmp_path):
    """A leaf whose data set is that folder; it was trained on the first bad image, too."""
    plain = torch.load(run / "normal_plain" / "it_0" / "snapshot.pt", weights_only=True)
    plain["settings"]["dataset"] |= {"name": "folder", "root": str(root)}
    (tmp_path / "leaf").mkdir()
    torch.save(plain, tmp_path / "leaf" / "snapshot.pt")
    table = {"split": ["used_in_training", "test"], "path": ["bad/000.png", "bad/001.png"]}
    pq.write_table(pa.table(table), tmp_path / "leaf" / "scores.parquet")
    return tmp_path / "leaf"


def of_test(root):
    records = scan_dataset(Dataset(name="folder", root=root), settings().images).records
    return [record for record in records if record.is_test and record.path != "bad/000.png"]


def predicted(leaf, labels):
    return predict(leaf, [], None, HowToPredict("cpu", pictures="none"), labels)


def test_images_that_the_split_of_the_data_set_trains_on_are_passed_over_and_counted(leaf, root, tmp_path):
    tested = of_test(root)
    assert 3 < len(tested) < 20
    (tmp_path / "link").symlink_to(root)
    for source in (root, tmp_path / "link"):
        result = predicted(leaf, source)
        row = result.evaluation.row
        assert (result.count, row["n_images"], row["n_anomalous"]) == (len(tested), len(tested), 3)
        assert f"{24 - len(tested)} {FOR_TRAINING}" in result.notes


def test_images_of_a_table_are_passed_over_too_and_other_images_are_not(leaf, root, tmp_path):
    lines = [f"good/{path.name},good" for path in sorted((root / "good").iterdir())] + ["bad/001.png,bad"]
    (root / "labels.csv").write_text("\n".join(["path,label", *lines]))
    assert predicted(leaf, root / "labels.csv").count == len(of_test(root)) - 2
    write_images(tmp_path / "new" / "good", 3)
    result = predicted(leaf, tmp_path / "new")
    assert result.count == 3 and not any("passed over" in note for note in result.notes)


def test_images_for_training_alone_are_refused(leaf, root):
    (root / "labels.csv").write_text("path,label\nbad/000.png,bad\n")
    with pytest.raises(DataError, match="all labelled images are for training or calibration in the data set"):
        predicted(leaf, root / "labels.csv")


def test_where_the_data_set_cannot_be_read_a_note_says_what_is_not_known(leaf, root):
    result = predicted(leaf, root.rename(root.with_name("moved")))
    assert result.count == 24
    (note,) = [note for note in result.notes if "is not known" in note]
    assert note.startswith("Whether the detector was trained on some of the labelled images is not known, as its data")
    assert str(root) in note


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "scores.parquet is missing"), (b"PAR1", "Parquet file size is 4 bytes")]
)
def test_without_the_scores_of_the_trial_a_note_says_what_is_not_known(content, reason, leaf, root):
    (leaf / "scores.parquet").unlink()
    if content is not None:
        (leaf / "scores.parquet").write_bytes(content)
    result = predicted(leaf, root)
    assert result.count == len(of_test(root)) + 1  # the bad image that was taken is not known
    (note,) = [note for note in result.notes if "is not known" in note]
    assert note.startswith("Whether images that the detector took from its test set are among the labelled ones is not")
    assert f"as {leaf / 'scores.parquet'} cannot be read ({reason}" in note
