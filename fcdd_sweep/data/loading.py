"""Decoded images: of a data set, of a source of outlier exposure, or of one file.

`load_corpus` and `load_folder_images` decode once per machine; see `data.decoding.cache`. `load_exposure` opens the
images that training draws anomalies from. `load_image_file` reads a single image in the same way. What can be found
without decoding is in `data.scanning`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import __version__ as PILLOW_VERSION

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.fields import DatasetSource, FolderSource
from fcdd_sweep.config.locations import cache_root
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.config.trial_spec import digest
from fcdd_sweep.data.audit import AUDIT_VERSION, leak_notes
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.data.decoding.cache import cached
from fcdd_sweep.data.decoding.depth import ValueRange
from fcdd_sweep.data.decoding.files import file_record
from fcdd_sweep.data.decoding.folders import Folder, exposure_notes, no_folder
from fcdd_sweep.data.decoding.pixels import DECODER_VERSION, Decoding, PixelArray, fit_image, read_picture
from fcdd_sweep.data.decoding.store import (
    DecodeProgress,
    ImageFile,
    ImageForm,
    decode_all,
    name_list,
    read_corpus,
    read_images,
    write_corpus,
)
from fcdd_sweep.data.decoding.survey import survey
from fcdd_sweep.data.pools import ArrayPool, FilePool, ImagePool
from fcdd_sweep.data.records import DatasetScan, Record, Say, wanted_classes
from fcdd_sweep.data.registry import FetchingModule, StreamedModule, info, module_of
from fcdd_sweep.data.scanning import (
    dataset_facts,
    dataset_of,
    problems_of_source,
    records_of_all_classes,
    scan_dataset,
    settings_problems,
)

_LOG = logging.getLogger(__name__)
_BYTES_PER_RECORD = 500
_POOL, _AUDIT = "pool.json", "audit.json"
DECODED_BYTES = 2**30
"""Streamed collections up to this size, decoded, are kept in the cache."""
_PART, _TOGETHER = 256, 16
"""Images that one thread decodes at a time, and the number of such parts in memory at once."""


def load_corpus(
    dataset: Dataset,
    images: Images,
    cache_dir: Path | None = None,
    progress: DecodeProgress | None = None,
    say: Say = _LOG.info,
) -> Corpus:
    """Return all images of a data set at `images.load_size`, memory-mapped; decode them once per machine.

    With `defects` the corpus holds the classes that `dataset.classes` names, with `one_vs_rest` always all of them.
    Missing files are fetched first where `dataset.download`, or an archive in the root, allows it.

    Args:
        dataset: what to load.
        images: how images are decoded.
        cache_dir: folder for decoded images; None: see `config.locations.cache_root`.
        progress: called with counts while images are decoded; not called when the cache has them.
        say: called with sentences about files that are fetched or unpacked.
    Raises:
        DataError: all that `check_dataset` finds, every image that does not decode, or a cache that cannot be written.
    """
    scan = scan_dataset(dataset, images)
    if (scan.to_fetch and not scan.problems) or (scan.problems and dataset.download and dataset.root is not None):
        scan = _fetch_and_scan(dataset, images, cache_root(cache_dir), say)
    if scan.problems:
        raise DataError(scan.problems)
    facts = dataset_facts(dataset)
    protocol = facts.protocol
    kept = facts.classes if protocol == "one_vs_rest" else wanted_classes(dataset, facts.classes)
    every = records_of_all_classes(dataset, images, scan)
    surveyed = survey(scan.records, every, images, cache_root(cache_dir), str(dataset.root))
    form = ImageForm(images, surveyed.decoding)
    key = {"data": dataset.name, "root": str(dataset.root), "options": dataset.options, "classes": kept}
    entry = cached(
        cache_root(cache_dir),
        f"{dataset.name}-{_key(key, scan.records, form)}",
        _size_bytes(scan.records, images),
        lambda folder: write_corpus(folder, scan, form, kept, facts, progress),
    )
    corpus = read_corpus(entry, dataset.name, protocol, kept, (*scan.notes, *scan.gaps, *surveyed.notes))
    if info(dataset.name).audited:
        corpus = replace(corpus, notes=(*corpus.notes, *_audited(corpus, entry)))
    for note in corpus.notes[len(scan.notes) + len(scan.gaps) :]:
        say(note)  # found while reading the files; the plan has reported the gaps
    return corpus


def _audited(corpus: Corpus, entry: Path) -> tuple[str, ...]:
    """Return the notes on images that leak into the test, which are found once for each entry of the cache."""

    def build(folder: Path) -> None:
        (folder / _AUDIT).write_text(json.dumps(leak_notes(corpus)), encoding="utf-8")

    found = cached(entry.parent, f"audit-{AUDIT_VERSION}-{entry.name}", 4096, build)
    return tuple(json.loads((found / _AUDIT).read_text(encoding="utf-8")))


def load_exposure(
    source: DatasetSource | FolderSource,
    target: Dataset,
    images: Images,
    cache_dir: Path | None = None,
    say: Say = _LOG.info,
) -> ImagePool:
    """Return the images that training draws anomalies from, at `images.load_size`.

    A folder, or the training images of a data set, are decoded once per machine. A streamed collection is, too, up to
    `DECODED_BYTES`; a larger one is read image by image. Classes that `target` has are left out and named in `notes`.

    Args:
        source: a data set or a folder of images.
        target: the data set that is trained on.
        images: how images are decoded.
        cache_dir: folder for decoded images; None: see `config.locations.cache_root`.
        say: called with sentences about what takes long.
    Raises:
        DataError: all that `check_exposure` finds, or what only decoding can find.
    """
    if isinstance(source, FolderSource):
        return load_folder_images(source.folder, images, cache_dir, say)
    known = info(source.dataset)
    if not known.streamed:
        corpus = load_corpus(dataset_of(source), images, cache_dir, say=say)
        return ArrayPool(corpus.images, np.flatnonzero(~corpus.is_test), digest(corpus.fingerprints), corpus.notes)
    if problems := settings_problems(dataset_of(source)):
        raise DataError(problems_of_source(problems))
    module = module_of(source.dataset)
    assert isinstance(module, StreamedModule) and source.root is not None  # as the registry states
    pool = module.expose(source.root, target.name, images, cache_root(cache_dir), say)
    if len(pool) * pool.bytes_each > DECODED_BYTES:
        return pool
    return _decoded_once(pool, source.dataset, images, cache_root(cache_dir), say)


def _decoded_once(pool: FilePool, name: str, images: Images, cache: Path, say: Say) -> ArrayPool:
    """Return the images of a small streamed pool from the cache; decode them once per machine."""

    def build(target: Path) -> None:
        say(f"decoding {len(pool)} images of {name} for outlier exposure into the cache")
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

    key = digest([pool.fingerprint, _image_format(images), images.max_megapixels, PILLOW_VERSION])
    entry = cached(cache, f"pool-{key}", len(pool) * pool.bytes_each, build)
    skipped = json.loads((entry / _POOL).read_text(encoding="utf-8"))["skipped"]
    notes = list(pool.notes)
    if skipped:
        counts = f"{len(skipped)} of {len(pool)} outlier-exposure images do not decode and are left out"
        notes.append(f"{name}: {counts}: {name_list(skipped)}.")
        say(notes[-1])
    return ArrayPool(read_images(entry), fingerprint=pool.fingerprint, notes=tuple(notes))


def load_folder_images(folder: Path, images: Images, cache_dir: Path | None = None, say: Say = _LOG.info) -> ArrayPool:
    """Return all images below a folder, for outlier exposure, memory-mapped; decode them once per machine.

    Images that do not decode, and links, folders and files that cannot be read, are left out; `say` and the notes name
    their number.

    Raises:
        DataError: the folder does not exist, or no image below it can be read.
    """
    if reason := no_folder(folder):
        raise DataError(Problem(str(folder), reason))
    listed = Folder(folder)
    records = [file_record(folder, path, class_name="", is_test=False) for path in listed.all_images]
    if not records:
        raise _no_images(folder)
    surveyed = survey(records, records, images, cache_root(cache_dir), str(folder.absolute()))
    form = ImageForm(images, surveyed.decoding)
    key = _key({"folder": str(folder.absolute())}, records, form)
    entry = cached(
        cache_root(cache_dir),
        f"pool-{key}",
        _size_bytes(records, images),
        lambda target: _write_images(target, folder, records, form),
    )
    stored = json.loads((entry / _POOL).read_text(encoding="utf-8"))
    found_now = [f"{folder}: {note}" for note in surveyed.notes]
    if skipped := stored["skipped"]:
        counts = f"{len(skipped)} of {len(records)} images do not decode and are left out"
        found_now.append(f"{folder}: {counts}: {name_list(skipped)}")
    for note in found_now:
        say(note)
    notes = [*exposure_notes(listed), *found_now]  # the plan has reported the first
    return ArrayPool(read_images(entry), fingerprint=stored["fingerprint"], notes=tuple(notes))


def load_image_file(path: Path, images: Images, value_range: ValueRange | None = None) -> tuple[PixelArray, float]:
    """Return one image, decoded like those of a data set: (C, load_size, load_size) uint8.

    Args:
        path: the file.
        images: how images are decoded.
        value_range: of the data set, for files of more than 8 bits.
    Returns:
        the image, and the share of the file's values that were outside of the range and are clipped.
    Raises:
        DataError: the image does not decode, or its depth is not that of the data set; the problem names its path.
    """
    found = read_picture(path, decoding=Decoding(value_range, max_megapixels=images.max_megapixels))
    return fit_image(found.image, images.load_size, images.resize, images.color, images.aspect), found.clipped


def _fetch_and_scan(dataset: Dataset, images: Images, cache: Path, say: Say) -> DatasetScan:
    """Fetch missing files of a data set and scan it again; one process fetches, others on this machine wait.

    Files with problems may be half written by another process, and are scanned again when it has finished.
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
        what = f"the files of '{dataset.name}' cannot be written to this folder ({error})"
        raise DataError(Problem(str(root), what, next_step=info(dataset.name).get)) from error
    if scan.to_fetch and not scan.problems:
        what = f"files of '{dataset.name}' are still missing after they were fetched"
        return DatasetScan(problems=(Problem(str(root), what, next_step=info(dataset.name).get),))
    return scan


def _key(source: Mapping[str, object], records: Sequence[Record], form: ImageForm) -> str:
    """Return a digest of everything that the decoded images depend on."""
    files = [[r.path, r.class_name, r.is_test, r.is_anomalous, r.defect, r.stamp] for r in records]
    versions = [DECODER_VERSION, PILLOW_VERSION]
    settings = [_image_format(form.images), asdict(form.decoding)]
    return digest({**source, "images": settings, "files": files, "decoder": versions})


def _image_format(images: Images) -> list[int | str]:
    """Return the settings that decoding depends on."""
    return [images.load_size, images.resize, images.color, images.aspect]


def _size_bytes(records: Sequence[Record], images: Images) -> int:
    return len(records) * (images.channels * images.load_size**2 + _BYTES_PER_RECORD)


def _write_images(target: Path, folder: Path, records: list[Record], form: ImageForm) -> None:
    images, skipped = form.images, list[str]()
    pixels = hashlib.sha256()
    with ImageFile(target, images.channels, images.load_size) as file:
        for record, decoded in decode_all(records, images, form.decoding, None):
            if isinstance(decoded, DataError):
                skipped.append(record.path)
            else:
                file.append(decoded.pixels)
                pixels.update(decoded.pixels.tobytes())
    if len(skipped) == len(records):
        raise _no_images(folder)
    stored = {"skipped": skipped, "fingerprint": pixels.hexdigest()[:12]}
    (target / _POOL).write_text(json.dumps(stored), encoding="utf-8")


def _no_images(folder: Path) -> DataError:
    return DataError(Problem(str(folder), "holds no image that can be read", next_step="Name a folder of image files"))
