"""Transfer of data from the driver to machines that lack it: entries of the cache of decoded images, and weights.

The driver lists what it has; a machine that lacks a folder of images fetches the cache entry into its own cache, once,
and its trials read it as if it had been decoded there. Knows no Ray: the caller supplies the reader of the driver's
files. Data that is read image by image (ImageNet22k) or is larger than `MAX_BYTES` is not transferred: it belongs on
storage that all machines share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.fields import DatasetSource, FolderSource
from fcdd_sweep.config.locations import cache_root
from fcdd_sweep.config.schema import Dataset, Network
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.data.decoding.cache import SEAL, cached
from fcdd_sweep.data.decoding.store import read_corpus, read_images
from fcdd_sweep.data.pools import ArrayPool, ImagePool
from fcdd_sweep.networks.describe import imagenet_of
from fcdd_sweep.results import files

MAX_BYTES = 32 * 2**30
"""Larger data is not transferred."""
FileReader = Callable[[Path, int], Iterator[bytes]]
"""Yields the content of a file on the driver's machine, chunk by chunk, from its path and size in bytes."""
PoolSource = DatasetSource | FolderSource


@dataclass(frozen=True)
class CacheEntry:
    """An entry of the driver's cache of decoded images.

    Attributes:
        folder: its path at the driver; in another machine's cache the entry gets the same name.
        sizes: bytes of every file by its name.
        source: the folder of original images; a machine that has it needs no transfer.
        fields: what the files do not hold: fields of a `Corpus`, or of an `ArrayPool`.
    """

    folder: Path
    sizes: dict[str, int]
    source: Path
    fields: dict[str, Any]

    @property
    def size(self) -> int:
        return sum(self.sizes.values())

    def fetch(self, read: FileReader) -> None:
        """Copy the files into this machine's cache; one process copies them while others wait.

        Raises:
            DataError: they are too large, or cannot be written.
        """
        if self.size > MAX_BYTES:
            what = f"the folder does not exist, and its {self.size / 1e9:.1f} GB of decoded images exceed the limit of "
            raise DataError(Problem(str(self.source), f"{what}{MAX_BYTES / 1e9:.1f} GB for a transfer"))

        def build(entry: Path) -> None:
            for name, size in self.sizes.items():
                _write(entry / name, read(self.folder / name, size))

        cached(cache_root(), self.folder.name, self.size, build)

    def corpus(self) -> Corpus:
        """Return the data set, memory-mapped from this machine's cache."""
        own = self.fields
        corpus = read_corpus(cache_root() / self.folder.name, own["name"], own["protocol"], own["classes"], ())
        return dataclasses.replace(corpus, notes=own["notes"])

    def pool(self) -> ArrayPool:
        """Return the pool of images, memory-mapped from this machine's cache."""
        return ArrayPool(read_images(cache_root() / self.folder.name), **self.fields)


@dataclass(frozen=True)
class TransferableData:
    """All data that a machine may fetch from the driver.

    Attributes:
        entries: decoded images by the keys of `runners.trial_data`.
        weights: networks that start from ImageNet's weights, with path and size in bytes of the driver's file.
    """

    entries: Mapping[str, CacheEntry] = dataclasses.field(default_factory=dict)
    weights: tuple[tuple[Network, Path, int], ...] = ()

    def receive(self, read: FileReader) -> None:
        """Fetch what this machine lacks, and have the trials of this process read it.

        Raises:
            DataError: see `CacheEntry.fetch`.
        """
        for key, entry in self.entries.items():
            if key not in _received and not entry.source.exists():
                entry.fetch(read)
                _received[key] = entry
        for network, at_driver, size in self.weights:
            weights = imagenet_of(network)
            if weights is not None and not weights.file.is_file():
                _fetch_weights(weights.file, at_driver, size, read)


_received: dict[str, CacheEntry] = {}
"""What this process has from the driver; a folder that appears later makes no difference to a running sweep."""


def received_corpus(key: str) -> Corpus | None:
    """Return the data set that the driver sent under this key, or None."""
    entry = _received.get(key)
    return entry.corpus() if entry else None


def received_pool(key: str) -> ArrayPool | None:
    """Return the pool of images that the driver sent under this key, or None."""
    entry = _received.get(key)
    return entry.pool() if entry else None


def forget_received() -> None:
    """Have later trials look for the data on this machine again."""
    _received.clear()


def corpus_entry(dataset: Dataset, corpus: Corpus) -> CacheEntry | None:
    """Return the cache entry of a data set, or None when it needs no folder."""
    if dataset.root is None:
        return None
    fields = {field: getattr(corpus, field) for field in ("name", "protocol", "classes", "notes")}
    return _cache_entry(corpus.images, dataset.root, fields)


def pool_entry(source: PoolSource, pool: ImagePool) -> CacheEntry | None:
    """Return the cache entry of a pool, or None when it needs no folder or is read image by image."""
    folder = source.folder if isinstance(source, FolderSource) else source.root
    if folder is None or not isinstance(pool, ArrayPool):
        return None
    fields = {"rows": pool.rows, "fingerprint": pool.fingerprint, "notes": pool.notes}
    return _cache_entry(pool.images, folder, fields)


def weights_files(networks: Iterable[Network]) -> tuple[tuple[Network, Path, int], ...]:
    """Return networks, paths and sizes in bytes of ImageNet's weights that are on this machine."""
    found = {network: weights.file for network in networks if (weights := imagenet_of(network))}
    return tuple((network, file, file.stat().st_size) for network, file in found.items() if file.is_file())


def _cache_entry(images: np.ndarray[Any, Any], source: Path, fields: dict[str, Any]) -> CacheEntry | None:
    if not isinstance(images, np.memmap) or images.filename is None:
        return None
    folder = Path(images.filename).parent
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name != SEAL}
    return CacheEntry(folder, sizes, source, fields)


def _fetch_weights(file: Path, at_driver: Path, size: int, read: FileReader) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if not file.is_file():
            files.write_atomically(file, lambda temporary: _write(temporary, read(at_driver, size)))


def _write(path: Path, chunks: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
