"""All of ImageNet, 21,841 WordNet ids with 14 million images, as outlier exposure; read image by image, in place.

ROOT/n########/*.JPEG       a folder per WordNet id
ROOT/n########.tar          or a tar; if both exist, the folder is used
ROOT/words.txt              names; only Pascal VOC, whose classes are matched by name, needs them
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.datasets.imagenet import IMAGES_PER_CLASS, exposed, unnamed_problem, words_in, words_stamp
from fcdd_sweep.data.datasets.synsets import SYNSET
from fcdd_sweep.data.decoding.files import file_stamp
from fcdd_sweep.data.image_index import GroupFiles, ImageIndex, ImagesToIndex, folder_members, members, open_index
from fcdd_sweep.data.pools import FilePool
from fcdd_sweep.data.records import DatasetScan, Say
from fcdd_sweep.data.registry import swept

_TAR = ".tar"


def scan(dataset: Dataset, images: Images) -> DatasetScan:
    """Return the problem that the collection serves as outlier exposure alone."""
    what = f"'{dataset.name}' serves as outlier exposure alone: it has no classes to train on"
    return DatasetScan(problems=(Problem("dataset.name", what, ", ".join(swept())),))


def expose(root: Path, target: str, images: Images, cache: Path, say: Say | None = None) -> FilePool:
    """Return the images of all WordNet ids except matches of classes of data set `target`.

    Raises:
        DataError: there are no images, a tar is damaged, or names are needed and missing.
    """
    return exposed(_index(root, cache, say), "imagenet22k", target, images)


def exposure_problems(root: Path, target: str | None) -> list[Problem]:
    """Return what is missing, without listing 14 million files."""
    try:
        groups, words = list(_holders(root)), words_in(root)
    except DataError as error:
        return list(error.problems)
    return unnamed_problem(root, target, groups, [words.get(group, "") for group in groups])


def _index(root: Path, cache: Path, say: Say | None) -> ImageIndex:
    holders = _holders(root)
    stamps = [
        [group, file_stamp(path) if path.suffix == _TAR else path.stat().st_mtime_ns] for group, path in holders.items()
    ]

    def listings() -> Iterator[GroupFiles]:
        words = words_in(root)
        for group, path in holders.items():
            found = members(path) if path.suffix == _TAR else folder_members(path)
            yield GroupFiles(group, path.name, found, words.get(group, ""))

    count = len(holders) * IMAGES_PER_CLASS
    return open_index(root, cache, ImagesToIndex("imagenet22k", [stamps, words_stamp(root)], count, listings), say)


def _holders(root: Path) -> dict[str, Path]:
    """Return the folder or tar of each WordNet id, in order.

    Raises:
        DataError: there are none.
    """
    found = {path.name.removesuffix(_TAR): path for path in root.iterdir() if path.suffix == _TAR and path.is_file()}
    found |= {path.name: path for path in root.iterdir() if path.is_dir()}
    holders = {group: found[group] for group in sorted(found) if SYNSET.fullmatch(group)}
    if not holders:
        what = "holds neither folders n######## nor tars n########.tar"
        raise DataError(Problem(str(root), what, next_step="Place the images of ImageNet there, by WordNet id"))
    return holders
