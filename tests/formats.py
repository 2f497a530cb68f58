"""Writers of data sets in the very formats in which their authors publish them, with a few images each."""

from __future__ import annotations

import gzip
import struct
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.trees import write_image

Pixels = npt.NDArray[np.uint8]


def idx_bytes(values: npt.NDArray[np.generic], magic: int | None = None) -> bytes:
    """An idx file of uint8 values."""
    head = 0x0800 | values.ndim if magic is None else magic
    return struct.pack(f">{1 + values.ndim}I", head, *values.shape) + values.astype(np.uint8).tobytes()


def write_idx(folder: Path, stem: str, images: Pixels, labels: Sequence[int], *, compressed: bool = False) -> None:
    """Images (n, H, W) and their labels under MNIST's names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in (("images-idx3", images), ("labels-idx1", np.array(labels))):
        content, path = idx_bytes(values), folder / f"{stem}-{name}-ubyte"
        if compressed:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)


def numbered(n: int, shape: tuple[int, ...] = (28, 28), seed: int = 0) -> Pixels:
    """(n, *shape) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def write_mnist(
    root: Path, folder: str = "MNIST", stems: tuple[str, str] = ("train", "t10k"), *, compressed: bool = False
) -> Path:
    """Six training and four test images of classes 0, 1 and 2 (EMNIST: 1 to 3)."""
    first = 1 if folder == "EMNIST" else 0
    for number, (stem, labels) in enumerate(zip(stems, ([0, 1, 2, 0, 1, 0], [2, 1, 0, 0]), strict=True)):
        images = numbered(len(labels), seed=number)
        write_idx(root / folder / "raw", stem, images, [label + first for label in labels], compressed=compressed)
    return root


def write_emnist(root: Path, *, compressed: bool = False) -> Path:
    return write_mnist(root, "EMNIST", ("emnist-letters-train", "emnist-letters-test"), compressed=compressed)


def _text(value: bytes) -> bytes:
    """A Python 2 string: these are what CIFAR's pickles hold, and no Python 3 writes them."""
    return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _array(values: npt.NDArray[np.generic], module: bytes = b"numpy.core.multiarray") -> bytes:
    kind = values.dtype.str[1:].encode()
    dtype = b"cnumpy\ndtype\n" + _text(kind) + _number(0) + _number(1) + b"\x87R"
    dtype += b"(" + _number(3) + _text(values.dtype.str[:1].encode()) + b"NNN" + _number(-1) * 2 + _number(0) + b"tb"
    head = b"c" + module + b"\n_reconstruct\ncnumpy\nndarray\n" + _number(0) + b"\x85" + _text(b"b") + b"\x87R"
    shape = b"(" + b"".join(_number(side) for side in values.shape) + b"t"
    return head + b"(" + _number(1) + shape + dtype + b"\x89" + _text(values.tobytes()) + b"tb"


def batch_bytes(data: npt.NDArray[np.generic], labels: Sequence[int], key: str = "labels") -> bytes:
    """A batch of CIFAR as Python 2 pickled it, protocol 2."""
    numbers = b"](" + b"".join(map(_number, labels)) + b"e"
    entries = _text(b"data") + _array(data) + _text(key.encode()) + numbers + _text(b"batch_label") + _text(b"of 5")
    return b"\x80\x02}(" + entries + b"u."


def write_batch(path: Path, data: npt.NDArray[np.generic], labels: Sequence[int], key: str = "labels") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(batch_bytes(data, labels, key))
    return path


def write_cifar10(root: Path) -> Path:
    """Three images a batch, of classes 0 to 2."""
    for seed, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        write_batch(root / "cifar-10-batches-py" / name, numbered(3, (3072,), seed), [0, 1, 2])
    return root


def write_cifar100(root: Path) -> Path:
    for seed, name in enumerate(("train", "test")):
        write_batch(root / "cifar-100-python" / name, numbered(4, (3072,), seed), [0, 99, 1, 0], "fine_labels")
    return root


VOC_TRAIN = {"000012": ["horse", "person"], "000017": ["person", "horse"], "000023": ["car"], "000026": ["dog", "dog"]}
VOC_VAL = {"000005": ["chair", "chair"], "000007": ["horse"], "000009": ["person", "dog", "horse"]}


def annotation(objects: Sequence[str]) -> str:
    """An annotation of VOC 2007, shortened to what it says of the objects."""
    boxes = "<difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    found = "".join(f"\t<object>\n\t\t<name>{name}</name>\n\t\t{boxes}\n\t</object>\n" for name in objects)
    owner = "<owner><flickrid>Fried Camels</flickrid><name>Jinky the Fruit Bat</name></owner>"
    return f"<annotation>\n\t<folder>VOC2007</folder>\n\t{owner}\n{found}</annotation>\n"


def write_voc(root: Path) -> Path:
    folder = root / "VOCdevkit" / "VOC2007"
    for split, images in (("train", VOC_TRAIN), ("val", VOC_VAL)):
        lists = folder / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in images))
        for name, objects in images.items():
            write_image(folder / "JPEGImages" / f"{name}.jpg", (20, 30), seed=int(name))
            (folder / "Annotations").mkdir(exist_ok=True)
            (folder / "Annotations" / f"{name}.xml").write_text(annotation(objects))
    return root


def write_archive(path: Path, tree: Path, names: Sequence[str]) -> Path:
    """Folders `names` below `tree` as a `.tar.xz`, with the read-only rights of MVTec's own archive."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def read_only(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mode = 0o555 if member.isdir() else 0o444
        return member

    with tarfile.open(path, "w:xz", preset=0) as tar:
        for name in names:
            tar.add(tree / name, arcname=name, filter=read_only)
    return path


def write_png16(path: Path, values: npt.NDArray[np.uint16], sbit: Sequence[int] = (), filtering: int = 0) -> Path:
    """A PNG of 16 bits per channel.

    Args:
        path: the file.
        values: (H, W) gray or (H, W, C) with C 2 to 4.
        sbit: content of its sBIT chunk; empty: none.
        filtering: PNG's filter of all rows, 0 to 4.
    """

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    kind = 0 if values.ndim == 2 else {2: 4, 3: 2, 4: 6}[values.shape[2]]
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    stored = np.ascontiguousarray(values.astype(">u2")).reshape(len(values), -1).view(np.uint8)
    rows = b"".join(bytes([filtering]) + row.tobytes() for row in filtered(stored, filtering, 2 * values[0, 0].size))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"sBIT", bytes(sbit)) if sbit else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def filtered(rows: Pixels, filtering: int, pixel: int) -> Pixels:
    """Rows of bytes under one of PNG's filters; a pixel has `pixel` bytes."""
    around = np.pad(rows.astype(int), ((1, 0), (pixel, 0)))
    left, up, corner = around[1:, :-pixel], around[:-1, pixel:], around[:-1, :-pixel]
    estimate = left + up - corner
    nearest = np.stack([abs(estimate - each) for each in (left, up, corner)]).argmin(axis=0)
    guesses = (0 * left, left, up, (left + up) // 2, np.choose(nearest, (left, up, corner)))
    return ((rows - guesses[filtering]) % 256).astype(np.uint8)
