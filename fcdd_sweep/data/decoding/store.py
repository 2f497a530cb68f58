"""Decoded images as files, which are appended to when written and memory-mapped when opened.

An entry of the cache contains `images.npy` (N, C, H, W) uint8; an entry of a data set also contains `tables.npz`,
`masks.bin` (packed maps in a row), `meta.json`, and `skipped.txt` where unreadable images were left out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.schema import Images
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.data.decoding.depth import ValueRange
from fcdd_sweep.data.decoding.pixels import Decoding, PixelArray, fit_image
from fcdd_sweep.data.records import DatasetFacts, DatasetScan, DecodedImage, Record

DecodeProgress = Callable[[int, int], None]
"""Called with the number of decoded images and the number of all images."""
AnyNumber = TypeVar("AnyNumber", bound=np.generic)
IMAGES = "images.npy"
SKIPPED = "skipped.txt"
_TABLES, _MASKS, _META = "tables.npz", "masks.bin", "meta.json"
_BATCH = 64
_FEW_GRAYS = 16
"""Fewer of the 256 gray levels than this leave hardly any contrast."""


class ImageForm(NamedTuple):
    """How images are brought to one form: the settings, and what the data set's files decide."""

    images: Images
    decoding: Decoding


class StoredImage(NamedTuple):
    """An image at `images.load_size`, its original height and width, and its packed map at the original size.

    Attributes:
        clipped: see `DecodedImage`.
        saturation: of its single defects; their packed maps then follow its own in `mask_bits`.
    """

    pixels: PixelArray
    size: tuple[int, int]
    mask_bits: PixelArray | None
    clipped: float = 0.0
    saturation: tuple[float, ...] = ()


class ImageFile:
    """Writer of `images.npy`: images are appended, and the header is corrected at the end.

    It writes without a memory map: on a full disk a write raises, but a store into a mapped page kills the process.
    """

    def __init__(self, folder: Path, channels: int, side: int) -> None:
        self.shape = (channels, side, side)
        self.count = 0
        self.file: BinaryIO = (folder / IMAGES).open("wb")
        self._write_header()

    def append(self, pixels: PixelArray) -> None:
        self.file.write(pixels.tobytes())
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        with self.file:
            if kind is None:
                self.file.seek(0)
                self._write_header()

    def _write_header(self) -> None:
        # NumPy pads the header, so that the first axis can grow without moving the data.
        shape = (self.count, *self.shape)
        np.lib.format.write_array_header_1_0(self.file, {"shape": shape, "fortran_order": False, "descr": "|u1"})


def decode_all(
    records: Sequence[Record], images: Images, decoding: Decoding, progress: DecodeProgress | None
) -> Iterator[tuple[Record, StoredImage | DataError]]:
    """Yield every record with its pixels or its error; a few dozen images are in memory at a time."""

    def decode(record: Record) -> StoredImage | DataError:
        try:
            return _decoded(record.load() if record.file is None else record.load(decoding), images)
        except DataError as error:
            return error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for start in range(0, len(records), _BATCH):
            batch = records[start : start + _BATCH]
            for done, pair in enumerate(zip(batch, threads.map(decode, batch), strict=True), start + 1):
                yield pair
                if progress is not None:
                    progress(done, len(records))


def write_corpus(
    folder: Path,
    scan: DatasetScan,
    form: ImageForm,
    classes: tuple[str, ...],
    facts: DatasetFacts,
    progress: DecodeProgress | None,
) -> None:
    """Decode the records of a scan and write the files of a corpus.

    Raises:
        DataError: names every image and map that cannot be read or, if the scan skips them, every class without a
            readable training image.
    """
    images, decoding = form
    table = _Table(classes, decoding.value_range)
    problems: list[Problem] = []
    with ImageFile(folder, images.channels, images.load_size) as file, (folder / _MASKS).open("wb") as masks:
        for record, decoded in decode_all(scan.records, images, decoding, progress):
            if isinstance(decoded, DataError):
                problems.extend(decoded.problems)
                table.skipped.append(record.path)
            elif scan.skips_unreadable or not problems:
                # after the first unreadable image the files are discarded, but all others are still checked
                file.append(decoded.pixels)
                masks.write(b"" if decoded.mask_bits is None else decoded.mask_bits.tobytes())
                table.append(record, decoded)
    if scan.skips_unreadable:
        (folder / SKIPPED).write_text("".join(f"{problem}\n" for problem in problems), encoding="utf-8")
        problems = _classes_left_empty(scan.records, table.records)
    if problems:
        raise DataError(dict.fromkeys(problems))  # many images may be in one file
    np.savez(folder / _TABLES, **table.arrays())
    (folder / _META).write_text(json.dumps(table.meta(facts)), encoding="utf-8")


def _classes_left_empty(found: Iterable[Record], read: Iterable[Record]) -> list[Problem]:
    """Return a problem for each class whose nominal training images all could not be read."""
    before, after = (
        {r.class_name: r.path for r in records if not r.is_test and not r.is_anomalous} for records in (found, read)
    )
    return [
        Problem(before[name], f"no training image of class '{name}' can be read", "", "Copy the data set again")
        for name in before
        if name not in after
    ]


def read_corpus(folder: Path, name: str, protocol: str, classes: tuple[str, ...], notes: Iterable[str]) -> Corpus:
    """Return the corpus that `write_corpus` wrote; its images stay on disk until they are used."""
    meta = json.loads((folder / _META).read_text(encoding="utf-8"))
    skipped = meta.get("skipped", [])  # caches of earlier versions do not have it
    with np.load(folder / _TABLES) as tables:
        arrays = {key: tables[key] for key in tables.files}
    return Corpus(
        name=name,
        protocol=protocol,
        classes=classes,
        images=read_images(folder),
        mask_bits=mapped(folder / _MASKS, np.uint8),
        defect=tuple(meta["defect"]),
        path=tuple(meta["path"]),
        fingerprints=meta["fingerprints"],
        notes=(*notes, *meta["notes"], *_skipped_note(folder, skipped, len(meta["path"]))),
        value_range=None if meta.get("value_range") is None else ValueRange(**meta["value_range"]),
        **arrays,
    )


def _skipped_note(folder: Path, skipped: list[str], read: int) -> tuple[str, ...]:
    counts = f"{len(skipped)} of {len(skipped) + read} images do not decode and are left out"
    return (f"{counts}: {name_list(skipped)}. All of them: {folder / SKIPPED}.",) if skipped else ()


def read_images(folder: Path) -> npt.NDArray[np.uint8]:
    """Return the images of an entry, (N, C, H, W) uint8, memory-mapped and read-only."""
    images: npt.NDArray[np.uint8] = np.load(folder / IMAGES, mmap_mode="r")
    return images


class _Table:
    """Facts of each image, collected in the order of the records."""

    def __init__(self, classes: tuple[str, ...], value_range: ValueRange | None = None) -> None:
        self.classes = classes
        self.value_range = value_range
        self.number = {name: i for i, name in enumerate(classes)}
        self.records: list[Record] = []
        self.sizes: list[tuple[int, int]] = []
        self.mask_bytes: list[int] = []
        self.saturations: list[tuple[float, ...]] = []
        self.empty_maps: list[str] = []
        self.full_maps: list[str] = []
        self.clipped: list[tuple[str, float]] = []
        self.grays = (255, 0)
        self.skipped: list[str] = []
        scale = b"" if value_range is None else repr(value_range).encode()
        self.digests = {name: hashlib.sha256(scale) for name in classes}
        self.test_digests = {name: hashlib.sha256(scale) for name in classes}

    def append(self, record: Record, decoded: StoredImage) -> None:
        bits = decoded.mask_bits
        self.records.append(record)
        self.sizes.append(decoded.size)
        self.mask_bytes.append(-1 if bits is None else bits.nbytes)
        self.saturations.append(decoded.saturation)
        if record.is_anomalous and bits is not None and not bits.any():
            self.empty_maps.append(record.path)
        if bits is not None and np.unpackbits(bits, count=decoded.size[0] * decoded.size[1]).all():
            self.full_maps.append(record.path)
        if decoded.clipped:
            self.clipped.append((record.path, decoded.clipped))
        if record.is_nominal_training:
            low, high = self.grays
            self.grays = min(low, int(decoded.pixels.min())), max(high, int(decoded.pixels.max()))
        facts = (record.is_test, record.is_anomalous, record.defect, decoded.size, bits is None)
        content = repr((*facts, record.also) if record.also else facts).encode() + decoded.pixels.tobytes()
        content += b"" if bits is None else bits.tobytes()
        content += repr(decoded.saturation).encode() if decoded.saturation else b""
        self.digests[record.class_name].update(content)
        if record.is_test:
            self.test_digests[record.class_name].update(content)

    def arrays(self) -> dict[str, Any]:
        length = np.array(self.mask_bytes, np.int64)
        has_mask = length >= 0
        membership = {"membership": self._membership()} if any(record.also for record in self.records) else {}
        most = max(map(len, self.saturations), default=0)
        padded = [[*each, *[np.nan] * (most - len(each))] for each in self.saturations]
        saturation = {"saturation": np.array(padded, np.float64)} if most else {}
        return {
            **membership,
            **saturation,
            "class_index": np.array([self.number[record.class_name] for record in self.records], np.int64),
            "is_test": np.array([record.is_test for record in self.records], np.bool_),
            "is_anomalous": np.array([record.is_anomalous for record in self.records], np.bool_),
            "original_size": np.array(self.sizes, np.int64).reshape(-1, 2),
            "mask_index": np.where(has_mask, np.cumsum(has_mask) - 1, -1),
            "mask_offset": np.concatenate([[0], np.cumsum(length[has_mask])]).astype(np.int64),
        }

    def _membership(self) -> npt.NDArray[np.bool_]:
        rows = [(i, name) for i, record in enumerate(self.records) for name in (record.class_name, *record.also)]
        member = np.zeros((len(self.records), len(self.classes)), np.bool_)
        member[[i for i, _ in rows], [self.number[name] for _, name in rows]] = True
        return member

    def meta(self, facts: DatasetFacts) -> dict[str, Any]:
        return {
            "path": [record.path for record in self.records],
            "defect": [record.defect for record in self.records],
            "fingerprints": self._fingerprints(facts),
            "notes": self._notes(),
            "skipped": self.skipped,
            "value_range": None if self.value_range is None else asdict(self.value_range),
        }

    def _fingerprints(self, facts: DatasetFacts) -> dict[str, str]:
        own = {name: digest.hexdigest() for name, digest in self.digests.items()}
        if facts.protocol == "one_vs_rest":  # the other classes are the anomalies of a class, and so part of its data
            others = self.digests if facts.trains_with_anomalies else self.test_digests
            everything = "".join(digest.hexdigest() for digest in others.values())
            own = {name: hashlib.sha256((mine + everything).encode()).hexdigest() for name, mine in own.items()}
        return {name: digest[:12] for name, digest in own.items()}

    def _notes(self) -> list[str]:
        anomalous = [
            (r.path, n) for r, n in zip(self.records, self.mask_bytes, strict=True) if r.is_anomalous and r.is_test
        ]
        without = [path for path, length in anomalous if length < 0]
        notes = []
        if 0 < len(without) < len(anomalous):
            notes.append(f"{len(without)} of {len(anomalous)} test anomalies have no map: {name_list(without)}.")
        if self.empty_maps:
            notes.append(f"{len(self.empty_maps)} maps show no anomalous pixel: {name_list(self.empty_maps)}.")
        if self.full_maps:
            notes.append(f"{len(self.full_maps)} maps cover the whole image: {name_list(self.full_maps)}.")
        return notes + self._range_notes()

    def _range_notes(self) -> list[str]:
        """Return what the range does to images of more than 8 bits: values that it clips, contrast that it leaves."""
        notes, (low, high) = [], self.grays
        if self.clipped:
            most = max(share for _, share in self.clipped)
            names = name_list([path for path, _ in self.clipped])
            notes.append(
                f"{len(self.clipped)} of {len(self.records)} images have values outside of the range, which are "
                f"clipped, at most {most:.2%} of an image: {names}."
            )
        if self.value_range is not None and high - low < _FEW_GRAYS:
            notes.append(
                f"The nominal training images use only the gray levels {low} to {high} of 0 to 255, as "
                f"{self.value_range}. Set images.range to the values that they have."
            )
        return notes


def name_list(names: Sequence[str], shown: int = 3) -> str:
    """Return the first names as text, with dots for the others."""
    return ", ".join([*names[:shown], *(["..."] if len(names) > shown else [])])


def _decoded(decoded: DecodedImage, images: Images) -> StoredImage:
    height, width = decoded.image.shape[:2]
    planes = [np.packbits(mask) for mask in (decoded.mask, *(d.mask for d in decoded.defects)) if mask is not None]
    bits = np.concatenate(planes) if planes else None
    saturation = tuple(defect.saturation for defect in decoded.defects)
    pixels = fit_image(decoded.image, images.load_size, images.resize, images.color, images.aspect)
    return StoredImage(pixels, (height, width), bits, decoded.clipped, saturation)


def mapped(path: Path, kind: type[AnyNumber]) -> npt.NDArray[AnyNumber]:
    """Return the numbers in a file, memory-mapped and read-only."""
    if path.stat().st_size == 0:
        return np.zeros(0, kind)  # an empty file cannot be mapped
    return np.memmap(path, kind, mode="r")
