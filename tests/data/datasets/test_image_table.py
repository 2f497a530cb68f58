"""Tables of images as the root of a data set."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from fcdd_sweep.config.schema import Images
from fcdd_sweep.data.scanning import check_dataset, dataset_facts
from tests.data.datasets.test_folder import folder, load, sizes
from tests.trees import write_images, write_mask

IMAGES = Images(load_size=16, size=16)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_gives_label_split_mask_and_class(tmp_path: Path, ending: str) -> None:
    root = tmp_path / "lot"
    write_images(root / "a", 8)
    write_mask(root / "m.png", box=(4, 5, 10, 12))
    write_mask(root / "n.png", box=(0, 0, 2, 2))
    labels = ["good", "OK", "0", "normal", "normal", "crack", "NG", "1"]
    splits = ["train", "train", "Train", "train", "test", "test", "test", "test"]
    rows = [
        {"path": f"a/{i:03}.png", "label": labels[i], "split": splits[i], "mask": "m.png; n.png" if i == 5 else None}
        for i in range(8)
    ]
    table, file = pa.Table.from_pylist(rows), root / f"parts.{ending}"
    if ending == "csv":
        pa.csv.write_csv(table, file)
    else:
        pa.parquet.write_table(table, file)
    corpus = load(folder(file))
    assert (corpus.protocol, corpus.classes) == ("defects", ("parts",))
    assert sizes(corpus, "parts") == (4, 0, 1, 3)
    assert corpus.defect[5:] == ("crack", "anomalous", "anomalous") and dataset_facts(folder(file)).maps
    mask = corpus.mask(5)
    assert mask is not None and mask.sum() == 6 * 7 + 2 * 2


def test_rows_without_a_split_are_split_by_their_group(tmp_path: Path) -> None:
    write_images(tmp_path / "lot", 24)
    lines = [f"{i:03}.png,good,lot{i // 2},bolt" for i in range(24)]
    (tmp_path / "lot" / "parts.csv").write_text("\n".join(["path,label,group,class", *lines]))
    corpus = load(folder(tmp_path / "lot" / "parts.csv"))
    assert corpus.classes == ("bolt",) and set(corpus.is_test.tolist()) == {True, False}
    assert corpus.is_test[::2].tolist() == corpus.is_test[1::2].tolist()


def test_all_rows_that_cannot_be_read_are_named_with_their_line(tmp_path: Path) -> None:
    write_images(tmp_path / "lot", 3)
    lines = ["000.png,good,train", "../x.png,good,train", "001.png,,train", "002.png,bad,tset", "9.png,bad,test"]
    (tmp_path / "lot" / "parts.csv").write_text("\n".join(["path,label,split", *lines]))
    found = {p.where.rsplit(", line ")[-1]: str(p) for p in check_dataset(folder(tmp_path / "lot/parts.csv"), IMAGES)}
    assert set(found) == {"3", "4", "5", "6"}
    assert "a path relative to" in found["3"] and "no label" in found["4"]
    assert "Closest: 'test'" in found["5"] and "there is no file" in found["6"]


def test_a_table_without_the_needed_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "parts.csv").write_text("file,label\n1.png,good\n")
    (problem,) = check_dataset(folder(tmp_path / "parts.csv"), IMAGES)
    assert "has no column path" in problem.what and "file, label" in problem.what


ENCODED = "path,label\n000.png,größer\n"


@pytest.mark.parametrize(
    ("content", "what", "step"),
    [
        (
            b"path;label;split\n000.png;good;train\n",
            "has no column path and no column",
            "Separate the columns by commas.",
        ),
        (b"path\tlabel\n000.png\tgood\n", "has no column path and no column label", "Separate the columns by commas."),
        (ENCODED.encode("latin-1"), "is not UTF-8 text", "Save it as UTF-8, in Excel as 'CSV UTF-8'."),
        (ENCODED.encode("utf-16"), "is not UTF-8 text", "Save it as UTF-8, in Excel as 'CSV UTF-8'."),
        (b"Path, label\n", "has no column path and no column label", "Rename 'Path' to 'path', ' label' to 'label'."),
        (b"path,lable\n000.png,good\n", "has no column label: path, lable", "Rename 'lable' to 'label'."),
        (b"path,label,Mask\n", "has columns that would not be read: path, label, Mask", "Rename 'Mask' to 'mask'."),
    ],
)
def test_what_spreadsheets_write_otherwise_is_named_with_what_to_do(
    tmp_path: Path, content: bytes, what: str, step: str
) -> None:
    (tmp_path / "parts.csv").write_bytes(content)
    (problem,) = check_dataset(folder(tmp_path / "parts.csv"), IMAGES)
    assert problem.where == str(tmp_path / "parts.csv") and problem.what.startswith(what)
    assert str(problem).endswith(f" {step}")


def test_other_columns_and_a_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    write_images(tmp_path / "lot", 3)
    lines = [f"{i:03}.png,good,train,{i}" for i in range(3)]
    (tmp_path / "lot" / "parts.csv").write_text("\n".join(["path,label,split,masked", *lines]), encoding="utf-8-sig")
    assert sizes(load(folder(tmp_path / "lot" / "parts.csv")), "parts") == (3, 0, 0, 0)


def test_paths_that_are_absolute_or_of_windows_are_named_with_how_to_write_them(tmp_path: Path) -> None:
    write_images(tmp_path / "lot" / "a", 2)
    lines = [f"{tmp_path}/lot/a/000.png,good", "/elsewhere/000.png,good", "a\\001.png,good"]
    (tmp_path / "lot" / "parts.csv").write_text("\n".join(["path,label", *lines]))
    inside, outside, windows = map(str, check_dataset(folder(tmp_path / "lot" / "parts.csv"), IMAGES))
    allowed = f"Allowed: a path relative to {tmp_path / 'lot'}, and below it."
    assert inside.endswith(f"{allowed} Write 'a/000.png'.") and outside.endswith(allowed)
    assert windows.endswith("001.png. Write / in paths.")
