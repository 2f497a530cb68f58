"""New images of a folder, predicted on as they arrive."""

import csv
import os
import shutil

import pyarrow.parquet as pq
import pytest
from PIL import Image

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.prediction.targets import HowToPredict
from fcdd_sweep.prediction.watch import NewFiles, watch_folder
from tests.prediction.runs import CORPUS
from tests.trees import as_nobody, reachable_folder


def save(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(CORPUS.images[number, 0]).save(path)
    return path


def test_a_file_is_taken_once_when_it_no_longer_changes_and_again_when_it_has_changed(tmp_path):
    save(tmp_path / "old.png")
    new = NewFiles(tmp_path)
    assert new.take() == new.take() == [] and len(new) == 1
    path = tmp_path / "below" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"half")
    assert new.take() == []
    path.write_bytes(b"half and half")
    (tmp_path / "notes.txt").write_text("no image")
    assert new.take() == []
    assert new.take() == [path] and new.take() == []
    path.write_bytes(b"another one")
    assert new.take() == [] and new.take() == [path]
    (tmp_path / "below").rename(tmp_path.with_suffix(".away"))
    (tmp_path / "old.png").rename(tmp_path.with_suffix(".old"))
    assert new.take() == new.take() == []  # as where a share was mounted
    tmp_path.with_suffix(".away").rename(tmp_path / "below")
    tmp_path.with_suffix(".old").rename(tmp_path / "old.png")
    assert new.take() == new.take() == [] and len(new) == 2
    path.unlink()
    assert new.take() == [] and len(new) == 1
    os.mkfifo(tmp_path / "pipe.png")
    assert new.take() == new.take() == []


def arrivals(*steps):
    """What happens while `watch` waits: each step between two looks, then Ctrl+C."""
    waiting = iter(steps)

    def wait(seconds):
        assert seconds == 1.0
        step = next(waiting, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    return wait


def nothing():
    """Let a second pass."""


def test_images_are_predicted_on_as_they_arrive_and_a_broken_one_is_passed_over(run, tmp_path):
    folder, lines = tmp_path / "inbox", []
    save(folder / "there.png")
    seen_in_csv = []

    def bad():
        seen_in_csv.append((tmp_path / "out" / "predictions.csv").read_text().count("\n"))
        (folder / "bad.png").write_bytes(b"\x89PNG broken")

    wait = arrivals(lambda: save(folder / "x" / "a.png", 41), nothing, bad, lambda: save(folder / "b.png", 40), nothing)
    found = watch_folder(run, folder, tmp_path / "out", HowToPredict("cpu"), lines.append, wait)
    assert (found.count, found.skipped) == (2, 1)
    assert lines[1] == f"watching {folder}, without 1 image that is there already; Ctrl+C ends it"
    assert lines[2].startswith(f"{folder / 'x' / 'a.png'}: anomalous, score ") and "seeds agree" in lines[2]
    assert sum(line.startswith(f"skipped {folder / 'bad.png'}: does not decode") for line in lines) == 1
    assert lines[-1].startswith(f"{folder / 'b.png'}: nominal") and found.anomalous == 1
    assert seen_in_csv == [2]  # the title and the first image
    rows = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    assert [row["heatmap"] for row in rows] == ["heatmaps/inbox/x/a.png", "heatmaps/inbox/b.png"]
    assert all((tmp_path / "out" / row["heatmap"]).is_file() for row in rows)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "heatmaps",
        "predictions.csv",
        "predictions.parquet",
    ]
    with (tmp_path / "out" / "predictions.csv").open() as file:
        assert [float(row["score"]) for row in csv.DictReader(file)] == [row["score"] for row in rows]
    with pytest.raises(InputError, match="predictions.csv: holds predictions already, which would be lost"):
        watch_folder(run, folder, tmp_path / "out", HowToPredict("cpu"), lines.append, wait)


RESTORE = "Restore what it leads to, or remove the link."


def test_what_is_passed_over_is_said_once(run, tmp_path):
    folder, lines = tmp_path / "inbox", []
    save(folder / "there.png")
    (folder / "lost.png").symlink_to("/nowhere")
    (folder / "loop").symlink_to(folder)

    def arrive():
        os.mkfifo(folder / "pipe.png")
        pages = [Image.fromarray(CORPUS.images[i, 0]) for i in range(3)]
        pages[0].save(folder / "anim.gif", save_all=True, append_images=pages[1:])
        for name in ("a.heic", "b.HEIC", "c"):
            (folder / name).write_bytes(b"photo")
        (folder / "d.part").write_bytes(b"half")

    wait = arrivals(nothing, arrive, lambda: (folder / "d.part").unlink(), nothing, nothing)
    found = watch_folder(run, folder, None, HowToPredict("cpu"), lines.append, wait)
    assert (found.count, found.skipped) == (1, 2)
    assert lines[2:5] == [
        f"skipped {folder / 'lost.png'}: is a link that leads nowhere (to /nowhere). {RESTORE}",
        f"note: {folder / 'loop'} is not read, as it is a link to a folder that is read already or holds it.",
        f"skipped {folder / 'pipe.png'}: is no regular file (a named pipe). Remove it, or give it another ending.",
    ]
    endings = [
        f"Files that end in .heic are not read, such as {folder / 'a.heic'}: the endings are not those of images.",
        f"Files without an ending are not read, such as {folder / 'c'}: the endings are not those of images.",
    ]
    assert sorted(lines[5:7]) == [f"note: {each}" for each in endings]
    assert lines[7].startswith(f"{folder / 'anim.gif'}: ")
    (note,) = lines[8:]
    assert note.startswith("note: Only the first page of a file is read: 2 pages of 1 file are not read, of ")
    assert note.endswith(f"{folder / 'anim.gif'} (3 pages).")


def test_a_folder_that_is_not_there_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        watch_folder(run, tmp_path / "no", None, HowToPredict("cpu"), print)


def test_a_folder_that_cannot_be_read_is_refused_before_anything_starts(run):
    folder = reachable_folder() / "closed"
    folder.mkdir(mode=0o300)

    def refused():
        with pytest.raises(InputError) as caught:
            watch_folder(run, folder, folder.parent / "out", HowToPredict("cpu"), print, arrivals())
        return str(caught.value)

    assert f"{folder} cannot be read (Permission denied). Allowed: the folder that new" in as_nobody(refused)
    assert [path.name for path in folder.parent.iterdir()] == ["closed"]
    shutil.rmtree(folder.parent)


def test_while_the_folder_is_away_it_waits_and_says_so_once_and_takes_no_image_twice(run, tmp_path):
    folder, lines = tmp_path / "inbox", []
    save(folder / "there.png")
    away = tmp_path / "away"
    wait = arrivals(
        lambda: save(folder / "a.png"),
        nothing,
        lambda: folder.rename(away),
        nothing,
        nothing,
        lambda: away.rename(folder),
        nothing,
        lambda: save(folder / "b.png"),
        nothing,
    )
    found = watch_folder(run, folder, None, HowToPredict("cpu"), lines.append, wait)
    assert found.count == 2
    assert [line.split(": ")[0] for line in lines[2:]] == [
        str(folder / "a.png"),
        f"waiting, as there is no folder {folder}",
        f"{folder} is read again",
        str(folder / "b.png"),
    ]
