"""The data that a trial reads: opened once per process, named by keys, and summed up in a fingerprint."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import lru_cache
from importlib.metadata import version

import numpy as np
import torch

from fcdd_sweep.config.schema import Anomalies, Dataset, Images, Network, Settings
from fcdd_sweep.config.trial_spec import TrialSpec, digest
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.data.decoding.survey import in_range
from fcdd_sweep.data.loading import load_corpus, load_exposure
from fcdd_sweep.data.pools import ImagePool
from fcdd_sweep.networks.describe import weights_fingerprint
from fcdd_sweep.results.files import source_digest
from fcdd_sweep.runners.data_transfer import PoolSource, forget_received, received_corpus, received_pool


def versions() -> dict[str, str]:
    """Return the versions of all that decides the numbers of a trial, by name."""
    return {
        "fcdd_sweep": version("fcdd_sweep"),
        "source": source_digest(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


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
    _open_corpus.cache_clear()
    _open_exposure.cache_clear()
    _weights.cache_clear()
    forget_received()


def corpus_of(settings: Settings) -> Corpus:
    """Return the decoded data set, memory-mapped; it is opened once per process."""
    return _open_corpus(_corpus_key(settings), settings.dataset.model_dump_json(), settings.images.model_dump_json())


@lru_cache(maxsize=2)
def _open_corpus(key: str, dataset: str, images: str) -> Corpus:
    received = received_corpus(key)
    if received is not None:
        return received
    return load_corpus(Dataset.model_validate_json(dataset), Images.model_validate_json(images))


def exposure_of(settings: Settings) -> ImagePool | None:
    """Return the images for outlier exposure, or None when the config has none; opened once per process."""
    source = settings.anomalies.source
    return _pool_of(source, settings) if isinstance(source, PoolSource) else None


def validation_pool_of(settings: Settings) -> ImagePool | None:
    """Return the images that validation anomalies come from, or None when they come from the data set itself."""
    source = settings.evaluation.validation.anomalies
    return _pool_of(source, settings) if isinstance(source, PoolSource) else None


def pools_of(settings: Settings) -> Iterator[tuple[str, PoolSource, ImagePool]]:
    """Yield key, source and images of every pool beside the data set that the config's trials read."""
    for source in (settings.anomalies.source, settings.evaluation.validation.anomalies):
        if isinstance(source, PoolSource):
            yield _pool_key(source, settings), source, _pool_of(source, settings)


def _pool_of(source: PoolSource, settings: Settings) -> ImagePool:
    target = Dataset(name=settings.dataset.name)  # its folder makes no difference
    named = Anomalies(source=source)
    images = in_range(settings.images, corpus_of(settings).value_range)
    texts = named.model_dump_json(), target.model_dump_json(), images.model_dump_json()
    return _open_exposure(_pool_key(source, settings), *texts)


@lru_cache(maxsize=4)
def _open_exposure(key: str, anomalies: str, target: str, images: str) -> ImagePool:
    source = Anomalies.model_validate_json(anomalies).source
    assert isinstance(source, PoolSource)
    received = received_pool(key)
    if received is not None:
        return received
    return load_exposure(source, Dataset.model_validate_json(target), Images.model_validate_json(images))


def fingerprint_of(spec: TrialSpec) -> str:
    """Return a digest of what a trial reads: images of its class, outlier exposure, weights, validation anomalies."""
    corpus = corpus_of(spec.settings)
    own, exposure = corpus.fingerprints[spec.normal_class], exposure_of(spec.settings)
    weights = _weights(spec.settings.network.model_dump_json())
    others = [exposure.fingerprint if exposure is not None else "", weights]
    if (pool := validation_pool_of(spec.settings)) is not None:
        others.append(pool.fingerprint)
    elif spec.settings.evaluation.validation.anomalies == "training" and corpus.protocol == "one_vs_rest":
        others.append(digest(corpus.fingerprints))  # a class's own digest leaves out the others' training images
    return digest([own, *others]) if any(others) else own


@lru_cache(maxsize=8)
def _weights(network: str) -> str:
    """Return a digest of the weights that training starts from; a file of weights is read once per process."""
    return weights_fingerprint(Network.model_validate_json(network))
