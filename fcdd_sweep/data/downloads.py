"""Files that are not there yet: asked for in words, or fetched by torchvision's downloaders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.schema import Dataset
from fcdd_sweep.data.records import Say, Scan
from fcdd_sweep.data.registry import info


def files_missing(dataset: Dataset, folder: Path, names: Sequence[str]) -> Scan:
    """The scan of a data set of which files are missing: they will be downloaded, or the user must act.

    Args:
        folder: where the files are looked for.
        names: the missing files as a user would write them.
    """
    if dataset.download:
        return Scan(to_fetch=f"'{dataset.name}' is not in {dataset.root} and will be downloaded into that folder.")
    what = f"files of '{dataset.name}' are missing in {folder}: {', '.join(names)}"
    next_step = "Place them there, or set dataset.download: true"
    return Scan(problems=(Problem("dataset.root", what, next_step=next_step),))


def through_torchvision(dataset: Dataset, say: Say, download: Callable[[Any, str], object]) -> None:
    """Fetch a data set into its root.

    Args:
        download: given `torchvision.datasets` and the root, makes the data set with `download=True`.
    Raises:
        DataError: whatever the download failed with.
    """
    from torchvision import datasets

    say(f"downloading '{dataset.name}' into {dataset.root}")
    try:
        download(datasets, str(dataset.root))
    except Exception as error:  # network, server, disk and checksum raise many types; for the user it is one thing
        raise failed(dataset, error) from error


def failed(dataset: Dataset, error: Exception) -> DataError:
    """What a failed download is told as."""
    what = f"the download of '{dataset.name}' failed ({type(error).__name__}: {' '.join(str(error).split())})"
    next_step = f"Run the command again, or place the files yourself. {info(dataset.name).get}"
    return DataError(Problem(str(dataset.root), what, next_step=next_step))
