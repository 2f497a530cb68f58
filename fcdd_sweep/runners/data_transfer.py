"""Data from the driver for machines that do not have it: decoded images as they lie in the driver's cache, and weights.

The driver says what it has; a machine that lacks a folder brings the files into its own cache, once, and trials there
read them as if they had been decoded there. Knows no Ray: how files travel is the caller's. What is read image by
image (ImageNet22k), or is larger than `MOST_BYTES`, does not travel: that belongs on storage that all machines share.
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
from fcdd_sweep.config.schema import Dataset, Images, Network
from fcdd_sweep.config.trial_spec import digest
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.data.decoding.cache import SEAL, cached
from fcdd_sweep.data.decoding.store import read_corpus, read_images
from fcdd_sweep.data.pools import ArrayPool, ImagePool
from fcdd_sweep.networks.describe import imagenet_of
from fcdd_sweep.results import files

MOST_BYTES = 32 * 2**30
"""Larger data does not travel."""
FileReader = Callable[[Path, int], Iterator[bytes]]
"""Gives the content of a file of the driver's machine, of so many bytes, part by part."""
PoolSource = DatasetSource | FolderSource


@dataclass(frozen=True)
class CacheEntry:
    """Decoded images at the driver.

    Attributes:
        folder: where they lie there; in another machine's cache the entry gets the same name.
        sizes: bytes of every file by its name.
        missing_at: the folder of original images; a machine that has it needs no parcel.
        facts: what the files do not tell: fields of a `Corpus`, or of an `ArrayPool`.
    """

    folder: Path
    sizes: dict[str, int]
    missing_at: Path
    facts: dict[str, Any]

    @property
    def size(self) -> int:
        return sum(self.sizes.values())

    def bring(self, bring: FileReader) -> None:
        """Have the files in this machine's cache: one process brings them, others wait.

        Raises:
            DataError: they are too large, or cannot be kept.
        """
        if self.size > MOST_BYTES:
            what = f"there is no such folder, and {self.size / 1e9:.1f} GB of decoded images are too much to be sent"
            raise DataError(Problem(str(self.missing_at), what))

        def build(entry: Path) -> None:
            for name, size in self.sizes.items():
                _write(entry / name, bring(self.folder / name, size))

        cached(cache_root(), self.folder.name, self.size, build)

    def corpus(self) -> Corpus:
        facts = self.facts
        read = read_corpus(cache_root() / self.folder.name, facts["name"], facts["protocol"], facts["classes"], ())
        return dataclasses.replace(read, notes=facts["notes"])

    def pool(self) -> ArrayPool:
        return ArrayPool(read_images(cache_root() / self.folder.name), **self.facts)


@dataclass(frozen=True)
class TransferableData:
    """All that a machine may need of the driver.

    Attributes:
        images: decoded images by what is asked for, see `corpus_key` and `pool_key`.
        weights: files of ImageNet's weights at the driver, with their sizes, and the network that starts from them.
    """

    images: Mapping[str, CacheEntry] = dataclasses.field(default_factory=dict)
    weights: tuple[tuple[Network, Path, int], ...] = ()

    def receive(self, bring: FileReader) -> None:
        """Bring what this machine lacks, and have this process's trials read it.

        Raises:
            DataError: see `Parcel.bring`.
        """
        for key, parcel in self.images.items():
            if key not in _received and not parcel.missing_at.exists():
                parcel.bring(bring)
                _received[key] = parcel
        for network, there, size in self.weights:
            here = imagenet_of(network)
            if here is not None and not here.file.is_file():
                _receive_weights(here.file, there, size, bring)


_received: dict[str, CacheEntry] = {}
"""What this process has of the driver; a folder that comes back later makes no difference to a running sweep."""


def received_corpus(dataset: Dataset, images: Images) -> Corpus | None:
    """The data set as the driver sent it, if it did."""
    parcel = _received.get(corpus_key(dataset, images))
    return parcel.corpus() if parcel else None


def received_pool(source: PoolSource, target: Dataset, images: Images) -> ArrayPool | None:
    """Images for outlier exposure as the driver sent them, if it did."""
    parcel = _received.get(pool_key(source, target, images))
    return parcel.pool() if parcel else None


def forget_received() -> None:
    _received.clear()


def corpus_key(dataset: Dataset, images: Images) -> str:
    return digest(["corpus", dataset.model_dump_json(), images.model_dump_json()])


def pool_key(source: PoolSource, target: Dataset, images: Images) -> str:
    return digest(["pool", source.model_dump_json(), target.name, images.model_dump_json()])


def corpus_entry(dataset: Dataset, corpus: Corpus) -> CacheEntry | None:
    """A parcel of a data set; None for one that needs no folder."""
    if dataset.root is None:
        return None
    facts = {field: getattr(corpus, field) for field in ("name", "protocol", "classes", "notes")}
    return _cache_entry(corpus.images, dataset.root, facts)


def pool_entry(source: PoolSource, pool: ImagePool) -> CacheEntry | None:
    """A parcel of images for outlier exposure; None where they need no folder or are read image by image."""
    folder = source.folder if isinstance(source, FolderSource) else source.root
    if folder is None or not isinstance(pool, ArrayPool):
        return None
    facts = {"rows": pool.rows, "fingerprint": pool.fingerprint, "notes": pool.notes}
    return _cache_entry(pool.images, folder, facts)


def weights_files(networks: Iterable[Network]) -> tuple[tuple[Network, Path, int], ...]:
    """ImageNet's weights that are on this machine."""
    found = {network: weights.file for network in networks if (weights := imagenet_of(network))}
    return tuple((network, file, file.stat().st_size) for network, file in found.items() if file.is_file())


def _cache_entry(images: np.ndarray[Any, Any], root: Path, facts: dict[str, Any]) -> CacheEntry | None:
    if not isinstance(images, np.memmap) or images.filename is None:
        return None
    folder = Path(images.filename).parent
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name != SEAL}
    return CacheEntry(folder, sizes, root, facts)


def _receive_weights(here: Path, there: Path, size: int, bring: FileReader) -> None:
    here.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{here}.lock"):
        if not here.is_file():
            files.write_atomically(here, lambda aside: _write(aside, bring(there, size)))


def _write(path: Path, parts: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
