"""The data of a sweep before its first trial: decoded, checked, and named by fingerprints."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from fcdd_sweep.config.schema import Settings
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.networks.describe import starting_weights
from fcdd_sweep.results.files import TableRow
from fcdd_sweep.results.schemas import IMAGE_LIST
from fcdd_sweep.runners.events import Report
from fcdd_sweep.runners.trial_data import corpus_of, data_keys, exposure_of, fingerprint_of, forget_data

_REPORT_DECODING_EVERY_S = 3.0


def prepare_data(specs: Sequence[TrialSpec], report: Report) -> tuple[dict[str, str], list[str]]:
    """Decode and check every data set that the trials read, once, and fetch the weights that they start from.

    Returns:
        The fingerprint of its data by trial id, and notes on the data for the report.
    Raises:
        InputError: all images that do not decode, or weights that cannot be fetched.
    """
    forget_data()
    notes: list[str] = []
    for settings in _distinct(specs):
        on_decoded = _decoding_progress(settings.dataset.name, report)
        notes += corpus_of(settings, progress=on_decoded, say=report).notes
        if (pool := exposure_of(settings, say=report)) is not None:
            notes += [*pool.notes, *_limit_notes(settings, len(pool), report)]
    _fetch_weights(specs, report)
    fingerprints = {spec.trial_id: fingerprint_of(spec) for spec in specs}
    return fingerprints, list(dict.fromkeys(notes))


def image_list_rows(settings: Settings) -> list[TableRow]:
    """Return how the folders of own images were read and divided, columns of `schemas.IMAGE_LIST`."""
    corpus = corpus_of(settings)
    columns = (
        (corpus.classes[i] for i in corpus.class_index),
        corpus.path,
        ("test" if tested else "train" for tested in corpus.is_test),
        corpus.is_anomalous.astype(int).tolist(),
        corpus.defect,
    )
    return [dict(zip(IMAGE_LIST.names, values, strict=True)) for values in zip(*columns, strict=True)]


def _distinct(specs: Sequence[TrialSpec]) -> list[Settings]:
    """Return one of each group of settings that read the same images, and as many of them."""
    found: dict[tuple[str, str, int | str], Settings] = {}
    for settings in {id(spec.settings): spec.settings for spec in specs}.values():  # trials of a config share them
        keys = data_keys(settings)
        found[keys.corpus, keys.exposure, settings.anomalies.limit] = settings
    return list(found.values())


def _limit_notes(settings: Settings, n_images: int, report: Report) -> list[str]:
    limit = settings.anomalies.limit
    if limit == "all" or limit <= n_images:
        return []
    note = f"anomalies.limit is {limit}, but there are {n_images} outlier-exposure images: all are used."
    report(note)
    return [note]


def _fetch_weights(specs: Sequence[TrialSpec], report: Report) -> None:
    """Fetch ImageNet's weights onto this machine, once, before trials need them."""
    networks = {spec.settings.network.model_dump_json(): spec.settings.network for spec in specs}
    backbones = {network.backbone for network in networks.values() if starting_weights(network) == "imagenet"}
    if backbones:
        from fcdd_sweep.networks.pretrained import load_imagenet  # imports torchvision, which few networks need

        report("looking for ImageNet's weights; they are fetched if they are not on this machine yet")
        for backbone in backbones:
            load_imagenet(backbone)


def _decoding_progress(name: str, report: Report) -> Callable[[int, int], None]:
    """Return a function that reports now and then how many images are decoded."""
    last = time.monotonic()

    def on_decoded(count: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > _REPORT_DECODING_EVERY_S:
            report(f"decoding {name}: {count} of {total} images")
            last = time.monotonic()

    return on_decoded
