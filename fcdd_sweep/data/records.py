"""What a scan of a data set returns: records of images that are not decoded yet, problems and facts.

`data.registry` declares the functions of a data set's module that return them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.schema import Dataset

Say = Callable[[str], None]
"""Called with sentences about work that takes long."""


class DefectMap(NamedTuple):
    """A single defect of an image.

    Attributes:
        mask: (H, W) bool, True where it is.
        saturation: pixels of it that count as all of it, at least 1.
    """

    mask: npt.NDArray[np.bool_]
    saturation: float


class DecodedImage(NamedTuple):
    """A decoded or rendered image.

    Attributes:
        image: (H, W) gray or (H, W, 3) RGB uint8, in any size and either color: the loader brings it to
            `images.load_size` and `images.color`.
        mask: (H, W) bool, True where anomalous, or None where no map is known.
        clipped: share of the file's values that were outside of the data set's range.
        defects: its single defects, whose union is `mask`, where the data set says from which area on one is found.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_] | None = None
    clipped: float = 0.0
    defects: tuple[DefectMap, ...] = ()


@dataclass(frozen=True)
class Record:
    """One image before it is decoded.

    Attributes:
        path: unique path below the root with forward slashes, or a stable label such as `digits/17`.
        class_name: the class it belongs to.
        is_test: whether it is in the test split.
        is_anomalous: within its own class; always False in `one_vs_rest`.
        defect: the defect's type; empty for nominal images.
        stamp: changes when the pixels may have changed: sizes and times of files, or the version of a renderer.
        load: returns the decoded image. It may run in any thread, in any order, and must return the same pixels every
            time. It raises `DataError` for what a user must mend, such as a file that does not decode. Where `file` is
            set, it takes the data set's `Decoding`; otherwise it takes nothing.
        also: other classes that the image belongs to, in `one_vs_rest`.
        file: the image's file, in any format and depth; None for images that are rendered or in an archive.
        masks: the files of its ground-truth maps, which are united; empty where it has none.
    """

    path: str
    class_name: str
    is_test: bool
    is_anomalous: bool
    defect: str
    stamp: str
    load: Callable[..., DecodedImage]
    also: tuple[str, ...] = ()
    file: Path | None = None
    masks: tuple[Path, ...] = ()

    @property
    def is_nominal_training(self) -> bool:
        return not self.is_test and not self.is_anomalous


def one_vs_rest_record(
    path: str,
    class_name: str,
    *,
    is_test: bool,
    stamp: str,
    load: Callable[..., DecodedImage],
    also: tuple[str, ...] = (),
) -> Record:
    """Return a record of a `one_vs_rest` data set, in which no image is anomalous within its own class."""
    return Record(path, class_name, is_test, is_anomalous=False, defect="", stamp=stamp, load=load, also=also)


@dataclass(frozen=True)
class DatasetScan:
    """The result of scanning a data set: its images, or what is wrong with it.

    Attributes:
        records: all images, in a fixed order; incomplete where there are problems.
        problems: everything that is wrong; empty when the data can be read.
        notes: sentences for the report, such as the number of independent regions that the images come from.
        gaps: sentences for report and plan on what the data lacks, such as test anomalies of a class, and on files that
            are there and are not read.
        may_have_pages: files of formats that hold several pages, of which only the first is read.
        to_fetch: a sentence on what `fetch` will do about missing files; empty when nothing is missing or nothing can
            be fetched.
        layout: which of several layouts the files have, in words; empty where there is one only.
        skips_unreadable: whether images that do not decode are left out and counted, because a collection of a million
            has some; otherwise they are errors.
    """

    records: tuple[Record, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    may_have_pages: tuple[Path, ...] = ()
    to_fetch: str = ""
    layout: str = ""
    skips_unreadable: bool = False

    @cached_property
    def nominal_in_training(self) -> Counter[str]:
        """The number of nominal training images by class."""
        records = (record for record in self.records if record.is_nominal_training)
        return Counter(name for record in records for name in (record.class_name, *record.also))

    @cached_property
    def anomalous_in_training(self) -> Counter[str]:
        """The number of anomalous training images by class; none in `one_vs_rest`, see `Record`."""
        return Counter(record.class_name for record in self.records if record.is_anomalous and not record.is_test)

    @property
    def is_whole(self) -> bool:
        """Whether the records are complete: nothing is wrong and nothing is left to fetch."""
        return bool(self.records) and not self.problems and not self.to_fetch


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a data set, from the registry or, where that leaves it open, from the folders.

    Attributes:
        protocol: see `DataSetInfo`.
        classes: all classes, in order.
        maps: whether there are ground-truth maps.
        trains_with_anomalies: whether the training split holds real anomalies, which mode `other` needs.
    """

    protocol: Literal["one_vs_rest", "defects"]
    classes: tuple[str, ...]
    maps: bool
    trains_with_anomalies: bool


def wanted_classes(dataset: Dataset, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the members of `classes` that `dataset.classes` names, by name or index, in the order of `classes`.

    Names and indices that do not exist are ignored here; the plan reports them.
    """
    if dataset.classes == "all":
        return classes
    return tuple(name for i, name in enumerate(classes) if name in dataset.classes or i in dataset.classes)
