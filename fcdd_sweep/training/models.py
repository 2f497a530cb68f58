"""Networks of trials: built on their device, and stored in snapshots with their preprocessing."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.networks.build import network_of
from fcdd_sweep.networks.execution import layout_of
from fcdd_sweep.training.network import DetectionNetwork
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from fcdd_sweep.training.state import copied_to_cpu

SNAPSHOT_VERSION = 5
"""Of the layout of `snapshot.pt`, keys of its `settings` included."""
_MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
"""Values of `training.layout`."""
_NOT_LOADED = (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError)
"""Errors of `torch.load` and of indexing for a file that is not a snapshot."""
_ZIP = b"PK\x03\x04"
"""First bytes of a file of torch."""


def make_network(
    settings: Settings, device: torch.device, seed: int | None = None, *, pretrained: bool = True
) -> DetectionNetwork:
    """Build the network of a trial on its device, in the layout of the settings.

    Args:
        settings: of the trial.
        device: of the trial.
        seed: of the initial weights, drawn without advancing torch's global generator; None: draw from that one.
        pretrained: False: read and download no weights, because those of a snapshot are loaded next.
    Raises:
        InputError: see `networks.build.network_of`.
    """
    images = settings.images
    shape = (images.channels, images.size, images.size)
    network: DetectionNetwork = network_of(settings.network, settings.method, shape, seed, pretrained=pretrained)
    network.layout = _MEMORY_FORMATS[layout_of(settings.network, settings.training)]
    network.to(device, memory_format=network.layout)
    return network


def stored_model(network: DetectionNetwork, preprocessor: Preprocessor) -> dict[str, Any]:
    """Return weights and statistics as tensors on the CPU and plain values, copied."""
    return {
        "network": copied_to_cpu(dict(network.state_dict())),
        "preprocessing": {
            "recipe": asdict(preprocessor.recipe),
            "shift": copied_to_cpu(preprocessor.shift),
            "scale": copied_to_cpu(preprocessor.scale),
        },
    }


def load_model(
    settings: Settings, plain: Mapping[str, Any], device: torch.device
) -> tuple[DetectionNetwork, Preprocessor]:
    """Return what `stored_model` stored, the network in evaluation mode on a device."""
    network = make_network(settings, device, pretrained=False)
    network.load_state_dict(plain["network"])
    stored = plain["preprocessing"]
    recipe = Recipe(**stored["recipe"])
    return network.eval(), Preprocessor(recipe, stored["shift"].to(device), stored["scale"].to(device))


def read_snapshot(path: Path) -> dict[str, Any]:
    """Return the content of a snapshot of this version, or raise an `InputError`."""
    allowed = "the snapshot.pt of a finished trial, such as results/RUN/normal_CLASS/it_0/snapshot.pt"
    hint = "It holds network, preprocessing and threshold; trials leave one unless keep.snapshots is none"
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "there is no such file"
        raise InputError(Problem(str(path), what, allowed))
    if _is_damaged(path):
        step = "Copy it again; or remove its folder and run the experiment again, which trains the trial anew"
        raise InputError(Problem(str(path), "the file is damaged or cut off", next_step=step))
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True)
        found = plain["snapshot_version"]  # a state dict or another file of torch has no such key
    except OSError as error:
        raise InputError(Problem(str(path), f"cannot be read ({error.strerror})", allowed)) from error
    except _NOT_LOADED as error:
        raise InputError(Problem(str(path), "this is not a snapshot", allowed, hint)) from error
    if found != SNAPSHOT_VERSION:
        raise InputError(_version_problem(path, found, plain.get("versions")))
    return dict(plain)


def _is_damaged(path: Path) -> bool:
    """Return whether a file begins as those of torch do, and is not whole: torch compares no checksums."""
    try:
        with path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:
                return False
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is not None
    except OSError:
        return False
    except Exception:  # flipped bits of a header raise many types: of zipfile, of zlib, of decoding
        return True


def _version_problem(path: Path, found: object, versions: object) -> Problem:
    """Describe a snapshot that another version of fcdd_sweep wrote, and what to do about it."""
    writer = versions.get("fcdd_sweep", "unknown") if isinstance(versions, dict) else "unknown"
    what = f"the snapshot has version {found}, written by fcdd_sweep {writer}"
    step = "Train the trial again, or predict with the program that wrote it, which is kept in source/ of its run"
    return Problem(str(path), what, f"version {SNAPSHOT_VERSION}", step)
