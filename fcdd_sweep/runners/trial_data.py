"""The data that a trial reads: opened once per process, named by keys, and summed up in a fingerprint."""

from __future__ import annotations

import logging
import platform
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from fcdd_sweep.config.schema import Dataset, Settings
from fcdd_sweep.config.trial_spec import TrialSpec, digest
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.data.decoding.store import DecodeProgress
from fcdd_sweep.data.decoding.survey import in_range
from fcdd_sweep.data.loading import load_corpus, load_exposure
from fcdd_sweep.data.pools import ImagePool
from fcdd_sweep.data.records import Say
from fcdd_sweep.networks.describe import weights_fingerprint
from fcdd_sweep.results.files import source_digest
from fcdd_sweep.runners.data_transfer import PoolSource, forget_received, received_corpus, received_pool
from fcdd_sweep.training.pixel_images import forget_pixel_images

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


def versions() -> dict[str, str]:
    """Return the versions of all that decides the numbers of a trial, by name."""
    return {
        "fcdd_sweep": version("fcdd_sweep"),
        "source": source_digest(),
        "python": platform.python_version(),
        "torch": _torch_version(),
        "numpy": np.__version__,
    }


@cache
def _torch_version() -> str:
    """Return `torch.__version__`, also where torch is not imported, which takes two seconds."""
    if "torch" in sys.modules:
        return str(sys.modules["torch"].__version__)
    found = find_spec("torch")
    assert found is not None and found.origin is not None
    return str(runpy.run_path(str(Path(found.origin).with_name("version.py")))["__version__"])


@dataclass(frozen=True)
class DataKeys:
    """Names of what the trials of a config read: where names are equal, the data is the same.

    Attributes:
        corpus: the data set at its size.
        exposure: images for outlier exposure; empty when there are none.
        validation: where validation anomalies come from; the key of a pool when they come from other images, as for
            `exposure`.
        weights: what the network starts from.
    """

    corpus: str
    exposure: str
    validation: str
    weights: str


def data_keys(settings: Settings) -> DataKeys:
    """Return the one answer to "do these configs read the same data"."""
    source, validation = settings.anomalies.source, settings.evaluation.validation.anomalies
    network = settings.network.model_dump_json(include={"name", "backbone", "weights"})
    return DataKeys(
        corpus=_corpus_key(settings),
        exposure=_pool_key(source, settings) if isinstance(source, PoolSource) else "",
        validation=_pool_key(validation, settings) if isinstance(validation, PoolSource) else str(validation),
        weights=digest(["weights", network]),
    )


def _corpus_key(settings: Settings) -> str:
    return digest(["corpus", settings.dataset.model_dump_json(), settings.images.model_dump_json()])


def _pool_key(source: PoolSource, settings: Settings) -> str:
    return digest(["pool", source.model_dump_json(), settings.dataset.name, settings.images.model_dump_json()])


def data_key(spec: TrialSpec) -> str:
    """Return a key that is equal for trials of the same class whose configs read the same data."""
    return digest([spec.normal_class, *astuple(data_keys(spec.settings))])


def forget_data() -> None:
    """Close all data, so that a new sweep in the same process sees what has changed."""
    for opened in (_corpora, _pools, _weights):
        opened.clear()
    forget_pixel_images()
    forget_received()


class _Opened(Generic[T]):
    """What this process has open, by key; the oldest is closed beyond `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_key: dict[str, T] = {}

    def get(self, key: str, load: Callable[[], T]) -> T:
        if key not in self._by_key:
            self._by_key[key] = load()
            while len(self._by_key) > self._most:
                del self._by_key[next(iter(self._by_key))]
        return self._by_key[key]

    def clear(self) -> None:
        self._by_key.clear()


_corpora: _Opened[Corpus] = _Opened(4)
_pools: _Opened[ImagePool] = _Opened(4)
_weights: _Opened[str] = _Opened(8)


def corpus_of(settings: Settings, progress: DecodeProgress | None = None, say: Say = _LOG.info) -> Corpus:
    """Return the decoded data set, memory-mapped; it is opened once per process.

    Args:
        settings: the settings of a config.
        progress, say: see `data.loading.load_corpus`; not called when the data set is open.
    """
    key = _corpus_key(settings)

    def load() -> Corpus:
        corpus = received_corpus(key)
        return (
            corpus if corpus is not None else load_corpus(settings.dataset, settings.images, progress=progress, say=say)
        )

    return _corpora.get(key, load)


def exposure_of(settings: Settings, say: Say = _LOG.info) -> ImagePool | None:
    """Return the images for outlier exposure, or None when the config has none; opened once per process."""
    source = settings.anomalies.source
    return _pool_of(source, settings, say) if isinstance(source, PoolSource) else None


def validation_pool_of(settings: Settings) -> ImagePool | None:
    """Return the images that validation anomalies come from, or None when they come from the data set itself."""
    source = settings.evaluation.validation.anomalies
    return _pool_of(source, settings) if isinstance(source, PoolSource) else None


def pools_of(settings: Settings) -> Iterator[tuple[str, PoolSource, ImagePool]]:
    """Yield key, source and images of every pool beside the data set that the config's trials read."""
    for source in (settings.anomalies.source, settings.evaluation.validation.anomalies):
        if isinstance(source, PoolSource):
            yield _pool_key(source, settings), source, _pool_of(source, settings)


def _pool_of(source: PoolSource, settings: Settings, say: Say = _LOG.info) -> ImagePool:
    key = _pool_key(source, settings)
    target = Dataset(name=settings.dataset.name)  # its folder makes no difference
    images = in_range(settings.images, corpus_of(settings).value_range)

    def load() -> ImagePool:
        pool = received_pool(key)
        return pool if pool is not None else load_exposure(source, target, images, say=say)

    return _pools.get(digest([key, images.model_dump_json()]), load)


def fingerprint_of(spec: TrialSpec) -> str:
    """Return a digest of what a trial reads: images of its class, outlier exposure, weights, validation anomalies."""
    corpus = corpus_of(spec.settings)
    own, exposure = corpus.fingerprints[spec.normal_class], exposure_of(spec.settings)
    network = spec.settings.network
    weights = _weights.get(network.model_dump_json(), lambda: weights_fingerprint(network))
    others = [exposure.fingerprint if exposure is not None else "", weights]
    if (pool := validation_pool_of(spec.settings)) is not None:
        others.append(pool.fingerprint)
    elif spec.settings.evaluation.validation.anomalies == "training" and corpus.protocol == "one_vs_rest":
        others.append(digest(corpus.fingerprints))  # a class's own digest leaves out the others' training images
    return digest([own, *others]) if any(others) else own
