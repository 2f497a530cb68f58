"""Writers of ImageNet as its users have it: tars of tars, the development kit, folders and tars by WordNet id.

All images of a class have one gray level, `level(wnid)`, so that pixels tell what they are.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from fcdd_sweep.data.datasets.synsets import IMAGENET30

OTHERS = {
    "n02389026": "sorrel",
    "n04273569": "speedboat",
    "n07753592": "banana",
    "n03814906": "necklace",
}
"""Classes beside ImageNet-30; Pascal VOC has the first two."""
WORDS = {
    **{wnid: name for name, wnid in IMAGENET30.items()},
    "n04389033": "tank, army tank, armored combat vehicle, armoured combat vehicle",
    "n07697537": "hotdog, hot dog, red hot",
    **OTHERS,
}
"""Names by WordNet id, as the development kit has them."""
VAL_TAR, TRAIN_TAR = "ILSVRC2012_img_val.tar", "ILSVRC2012_img_train.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
BROKEN = b"\xff\xd8\xff\xe0 cut off"


def level(wnid: str) -> int:
    return 40 + 5 * sorted(WORDS).index(wnid)


def jpeg(wnid: str, size: tuple[int, int] = (24, 20)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, (level(wnid),) * 3).save(content, "JPEG", quality=95)
    return content.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return content.getvalue()


def training_images(n: int = 2, wnids: Iterable[str] = WORDS) -> dict[str, dict[str, bytes]]:
    return {wnid: {f"{wnid}_{i}.JPEG": jpeg(wnid) for i in range(n)} for wnid in wnids}


def validation_images() -> tuple[dict[str, bytes], list[str]]:
    """Two images a class, the classes in turns, and what each shows."""
    labels = sorted(WORDS) * 2
    return {f"ILSVRC2012_val_{i:08}.JPEG": jpeg(wnid) for i, wnid in enumerate(labels, 1)}, labels


def meta_mat(words: Mapping[str, str], counts: Mapping[str, int]) -> bytes:
    """`meta.mat` in its true structure: numbered leaves, and inner synsets behind them."""
    kinds = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height")
    synsets = np.zeros((len(words) + 1, 1), [(name, object) for name in (*kinds, "num_train_images")])
    for i, wnid in enumerate(sorted(words)):
        synsets[i, 0] = (float(i + 1), wnid, words[wnid], "a thing", 0.0, [], 0.0, float(counts[wnid]))
    numbers = np.arange(1.0, len(words) + 1)
    synsets[-1, 0] = (float(len(words) + 1), "n00001740", "entity", "all", float(len(words)), numbers, 1.0, 0.0)
    content = io.BytesIO()
    savemat(content, {"synsets": synsets})
    return content.getvalue()


def write_devkit(
    root: Path,
    labels: Sequence[str],
    words: Mapping[str, str] = WORDS,
    counts: Mapping[str, int] | None = None,
) -> Path:
    numbers = {wnid: i for i, wnid in enumerate(sorted(words), 1)}
    folder = "ILSVRC2012_devkit_t12/data"
    files = {
        "ILSVRC2012_devkit_t12/readme.txt": b"about these images",
        f"{folder}/meta.mat": meta_mat(words, counts or dict.fromkeys(words, 2)),
        f"{folder}/ILSVRC2012_validation_ground_truth.txt": "".join(f"{numbers[w]}\n" for w in labels).encode(),
    }
    with tarfile.open(root / DEVKIT, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return root / DEVKIT


def write_ilsvrc(root: Path, training: Mapping[str, Mapping[str, bytes]] | None = None) -> Path:
    """The two tars and the development kit."""
    root.mkdir(parents=True)
    found = training_images() if training is None else training
    (root / TRAIN_TAR).write_bytes(tarred({f"{wnid}.tar": tarred(files) for wnid, files in found.items()}))
    images, labels = validation_images()
    (root / VAL_TAR).write_bytes(tarred(images))
    write_devkit(root, labels)
    return root


def write_extracted(root: Path) -> Path:
    """The layout that torchvision extracts."""
    images, labels = validation_images()
    halves = {
        "train": training_images(),
        "val": {w: {n: c for (n, c), at in zip(images.items(), labels, strict=True) if at == w} for w in WORDS},
    }
    for half, groups in halves.items():
        write_folders(root / half, groups)
    return root


def write_folders(root: Path, groups: Mapping[str, Mapping[str, bytes]]) -> Path:
    for wnid, files in groups.items():
        (root / wnid).mkdir(parents=True)
        for name, content in files.items():
            (root / wnid / name).write_bytes(content)
    return root


def write_tars(root: Path, groups: Mapping[str, Mapping[str, bytes]]) -> Path:
    root.mkdir(parents=True)
    for wnid, files in groups.items():
        (root / f"{wnid}.tar").write_bytes(tarred(files))
    return root


def write_words(root: Path) -> Path:
    (root / "words.txt").write_text("".join(f"{wnid}\t{words}\n" for wnid, words in WORDS.items()))
    return root
