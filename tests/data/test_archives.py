"""Archives: unpacked whole or not at all, and nothing outside of their folder; downloads with a checksum."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import pytest

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data import fetching
from fcdd_sweep.data.datasets import mvtec
from fcdd_sweep.data.loading import load_corpus
from fcdd_sweep.data.scanning import check_dataset, scan_dataset
from tests.formats import write_archive
from tests.trees import truncate, write_mvtec

IMAGES = Images(load_size=16, size=16)
CLASSES = ("bottle", "carpet")


def data(root: Path, *, download: bool = False) -> Dataset:
    return Dataset(name="mvtec", root=root, classes=list(CLASSES), download=download)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The whole archive, as its authors publish it."""
    tree = write_mvtec(tmp_path / "tree")
    (tree / "license.txt").write_text("license")
    return write_archive(tmp_path / "published" / mvtec.ARCHIVE, tree, [*CLASSES, "license.txt"])


@pytest.fixture
def server(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serves the archive in place of its publisher."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            return None

    handler = partial(Quiet, directory=published.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{http.server_port}/{mvtec.ARCHIVE}"
        monkeypatch.setattr(mvtec, "URL", url)
        monkeypatch.setattr(mvtec, "SHA256", hashlib.sha256(published.read_bytes()).hexdigest())
        yield url
        http.shutdown()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_an_archive_in_the_root_is_unpacked_by_the_run_alone(published: Path, tmp_path: Path) -> None:
    dataset = data(published.parent)
    assert check_dataset(dataset, IMAGES) == []
    note = scan_dataset(dataset, IMAGES).to_fetch
    assert note == f"MVTec-AD: {mvtec.ARCHIVE} will be unpacked in {published.parent}."
    assert left(published.parent) == [mvtec.ARCHIVE]
    said: list[str] = []
    corpus = load_corpus(dataset, IMAGES, tmp_path / "cache", say=said.append)
    assert corpus.classes == CLASSES and said == [f"unpacking {published}"]
    assert left(published.parent) == ["bottle", "carpet", "license.txt", mvtec.ARCHIVE]
    assert scan_dataset(dataset, IMAGES).to_fetch == ""


def test_archives_of_single_classes_are_unpacked_where_the_class_is_missing(tmp_path: Path) -> None:
    tree, root = write_mvtec(tmp_path / "tree"), tmp_path / "root"
    for name in CLASSES:
        write_archive(root / f"{name}.tar.xz", tree, [name])
    (tree / "bottle").rename(root / "bottle")
    assert "carpet.tar.xz will be unpacked" in scan_dataset(data(root), IMAGES).to_fetch
    (root / "bottle.tar.xz").write_bytes(b"never opened")
    assert load_corpus(data(root), IMAGES, tmp_path / "cache").classes == CLASSES


def test_folders_that_are_there_are_left_alone(published: Path, tmp_path: Path) -> None:
    mine = published.parent / "bottle" / "train" / "good"
    mine.mkdir(parents=True)
    fetching.unpack(published, published.parent, print)
    assert list(mine.iterdir()) == [] and (published.parent / "carpet" / "train" / "good" / "000.png").is_file()


def test_what_a_killed_run_left_is_done_again(published: Path, tmp_path: Path) -> None:
    half = published.parent / f".{mvtec.ARCHIVE}.partial" / "bottle" / "train"
    half.mkdir(parents=True)
    (half / "half.png").write_bytes(b"half")
    load_corpus(data(published.parent), IMAGES, tmp_path / "cache")
    assert not half.exists() and not list(published.parent.rglob("half.png"))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"x") -> tuple[object, ...]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content) if kind == tarfile.REGTYPE else 0
    return info, io.BytesIO(content)


EVIL: dict[str, tuple[list[tuple[object, ...]], str]] = {
    "path upwards": (
        [member("bottle/../../evil")],
        "holds 'bottle/../../evil', which leads out of the folder: nothing",
    ),
    "absolute path": ([member("/tmp/fcdd_sweep_evil")], "which leads out of the folder"),
    "windows path": ([member("C:\\evil")], "which leads out of the folder"),
    "windows drive": ([member("C:evil")], "which leads out of the folder"),
    "windows root": ([member("\\evil")], "which leads out of the folder"),
    "windows path upwards": ([member("bottle\\..\\..\\evil")], "which leads out of the folder"),
    "symbolic link": (
        [member("bottle", tarfile.SYMTYPE, "/tmp"), member("bottle/evil")],
        "holds 'bottle', which is neither a file nor a folder: nothing was unpacked. Allowed: files and folders.",
    ),
    "hard link": ([member("bottle/a", tarfile.LNKTYPE, "../../secret")], "is neither a file nor a folder"),
    "device": ([member("bottle/dev", tarfile.CHRTYPE)], "is neither a file nor a folder"),
    "pipe": ([member("bottle/pipe", tarfile.FIFOTYPE)], "is neither a file nor a folder"),
}


@pytest.mark.parametrize("case", EVIL)
def test_archives_that_lead_elsewhere_are_refused_whole(case: str, tmp_path: Path) -> None:
    members, message = EVIL[case]
    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    archive = root / "bottle.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        for each in [member("bottle/train/good/000.png"), *members]:
            tar.addfile(*each)  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        load_corpus(Dataset(name="mvtec", root=root, classes=["bottle"]), IMAGES, tmp_path / "cache")
    assert f"{archive}: " in str(caught.value) and message in str(caught.value)
    assert left(root) == ["bottle.tar.xz"] and left(tmp_path / "deep") == ["root"]
    assert not list(tmp_path.rglob("evil*")) and not Path("/tmp/fcdd_sweep_evil").exists()


def test_what_tarfile_itself_refuses_is_refused_whole(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
        if member.name.endswith("000.png"):
            raise tarfile.OutsideDestinationError(member, "/elsewhere")
        return member

    monkeypatch.setattr(tarfile, "data_filter", refuse)
    with pytest.raises(DataError, match=r"holds 'bottle/.*000.png', which tarfile refuses .*: nothing was unpacked"):
        fetching.unpack(published, published.parent, print)
    assert left(published.parent) == [mvtec.ARCHIVE]


def damaged(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: truncate(path, 0.9),
        lambda path: truncate(path, 0.1),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"<html>no archive</html>"),
        lambda path: path.write_bytes(lzma.compress(b"no archive inside" * 99)),
        lambda path: damaged(path, 0.3),
        lambda path: damaged(path, 0.5),
        lambda path: damaged(path, 0.8),
    ],
    ids=["truncated", "barely begun", "empty", "a web page", "no tar", "damaged early", "damaged", "damaged late"],
)
def test_broken_archives_leave_nothing(damage: Callable[[Path], object], published: Path, tmp_path: Path) -> None:
    damage(published)
    with pytest.raises(DataError, match=f"{mvtec.ARCHIVE}: is not a whole archive .*Delete it and download it again"):
        load_corpus(data(published.parent), IMAGES, tmp_path / "cache")
    assert left(published.parent) == [mvtec.ARCHIVE]


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    tree, plain = write_mvtec(tmp_path / "tree"), io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        tar.add(tree / "bottle", arcname="bottle")
        second = plain.tell()
        tar.add(tree / "carpet", arcname="carpet")
    content = bytearray(plain.getvalue())
    content[second] ^= 0xFF
    packed = bytearray(lzma.compress(bytes(content), preset=0))
    index_size = 4 * (int.from_bytes(packed[-8:-4], "little") + 1)
    packed[-12 - index_size - 1] ^= 0xFF  # the checksum of the data, before the index and the footer of 12 bytes
    archive = tmp_path / "root" / mvtec.ARCHIVE
    archive.parent.mkdir()
    archive.write_bytes(packed)
    with pytest.raises(DataError, match="is not a whole archive"):
        load_corpus(data(archive.parent), IMAGES, tmp_path / "cache")
    assert left(archive.parent) == [mvtec.ARCHIVE]


def test_an_archive_without_the_wanted_classes_is_reported(tmp_path: Path) -> None:
    tree = write_mvtec(tmp_path / "tree", ("pill",))
    write_archive(tmp_path / "root" / mvtec.ARCHIVE, tree, ["pill"])
    with pytest.raises(DataError, match="files of 'mvtec' are still missing after they were fetched"):
        load_corpus(data(tmp_path / "root"), IMAGES, tmp_path / "cache")


def test_a_root_one_level_too_high_is_reported_though_an_archive_is_there(published: Path) -> None:
    write_mvtec(published.parent / "mvtec_ad")
    (problem,) = check_dataset(data(published.parent, download=True), IMAGES)
    assert f"Set dataset.root to {published.parent / 'mvtec_ad'}" in str(problem)


@pytest.mark.usefixtures("server")
def test_what_is_missing_is_downloaded_by_the_run_alone(tmp_path: Path) -> None:
    dataset = data(tmp_path / "new" / "root", download=True)
    assert check_dataset(dataset, IMAGES) == []
    assert "will be downloaded (5.3 GB) and unpacked in" in scan_dataset(dataset, IMAGES).to_fetch
    assert not (tmp_path / "new").exists()
    said: list[str] = []
    assert load_corpus(dataset, IMAGES, tmp_path / "cache", say=said.append).classes == CLASSES
    assert left(tmp_path / "new" / "root") == ["bottle", "carpet", "license.txt"]
    assert [sentence.split()[0] for sentence in said] == ["downloading", "unpacking"]


@pytest.mark.usefixtures("server")
def test_a_download_with_another_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mvtec, "SHA256", "0" * 64)
    with pytest.raises(DataError) as caught:
        load_corpus(data(tmp_path / "root", download=True), IMAGES, tmp_path / "cache")
    assert "the download of 'mvtec' failed (DownloadError: " in str(caught.value)
    assert f"expected {'0' * 64}). Rerun the command, or place the files yourself." in str(caught.value)
    assert left(tmp_path / "root") == []


def test_a_server_that_has_nothing_or_is_away_is_reported(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url, found in ((f"{server}.gone", "HTTP Error 404"), ("http://127.0.0.1:9/x", "Connection refused")):
        monkeypatch.setattr(mvtec, "URL", url)
        with pytest.raises(DataError, match=f"cannot be reached: .*{found}"):
            load_corpus(data(tmp_path / "root", download=True), IMAGES, tmp_path / "cache")
        assert left(tmp_path / "root") == []


def test_a_connection_that_breaks_off_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        headers = MappingProxyType({"Content-Length": "10"})

        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError("peer went away")

    monkeypatch.setattr(fetching.urllib.request, "urlopen", lambda url, timeout: Broken())
    with pytest.raises(DataError, match="the connection was lost: peer went away"):
        load_corpus(data(tmp_path / "root", download=True), IMAGES, tmp_path / "cache")
    assert left(tmp_path / "root") == []


def test_a_root_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match="the files of 'mvtec' cannot be written to this folder"):
        load_corpus(data(tmp_path / "file" / "root", download=True), IMAGES, tmp_path / "cache")
