"""The identity of a trial: config, normal class and seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from fcdd_sweep.config.names import slug
from fcdd_sweep.config.schema import Settings

NUMERICS_VERSION = 3
"""Raised by hand when a change of code changes the numbers of trials."""
CUDA_NUMERICS_VERSION = 2
"""The same for what a GPU alone draws or computes otherwise: not part of a trial's id, as a plan knows no device."""
NOT_IDENTITY = (
    "dataset.root",
    "dataset.classes",
    "dataset.download",
    "images.max_megapixels",
    "anomalies.source.root",
    "anomalies.source.download",
    "evaluation.validation.anomalies.root",
    "evaluation.validation.anomalies.download",
    "evaluation.validation.epochs",
    "evaluation.image_score",
    "evaluation.false_alarm_rate",
    "heatmaps.color_quantile",
    "heatmaps.color_map",
    "heatmaps.blur",
    "resources",
    "keep",
)
"""Keys that may change without making another trial: paths, resources, drawing, epochs of validation, which fill a
column of the history and change nothing else, and what decisions are recomputed by from the scores of a trial."""


_LONGEST_SLUG = 240


def canonical(value: object) -> str:
    """Return one JSON text for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: object) -> str:
    """Return 12 hex digits of the SHA-256 of `value` as canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


def device_numerics(device_type: str) -> str:
    """Return the type of a device with the version of its numbers: `cpu`, or `cuda 1`."""
    return f"cuda {CUDA_NUMERICS_VERSION}" if device_type == "cuda" else device_type


@dataclass(frozen=True, repr=False)
class TrialSpec:
    """One (config, normal class, seed).

    Attributes:
        settings: the resolved settings.
        normal_class: name of the class that is trained on.
        seed: the integer given to the generators.
        config_name: name of the config's folder; empty when the experiment has one config.
        parameters: values of grid and variants that make this config.
    """

    settings: Settings
    normal_class: str
    seed: int
    config_name: str = ""
    parameters: dict[str, Any] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        return f"TrialSpec({self.trial_id}: {self.leaf})"

    @cached_property
    def config_id(self) -> str:
        return config_id(self.settings)

    @cached_property
    def trial_id(self) -> str:
        return digest({"config": self.config_id, "class": self.normal_class, "seed": self.seed})

    @property
    def leaf(self) -> str:
        """Path of the trial's files below the run's directory, with forward slashes."""
        return "/".join(filter(None, [self.config_name, f"normal_{slug(self.normal_class)}", f"it_{self.seed}"]))

    def sharing_gpu(self, trials: int) -> TrialSpec:
        """Return the same trial where so many share a GPU, which is no part of its id."""
        resources = self.settings.resources.model_copy(update={"trials_per_gpu": trials})
        return replace(self, settings=self.settings.model_copy(update={"resources": resources}))

    def to_dict(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "normal_class": self.normal_class,
            "seed": self.seed,
            "config_name": self.config_name,
            "parameters": self.parameters,
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> TrialSpec:
        return cls(**{**plain, "settings": Settings.model_validate(plain["settings"])})


def config_id(settings: Settings) -> str:
    """Return 12 hex digits of everything in the settings that changes a trial's numbers."""
    return digest({"settings": identity(settings), "numerics": NUMERICS_VERSION})


def identity(settings: Settings) -> dict[str, Any]:
    """Return the part of the settings that changes a trial's numbers, as plain values.

    A folder of anomalies and a file of weights count by their last name, not by their location.
    What decisions are calibrated on counts where it changes training: `evaluation.calibration` cross, and its folds.
    Values at their default are left out, so that a new key with a default leaves the ids of finished trials alone; a
    default that changes must therefore raise `NUMERICS_VERSION`.
    """
    plain = settings.model_dump(mode="json", include=set(Settings.model_fields), exclude_defaults=True)
    for key in NOT_IDENTITY:
        *parents, last = key.split(".")
        section: Any = plain
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if isinstance(section, dict):
            section.pop(last, None)
    if settings.evaluation.calibration in ("split", "none"):  # training is the same
        for key in ("calibration", "folds"):
            plain.get("evaluation", {}).pop(key, None)
    if plain.get("training", {}).get("supervision") == "labels":
        del plain["training"]["supervision"]  # once the default, and what plans make of `auto` without maps
    if plain.get("training", {}).get("layout") == "channels_last":
        del plain["training"]["layout"]  # the only one that there was on a CPU
    validation = plain.get("evaluation", {}).get("validation", {})
    for named, key in (
        (plain.get("anomalies", {}).get("source"), "folder"),
        (validation.get("anomalies"), "folder"),
        (plain.get("network"), "weights"),
    ):
        if isinstance(named, dict) and key in named:
            named[key] = named[key].replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return _without_empty(plain)


def _without_empty(plain: dict[str, Any]) -> dict[str, Any]:
    """Return plain values without empty sections, at any depth."""
    kept = {key: _without_empty(value) if isinstance(value, dict) else value for key, value in plain.items()}
    return {key: value for key, value in kept.items() if value != {}}
