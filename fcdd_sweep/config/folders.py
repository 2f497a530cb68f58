"""Folders of this machine that no experiment names."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root(cache_dir: Path | None = None) -> Path:
    """Where what can be made again is kept: `cache_dir`, else `$FCDD_SWEEP_CACHE`, else in the user's cache folder."""
    if cache_dir is not None:
        return cache_dir.absolute()
    if own := os.environ.get("FCDD_SWEEP_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fcdd_sweep"
