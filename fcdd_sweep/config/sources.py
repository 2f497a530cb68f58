"""Where anomalies come from, as experiment files name it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag

from fcdd_sweep.config.section import Section


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(_absolute)]
"""A path that no longer depends on where the program was started; `~` is the home folder."""


class DatasetSource(Section):
    dataset: str
    """Outlier exposure: training images of this data set."""
    root: AbsolutePath | None = None
    """Where that data set lies, if it needs a folder."""
    download: bool = False
    """Whether what is missing below `root` may be fetched from where its authors publish it."""


class FolderSource(Section):
    folder: AbsolutePath
    """Outlier exposure: all images below this folder."""


def kind_of_source(source: object) -> str | None:
    """The tag of a source in a union: of a name, a data set or a folder."""
    if isinstance(source, str):
        return "(name)"
    if isinstance(source, FolderSource) or (isinstance(source, dict) and "folder" in source):
        return "(folder)"
    return "(dataset)" if isinstance(source, DatasetSource | dict) else None


Source = Annotated[
    Annotated[str, Tag("(name)")]
    | Annotated[DatasetSource, Tag("(dataset)")]
    | Annotated[FolderSource, Tag("(folder)")],
    Discriminator(kind_of_source),
]
