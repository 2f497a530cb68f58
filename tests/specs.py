"""Small trials and corpora for tests: built in memory, trained in a second."""

from __future__ import annotations

from typing import Any

import numpy as np

from fcdd_sweep.config.schema import Settings
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.data.corpus import Corpus

SETTINGS: dict[str, Any] = {
    "dataset": {"name": "textures"},
    "images": {"load_size": 32, "size": 28, "color": "gray"},
    "anomalies": {"mode": "malformed_normal", "source": "confetti"},
    "network": {"name": "FCDD_CNN28"},
    "preprocessing": "lcnaug1",
    "training": {
        "epochs": 2,
        "batch_size": 16,
        "supervision": "maps",
        "learning_rate": 0.01,
        "schedule": {"type": "exponential", "factor": 0.9},
    },
    "heatmaps": {"kernel_std_px": 1.2},
}


def settings(**sections: Any) -> Settings:
    """The settings above; a section given as a mapping is merged, anything else replaces it."""
    plain = dict(SETTINGS)
    for name, value in sections.items():
        plain[name] = {**plain.get(name, {}), **value} if isinstance(value, dict) else value
    return Settings.model_validate(plain)


def spec(seed: int = 0, normal_class: str = "plain", **sections: Any) -> TrialSpec:
    return TrialSpec(settings(**sections), normal_class, seed)


def defects_corpus(
    *, train: int = 40, test: int = 24, raw: int = 32, channels: int = 1, maps: bool = True, seed: int = 0
) -> Corpus:
    """One class `plain` of smooth noise; every second test image has a bright square with an exact map."""
    rng = np.random.default_rng(seed)
    n = train + test
    images = rng.integers(90, 130, size=(n, channels, raw, raw)).astype(np.uint8)
    is_test = np.arange(n) >= train
    is_anomalous = is_test & (np.arange(n) % 2 == 1)
    masks = []
    for i in np.flatnonzero(is_anomalous):
        top, left = rng.integers(4, raw - 14, size=2)
        mask = np.zeros((raw, raw), dtype=bool)
        mask[top : top + 8, left : left + 8] = True
        images[i, :, mask] = 250
        masks.append(np.packbits(mask))
    mask_index = np.full(n, -1, dtype=np.int64)
    if maps:
        mask_index[is_anomalous] = np.arange(len(masks))
    return Corpus(
        name="textures",
        protocol="defects",
        classes=("plain",),
        images=images,
        class_index=np.zeros(n, dtype=np.int64),
        is_test=is_test,
        is_anomalous=is_anomalous,
        defect=tuple("square" if flag else "" for flag in is_anomalous),
        path=tuple(f"image/{i}" for i in range(n)),
        original_size=np.full((n, 2), raw, dtype=np.int64),
        mask_index=mask_index,
        mask_bits=np.concatenate(masks),
        mask_offset=np.arange(len(masks) + 1, dtype=np.int64) * len(masks[0]),
        fingerprints={"plain": "f" * 12},
    )


def small_experiment(rest: str, classes: str = '["3", "8"]') -> str:
    """The text of an experiment file on digits with the smallest network; `rest` are its further lines."""
    return f"""
schema: 2
name: small
preset: digits
dataset: {{name: digits, classes: {classes}}}
images: {{load_size: 28, size: 28, color: gray}}
network: {{name: FCDD_CNN28}}
{rest.lstrip()}"""
