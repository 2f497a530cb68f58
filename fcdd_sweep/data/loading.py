"""The door to all data: what a data set has, whether it can be read, and its images.

`planning.plan` asks `scan_dataset`, `classes_of`, `protocol_of`, `has_maps` and `trains_with_anomalies`, which decode
nothing. `load_corpus` and `load_folder_images` decode once per machine; see `data.decoding.cache`. `load_exposure`
opens the images that training draws anomalies from. `load_image_file` reads a single new image in the same way.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from PIL import __version__ as PILLOW_VERSION

from fcdd_sweep.config.errors import DataError, Problem, closest
from fcdd_sweep.config.fields import DatasetSource, FolderSource
from fcdd_sweep.config.locations import cache_root
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.config.trial_spec import digest
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.data.decoding.cache import cached
from fcdd_sweep.data.decoding.files import file_record, image_files
from fcdd_sweep.data.decoding.pixels import DECODER_VERSION, PixelArray, fit_image, read_image
from fcdd_sweep.data.decoding.store import (
    DecodeProgress,
    ImageFile,
    decode_all,
    name_list,
    read_corpus,
    read_images,
    write_corpus,
)
from fcdd_sweep.data.pools import ArrayPool, FilePool, ImagePool
from fcdd_sweep.data.records import DatasetFacts, DatasetScan, Record, Say, wanted_classes
from fcdd_sweep.data.registry import (
    DiscoveringModule,
    FetchingModule,
    Option,
    StreamedModule,
    info,
    module_of,
)

__all__ = [
    "check_dataset",
    "check_exposure",
    "classes_of",
    "defects_in_test",
    "has_maps",
    "image_files",
    "load_corpus",
    "load_exposure",
    "load_folder_images",
    "load_image_file",
    "protocol_of",
    "scan_dataset",
    "trains_with_anomalies",
]
_LOG = logging.getLogger(__name__)
_Value = bool | int | float | str
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_BYTES_PER_RECORD = 500
_POOL = "pool.json"
DECODED_BYTES = 2**30
"""Streamed collections up to this size, decoded, are kept in the cache."""
_PART, _TOGETHER = 256, 16
"""Images that one thread decodes at a time, and how many such parts are in memory together."""


def check_dataset(dataset: Dataset, images: Images) -> list[Problem]:
    """Everything that is wrong with a data set and can be found without decoding; empty when it can be read."""
    return list(scan_dataset(dataset, images).problems)


def load_corpus(
    dataset: Dataset,
    images: Images,
    cache_dir: Path | None = None,
    progress: DecodeProgress | None = None,
    say: Say = _LOG.info,
) -> Corpus:
    """All images of a data set at `images.load_size`, memory-mapped; decoded if this machine has not done so yet.

    In `defects` it holds the classes that `dataset.classes` names, in `one_vs_rest` always all of them. Files that are
    missing are fetched first where `dataset.download`, or an archive in the root, allows it.

    Args:
        cache_dir: where decoded images are kept; see `cache.cache_root`.
        progress: called while images are decoded; not at all when they already are.
        say: told of files that are fetched or unpacked.
    Raises:
        DataError: all that `check_dataset` finds, or every image that does not decode, or a cache that cannot be kept.
    """
    scan = scan_dataset(dataset, images)
    if (scan.to_fetch and not scan.problems) or (scan.problems and dataset.download and dataset.root is not None):
        scan = _fetched(dataset, images, cache_root(cache_dir), say)
    if scan.problems:
        raise DataError(scan.problems)
    facts = _facts(dataset)
    protocol = facts.protocol
    kept = facts.classes if protocol == "one_vs_rest" else wanted_classes(dataset, facts.classes)
    key = {"data": dataset.name, "root": str(dataset.root), "options": dataset.options, "classes": kept}
    entry = cached(
        cache_root(cache_dir),
        f"{dataset.name}-{_key(key, scan.records, images)}",
        _size_bytes(scan.records, images),
        lambda folder: write_corpus(folder, scan, images, kept, facts, progress),
    )
    corpus = read_corpus(entry, dataset.name, protocol, kept, (*scan.notes, *scan.gaps))
    for note in corpus.notes[len(scan.notes) + len(scan.gaps) :]:
        say(note)  # what only decoding can tell; the plan has told the gaps
    return corpus


def check_exposure(source: DatasetSource, target: str | None, images: Images) -> list[Problem]:
    """What is wrong with a data set as outlier exposure, as far as it can be found without decoding.

    Args:
        source: names an entry of `DATA_SETS`.
        target: the name of the data set that is trained on; None where that is not known yet.
    """
    dataset, known = dataset_of(source), info(source.dataset)
    if not known.streamed:
        return problems_of_source(check_dataset(dataset, images))
    problems = _settings_problems(dataset)
    if not problems and source.root is not None:
        module = module_of(source.dataset)
        assert isinstance(module, StreamedModule)  # as the registry states
        problems = module.exposure_problems(source.root, target)
    return problems_of_source(problems)


def load_exposure(
    source: DatasetSource | FolderSource,
    target: Dataset,
    images: Images,
    cache_dir: Path | None = None,
    say: Say = _LOG.info,
) -> ImagePool:
    """The images that training draws anomalies from, at `images.load_size`.

    A folder, or the training images of a data set, are decoded once per machine, and so is ImageNet where the images
    are small. Otherwise it is read image by image. Classes that `target` has too are left out; `notes` names them.

    Args:
        source: where they come from.
        target: the data set that is trained on.
        say: told of what takes a while.
    Raises:
        DataError: all that `check_exposure` finds, or what only decoding can find.
    """
    if isinstance(source, FolderSource):
        return load_folder_images(source.folder, images, cache_dir, say)
    known = info(source.dataset)
    if not known.streamed:
        corpus = load_corpus(dataset_of(source), images, cache_dir, say=say)
        return ArrayPool(corpus.images, np.flatnonzero(~corpus.is_test), digest(corpus.fingerprints), corpus.notes)
    if problems := _settings_problems(dataset_of(source)):
        raise DataError(problems_of_source(problems))
    module = module_of(source.dataset)
    assert isinstance(module, StreamedModule) and source.root is not None  # as the registry states
    pool = module.expose(source.root, target.name, images, cache_root(cache_dir), say)
    if len(pool) * pool.bytes_each > DECODED_BYTES:
        return pool
    return _decoded_once(pool, source.dataset, images, cache_root(cache_dir), say)


def _decoded_once(pool: FilePool, name: str, images: Images, cache: Path, say: Say) -> ArrayPool:
    """The images of a streamed pool that is small: decoded once per machine, not in every trial again."""

    def build(target: Path) -> None:
        say(f"decoding {len(pool)} images of {name} for outlier exposure; they are kept")
        parts = [np.arange(start, min(start + _PART, len(pool))) for start in range(0, len(pool), _PART)]
        unreadable: list[str] = []
        with (
            ImageFile(target, images.channels, images.load_size) as file,
            ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads,
        ):
            for start in range(0, len(parts), _TOGETHER):  # a few parts at a time: all of them may not fit in memory
                some = parts[start : start + _TOGETHER]
                for part, (pixels, readable) in zip(some, threads.map(pool.read, some), strict=True):
                    unreadable += pool.names(part[~readable].tolist())
                    for image in pixels[readable]:
                        file.append(image)
        if len(unreadable) == len(pool):
            raise _no_images(Path(name))
        (target / _POOL).write_text(json.dumps({"skipped": unreadable}), encoding="utf-8")

    key = digest([pool.fingerprint, _shape_of(images), PILLOW_VERSION])
    entry = cached(cache, f"pool-{key}", len(pool) * pool.bytes_each, build)
    skipped = json.loads((entry / _POOL).read_text(encoding="utf-8"))["skipped"]
    notes = list(pool.notes)
    if skipped:
        counts = f"{len(skipped)} of {len(pool)} outlier-exposure images do not decode and are left out"
        notes.append(f"{name}: {counts}: {name_list(skipped)}.")
        say(notes[-1])
    return ArrayPool(read_images(entry), fingerprint=pool.fingerprint, notes=tuple(notes))


def load_folder_images(folder: Path, images: Images, cache_dir: Path | None = None, say: Say = _LOG.info) -> ArrayPool:
    """All images below a folder, for outlier exposure, memory-mapped.

    Images that do not decode are left out; `say` and the notes tell how many.

    Raises:
        DataError: there is no such folder, or no readable image below it.
    """
    records = [
        file_record(folder, path, class_name="", is_test=False) for path in image_files(folder) if folder.is_dir()
    ]
    if not records:
        raise _no_images(folder)
    key = _key({"folder": str(folder.absolute())}, records, images)
    entry = cached(
        cache_root(cache_dir),
        f"pool-{key}",
        _size_bytes(records, images),
        lambda target: _write_images(target, folder, records, images),
    )
    facts = json.loads((entry / _POOL).read_text(encoding="utf-8"))
    notes = []
    if skipped := facts["skipped"]:
        counts = f"{len(skipped)} of {len(records)} images do not decode and are left out"
        notes.append(f"{folder}: {counts}: {name_list(skipped)}")
        say(notes[0])
    return ArrayPool(read_images(entry), fingerprint=facts["fingerprint"], notes=tuple(notes))


def load_image_file(path: Path, images: Images) -> PixelArray:
    """One image, decoded as those of a data set are: (C, load_size, load_size) uint8.

    Raises:
        DataError: it does not decode; names the path.
    """
    return fit_image(read_image(path), images.load_size, images.resize, images.color, images.aspect)


def classes_of(dataset: Dataset) -> tuple[str, ...]:
    """All classes of a data set, in order, whichever of them `dataset.classes` names."""
    return _facts(dataset).classes


def protocol_of(dataset: Dataset) -> Literal["one_vs_rest", "defects"]:
    """Whether other classes are the anomalies, or each class has its own."""
    return _facts(dataset).protocol


def has_maps(dataset: Dataset) -> bool:
    """Whether there are ground-truth maps."""
    return _facts(dataset).maps


def trains_with_anomalies(dataset: Dataset) -> bool:
    """Whether the training split holds real anomalies, which mode `other` needs."""
    return _facts(dataset).trains_with_anomalies


def dataset_of(source: DatasetSource) -> Dataset:
    return Dataset(name=source.dataset, root=source.root, download=source.download)


def problems_of_source(problems: Sequence[Problem]) -> list[Problem]:
    """Problems of a data set that `anomalies.source` names, in the keys of the source."""
    return [replace(each, where=_in_source(each.where), next_step=_in_source(each.next_step)) for each in problems]


def _in_source(text: str) -> str:
    for key in ("root", "download"):
        text = text.replace(f"dataset.{key}", f"anomalies.source.{key}")
    return text


def defects_in_test(scan: DatasetScan) -> dict[str, dict[str, int]]:
    """By class, how many test images of each defect type a scan found."""
    found: dict[str, dict[str, int]] = {}
    for record in scan.records:
        of_class = found.setdefault(record.class_name, {})
        if record.is_test and record.is_anomalous:
            of_class[record.defect] = of_class.get(record.defect, 0) + 1
    return found


def scan_dataset(dataset: Dataset, images: Images) -> DatasetScan:
    """All images of a data set, everything that is wrong with it, and what would be fetched; decodes nothing."""
    problems = _settings_problems(dataset)
    if problems:
        return DatasetScan(problems=tuple(problems))
    scan = module_of(dataset.name).scan(dataset, images)
    if not (scan.records or scan.problems or scan.to_fetch):
        problem = Problem("dataset.classes", f"names no class of '{dataset.name}'", ", ".join(classes_of(dataset)))
        return DatasetScan(problems=(problem,))
    return scan


def _fetched(dataset: Dataset, images: Images, cache: Path, say: Say) -> DatasetScan:
    """What a data set holds once its missing files are there: one process fetches, others on this machine wait.

    Files with problems may be half written by another process, and are looked at again when it is done.
    """
    root = dataset.root
    assert root is not None  # only data sets with a root have anything to fetch
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"fetch-{digest([dataset.name, str(root)])}.lock"):
            scan = scan_dataset(dataset, images)
            if scan.to_fetch and not scan.problems:
                root.mkdir(parents=True, exist_ok=True)
                module = module_of(dataset.name)
                assert isinstance(module, FetchingModule)  # its scan has set `to_fetch`
                module.fetch(dataset, say)
                scan = scan_dataset(dataset, images)
    except OSError as error:
        what = f"the files of '{dataset.name}' cannot be put there ({error})"
        raise DataError(Problem(str(root), what, next_step=info(dataset.name).get)) from error
    if scan.to_fetch and not scan.problems:
        what = f"files of '{dataset.name}' are still missing after they were fetched"
        return DatasetScan(problems=(Problem(str(root), what, next_step=info(dataset.name).get),))
    return scan


def _facts(dataset: Dataset) -> DatasetFacts:
    known = info(dataset.name)
    protocol, classes, maps, anomalies = known.protocol, known.classes, known.maps, known.trains_with_anomalies
    if not (protocol is None or classes is None or maps is None or anomalies is None):
        return DatasetFacts(protocol, classes, maps, anomalies)
    if problems := _settings_problems(dataset):
        raise DataError(problems)
    module = module_of(dataset.name)
    assert isinstance(module, DiscoveringModule)  # the registry leaves facts to the folders
    return module.discover(dataset)


def _settings_problems(dataset: Dataset) -> list[Problem]:
    known = info(dataset.name)
    problems = [problem for name in dataset.options for problem in _option_problems(dataset, name)]
    if known.protocol is not None and dataset.protocol not in (None, known.protocol):
        what = f"'{known.name}' is always {known.protocol}, found {dataset.protocol}"
        problems.append(Problem("dataset.protocol", what, next_step="Remove the key"))
    if dataset.download and known.needs_root and not known.downloads:
        what = f"'{known.name}' cannot be downloaded"
        problems.append(Problem("dataset.download", what, "false", known.get))
    if known.needs_root and dataset.root is None:
        problems.append(Problem("dataset.root", f"'{known.name}' needs a folder", next_step=known.get))
    elif known.needs_root and dataset.root is not None and not _may_be_root(dataset.root, download=dataset.download):
        problems.append(Problem("dataset.root", f"there is no folder {dataset.root}", next_step=known.get))
    return problems


def _may_be_root(root: Path, *, download: bool) -> bool:
    return (download and not root.exists()) or root.is_dir()  # in this order: another process may just make it


def _option_problems(dataset: Dataset, name: str) -> list[Problem]:
    where, options, value = f"dataset.options.{name}", info(dataset.name).options, dataset.options[name]
    if name not in options:
        allowed = ", ".join(options) or "none"
        return [Problem(where, f"'{dataset.name}' has no such option", allowed, closest(name, options))]
    wrong = _wrong_value(options[name], value)
    near = closest(value, options[name].allowed)
    return [Problem(where, f"found {value!r}", wrong, near)] if wrong else []


def _wrong_value(option: Option, value: _Value) -> str:
    """What would be allowed, if `value` is not; otherwise an empty string."""
    kind = type(option.default)
    fits = type(value) is kind or (kind is float and type(value) is int)
    if option.allowed:
        return "" if value in option.allowed else ", ".join(option.allowed)
    if not fits:
        return _KINDS[kind]
    low, high = option.low, option.high
    inside = isinstance(value, str) or ((low is None or value >= low) and (high is None or value <= high))
    return "" if inside else f"{low} to {high}"


def _key(what: Mapping[str, object], records: Sequence[Record], images: Images) -> str:
    """A digest of all that the decoded images depend on."""
    files = [[r.path, r.class_name, r.is_test, r.is_anomalous, r.defect, r.stamp] for r in records]
    return digest({**what, "images": _shape_of(images), "files": files, "decoder": [DECODER_VERSION, PILLOW_VERSION]})


def _shape_of(images: Images) -> list[int | str]:
    """What decoding needs to know of the images."""
    return [images.load_size, images.resize, images.color, images.aspect]


def _size_bytes(records: Sequence[Record], images: Images) -> int:
    return len(records) * (images.channels * images.load_size**2 + _BYTES_PER_RECORD)


def _write_images(target: Path, folder: Path, records: list[Record], images: Images) -> None:
    skipped: list[str] = []
    pixels = hashlib.sha256()
    with ImageFile(target, images.channels, images.load_size) as file:
        for record, decoded in decode_all(records, images, None):
            if isinstance(decoded, DataError):
                skipped.append(record.path)
            else:
                file.append(decoded.pixels)
                pixels.update(decoded.pixels.tobytes())
    if len(skipped) == len(records):
        raise _no_images(folder)
    facts = {"skipped": skipped, "fingerprint": pixels.hexdigest()[:12]}
    (target / _POOL).write_text(json.dumps(facts), encoding="utf-8")


def _no_images(folder: Path) -> DataError:
    return DataError(Problem(str(folder), "holds no image that can be read", next_step="Name a folder of image files"))
