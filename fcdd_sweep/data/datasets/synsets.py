"""ImageNet's classes: WordNet ids and names, ImageNet-30, and the classes that a data set must not see as anomalies."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fcdd_sweep.config.errors import DataError, Problem

IMAGENET30 = {
    "acorn": "n12267677",
    "airliner": "n02690373",
    "ambulance": "n02701002",
    "American alligator": "n01698640",
    "banjo": "n02787622",
    "barn": "n02793495",
    "bikini": "n02837789",
    "digital clock": "n03196217",
    "dragonfly": "n02268443",
    "dumbbell": "n03255030",
    "forklift": "n03384352",
    "goblet": "n03443371",
    "grand piano": "n03452741",
    "hotdog": "n07697537",
    "hourglass": "n03544143",
    "manhole cover": "n03717622",
    "mosque": "n03788195",
    "nail": "n03804744",
    "parking meter": "n03891332",
    "pillow": "n03938244",
    "revolver": "n04086273",
    "dial telephone": "n03187595",
    "schooner": "n04147183",
    "snowmobile": "n04252077",
    "soccer ball": "n04254680",
    "stingray": "n01498041",
    "strawberry": "n07745940",
    "tank": "n04389033",
    "toaster": "n04442312",
    "volcano": "n09472597",
}
"""The classes of ImageNet-30 in the paper's order, and their WordNet ids.

Source: Hendrycks et al., NeurIPS 2019 (arXiv:1906.12340).
"""
VOC_TERMS = {
    "aeroplane": ("aeroplane", "airplane", "airliner", "warplane"),
    "bicycle": ("bicycle", "bike"),
    "bird": ("bird",),
    "boat": ("boat",),
    "bottle": ("bottle",),
    "bus": ("bus", "minibus", "omnibus", "trolleybus"),
    "car": ("car", "automobile", "motorcar"),
    "cat": ("cat",),
    "chair": ("chair",),
    "cow": ("cow", "cattle", "ox"),
    "diningtable": ("diningtable", "dining table", "dining-room table"),
    "dog": ("dog", "sheepdog", "bulldog"),
    "horse": ("horse", "pony", "mare", "stallion", "sorrel"),
    "motorbike": ("motorbike", "motorcycle", "moped", "motor scooter"),
    "person": ("person", "people", "human"),
    "pottedplant": ("pottedplant", "potted plant", "flowerpot"),
    "sheep": ("sheep", "ram", "ewe", "lamb"),
    "sofa": ("sofa", "couch"),
    "train": ("train", "locomotive"),
    "tvmonitor": ("tvmonitor", "tv", "television", "monitor"),
}
"""Pascal VOC's classes and their words in WordNet; sorrel is the one horse among ImageNet's 1,000 classes."""
SYNSET = re.compile(r"n\d{8}")
WORDS = "words.txt"
_META, _TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
_COMPOUND = 4
"""A term of at least this many letters also matches the end of a longer word: speedboat, hummingbird."""
_SHOWN = 100


class Devkit(NamedTuple):
    """The content of ILSVRC2012's development kit.

    Attributes:
        words: for each WordNet id its names, with commas between them.
        training_images: for each WordNet id the number of training images.
        truth: the WordNet id of each validation image, in the order of the images' names.
    """

    words: dict[str, str]
    training_images: dict[str, int]
    truth: tuple[str, ...]


def read_devkit(path: Path) -> Devkit:
    """Read the development kit `ILSVRC2012_devkit_t12.tar.gz`.

    Raises:
        DataError: the file cannot be read, or is not this kit.
    """
    try:
        with tarfile.open(path, "r:gz") as kit:
            meta, truth = (_content(kit, ending) for ending in (_META, _TRUTH))
        numbers, names, words, counts = _synsets(meta)
        wnid = dict(zip(numbers, names, strict=True))
        labels = tuple(wnid[int(line)] for line in truth.split())
    except OSError as error:
        raise DataError(Problem(str(path), f"cannot be read ({error.strerror or error})")) from error
    except Exception as error:  # tarfile and scipy raise many types; in each case the file is not the kit
        what = f"is damaged, or not the development kit of ILSVRC2012 ({type(error).__name__}: {error})"
        raise DataError(Problem(str(path), what, next_step="Copy it there again")) from error
    return Devkit(dict(zip(names, words, strict=True)), dict(zip(names, counts, strict=True)), labels)


def read_words(path: Path) -> dict[str, str]:
    """Read names by WordNet id from a text file with one id and its names per line, such as `words.txt`."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.split(maxsplit=1) for line in lines)
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2 and SYNSET.fullmatch(pair[0])}


def misnamed(groups: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return a sentence for each class of ImageNet-30 whose WordNet id has other names."""
    found = dict(zip(groups, words, strict=True))
    known = ((name, wnid, found.get(wnid, "")) for name, wnid in IMAGENET30.items())
    return [
        f"{wnid} is '{text}', not '{name}'" for name, wnid, text in known if text and name.lower() not in _names(text)
    ]


def voc_class(words: str) -> str | None:
    """Return the class of Pascal VOC that a synset's names match, or None.

    A name matches a class when it contains one of `VOC_TERMS` as whole words in singular or plural, in any case
    ("horse cart"; "racing car"), or when one of its words ends in a term of four letters or more ("speedboat"). Only
    names count, as in the paper: a robin is a bird, but its names do not contain the word. The rule prefers to match
    too many classes over too few ("hot dog" matches).
    """
    for name in _names(words):
        spaced = f" {' '.join(re.findall(r'[a-z]+', name))} "
        for known, terms in VOC_TERMS.items():
            if any(_contains(" ".join(re.findall(r"[a-z]+", term)), spaced) for term in terms):
                return known
    return None


def excluded(target: str, groups: Sequence[str], words: Sequence[str]) -> dict[int, str]:
    """Return the groups that must not be anomalies of data set `target`, each with its name; see `voc_class`.

    Args:
        target: the data set that is trained on: `imagenet` and `pascalvoc` share classes with ImageNet.
        groups: WordNet ids.
        words: their names; only `pascalvoc` needs them.
    """
    if target == "imagenet":
        own = {wnid: name for name, wnid in IMAGENET30.items()}
        return {i: f"{wnid} {own[wnid]}" for i, wnid in enumerate(groups) if wnid in own}
    if target == "pascalvoc":
        matches = ((i, voc_class(names)) for i, names in enumerate(words))
        return {i: f"{groups[i]} {_names(words[i])[0]} ({known})" for i, known in matches if known}
    return {}


def exclusion_note(source: str, target: str, left_out: Sequence[str]) -> str:
    """Return a sentence for the report about classes that are left out."""
    more = f", and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
    names = ", ".join(left_out[:_SHOWN])
    return f"{len(left_out)} classes of '{source}' match classes of '{target}' and are left out: {names}{more}."


def _names(words: str) -> list[str]:
    return [name.strip().lower() for name in words.split(",")]


def _contains(term: str, spaced: str) -> bool:
    if f" {term} " in spaced or f" {term}s " in spaced:
        return True
    return len(term) >= _COMPOUND and (f"{term} " in spaced or f"{term}s " in spaced)


def _content(kit: tarfile.TarFile, ending: str) -> bytes:
    for member in kit:
        if member.isfile() and member.name.endswith(ending):
            file = kit.extractfile(member)
            assert file is not None  # a regular file
            return file.read()
    raise KeyError(f"it holds no {ending}")


def _synsets(meta: bytes) -> tuple[list[int], list[str], list[str], list[int]]:
    """Return number, WordNet id, names and number of training images of every synset in `meta.mat`."""
    import numpy as np
    from scipy.io import loadmat  # slow to import, and needed only when an index is made

    table = np.atleast_1d(loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"])
    numbers, counts = ([int(n) for n in table[column]] for column in ("ILSVRC2012_ID", "num_train_images"))
    names, words = ([str(text) for text in table[column]] for column in ("WNID", "words"))
    return numbers, names, words, counts
