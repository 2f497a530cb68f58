"""What the module of a data set offers, so that one loader serves them all.

A module named in `data.registry` has one function, and others where the registry leaves something to them:

    scan(dataset: Dataset, images: Images) -> Scan
        Every image of the data set, in an order that is the same on every machine, with all problems that can be
        found without decoding. It is called by `--dry-run` and by every worker: it lists and looks, and imports what
        is heavy inside the function. Records of a `defects` data set are those of `wanted_classes` alone.

    discover(dataset: Dataset) -> Discovery
        Only where protocol, classes or maps are None in the registry. Raises `DataError` when there is nothing to find.

    fetch(dataset: Dataset, say: Say) -> None
        Only where `scan` may give `to_fetch`: brings those files. Never called by `--dry-run`, and by one process of a
        machine at a time. Raises `DataError` when that fails, and leaves nothing half done.

A streamed collection, which serves as outlier exposure image by image, has two others beside the first or in its place:

    expose(root: Path, target: str, images: Images, cache: Path, say: Say) -> FilePool
        Its images, without those that data set `target` calls nominal. Raises `DataError`.

    exposure_problems(root: Path, target: str | None) -> list[Problem]
        Why it would raise, as far as a quick look tells.

None of them imports torch, but for `fetch`, which may use torchvision's downloaders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.schema import Dataset

Say = Callable[[str], None]
"""Called with sentences about what takes long."""


class DecodedImage(NamedTuple):
    """A decoded or rendered image.

    Attributes:
        image: (H, W) gray or (H, W, 3) RGB uint8, in any size and either color: the loader brings it to
            `images.load_size` and `images.color`.
        mask: (H, W) bool, True where anomalous, or None where no map is known.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Record:
    """One image before it is decoded.

    Attributes:
        path: path below the root with forward slashes, or a stable label such as `digits/17`; unique.
        class_name: the class it belongs to.
        is_test: whether it is in the test split.
        is_anomalous: within its own class; always False in `one_vs_rest`.
        defect: the defect's type; empty for nominal images.
        stamp: changes when the pixels may have changed: sizes and times of files, or the version of a renderer.
        load: gives the picture. It may run in a thread, in any order, and must give the same pixels every time. It
            raises `DataError` for what a user must mend, such as a file that does not decode.
        also: other classes that the image belongs to, in `one_vs_rest`.
    """

    path: str
    class_name: str
    is_test: bool
    is_anomalous: bool
    defect: str
    stamp: str
    load: Callable[[], DecodedImage]
    also: tuple[str, ...] = ()


def one_vs_rest_record(
    path: str,
    class_name: str,
    *,
    is_test: bool,
    stamp: str,
    load: Callable[[], DecodedImage],
    also: tuple[str, ...] = (),
) -> Record:
    """A record of a `one_vs_rest` data set: no image is anomalous by itself."""
    return Record(path, class_name, is_test, is_anomalous=False, defect="", stamp=stamp, load=load, also=also)


@dataclass(frozen=True)
class DatasetScan:
    """What a look at a data set gives: images, or what is wrong with it.

    Attributes:
        records: all images, in a fixed order; incomplete where there are problems.
        problems: everything that is wrong, all at once; empty when the data can be read.
        notes: sentences for the report, such as how many independent regions stand behind the images.
        gaps: sentences for report and plan on what the data lacks, such as test anomalies of a class.
        to_fetch: what `fetch` will do about missing files, a sentence; empty when nothing is missing or nothing can be
            done about it.
        skips_unreadable: whether images that do not decode are left out and counted, as a collection of a million
            has some; otherwise they are errors.
    """

    records: tuple[Record, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    to_fetch: str = ""
    skips_unreadable: bool = False

    @cached_property
    def nominal_in_training(self) -> Counter[str]:
        """By class, how many training images are nominal for it."""
        records = (record for record in self.records if not record.is_test and not record.is_anomalous)
        return Counter(name for record in records for name in (record.class_name, *record.also))

    @cached_property
    def anomalous_in_training(self) -> Counter[str]:
        """By class, how many training images are anomalies of it; none in `one_vs_rest`, see `Record`."""
        return Counter(record.class_name for record in self.records if record.is_anomalous and not record.is_test)

    @property
    def is_whole(self) -> bool:
        """Whether its records are all that there will be."""
        return bool(self.records) and not self.problems and not self.to_fetch


@dataclass(frozen=True)
class DatasetFacts:
    """What the folders tell where the registry does not know."""

    protocol: Literal["one_vs_rest", "defects"]
    classes: tuple[str, ...]
    maps: bool
    trains_with_anomalies: bool


def wanted_classes(dataset: Dataset, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `classes` that `dataset.classes` names, by name or index, in the order of `classes`.

    Names and indices that do not exist are left to the plan, which reports them.
    """
    if dataset.classes == "all":
        return classes
    return tuple(name for i, name in enumerate(classes) if name in dataset.classes or i in dataset.classes)
