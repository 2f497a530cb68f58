from __future__ import annotations

import platform
from functools import lru_cache
from importlib.metadata import version

import numpy as np
import torch

from fcdd_sweep.config.fields import DatasetSource, FolderSource
from fcdd_sweep.config.schema import Anomalies, Dataset, Images, Network, Settings
from fcdd_sweep.config.trial_spec import TrialSpec, digest
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.data.loading import load_corpus, load_exposure
from fcdd_sweep.data.pools import ImagePool
from fcdd_sweep.networks.describe import weights_fingerprint
from fcdd_sweep.results.files import source_digest
from fcdd_sweep.runners.data_transfer import forget_received, received_corpus, received_pool


def versions() -> dict[str, str]:
    """What made the numbers."""
    return {
        "fcdd_sweep": version("fcdd_sweep"),
        "source": source_digest(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def forget_data() -> None:
    """Look at the data again: a new sweep of the same process must see what has changed."""
    _open_corpus.cache_clear()
    _open_exposure.cache_clear()
    _weights.cache_clear()
    forget_received()


def corpus_of(settings: Settings) -> Corpus:
    """The decoded data set, memory-mapped; opened once a process."""
    return _open_corpus(settings.dataset.model_dump_json(), settings.images.model_dump_json())


@lru_cache(maxsize=2)
def _open_corpus(dataset: str, images: str) -> Corpus:
    asked = Dataset.model_validate_json(dataset), Images.model_validate_json(images)
    return received_corpus(*asked) or load_corpus(*asked)


def exposure_of(settings: Settings) -> ImagePool | None:
    """Images of the outlier-exposure source, or None when the config names none; opened once a process."""
    source = settings.anomalies.source
    return _pool_of(source, settings) if isinstance(source, DatasetSource | FolderSource) else None


def validation_pool_of(settings: Settings) -> ImagePool | None:
    """Images that validation anomalies come from, or None where they do not come from elsewhere."""
    source = settings.evaluation.validation.anomalies
    return _pool_of(source, settings) if isinstance(source, DatasetSource | FolderSource) else None


def _pool_of(source: DatasetSource | FolderSource, settings: Settings) -> ImagePool:
    target = Dataset(name=settings.dataset.name)  # where it lies makes no difference
    named = Anomalies(source=source)
    return _open_exposure(named.model_dump_json(), target.model_dump_json(), settings.images.model_dump_json())


@lru_cache(maxsize=4)
def _open_exposure(anomalies: str, target: str, images: str) -> ImagePool:
    source = Anomalies.model_validate_json(anomalies).source
    assert source is not None and not isinstance(source, str)
    asked = source, Dataset.model_validate_json(target), Images.model_validate_json(images)
    return received_pool(*asked) or load_exposure(*asked)


def fingerprint_of(spec: TrialSpec) -> str:
    """Digest of all that a trial is given: images of its class, outlier exposure, weights, validation anomalies."""
    corpus = corpus_of(spec.settings)
    own, exposure = corpus.fingerprints[spec.normal_class], exposure_of(spec.settings)
    weights = _weights(spec.settings.network.model_dump_json())
    others = [exposure.fingerprint if exposure is not None else "", weights]
    if (pool := validation_pool_of(spec.settings)) is not None:
        others.append(pool.fingerprint)
    elif spec.settings.evaluation.validation.anomalies == "training" and corpus.protocol == "one_vs_rest":
        others.append(digest(corpus.fingerprints))  # a class's own digest need not know the others' training images
    return digest([own, *others]) if any(others) else own


@lru_cache(maxsize=8)
def _weights(network: str) -> str:
    """What training starts from; a file of weights is read once a process."""
    return weights_fingerprint(Network.model_validate_json(network))
