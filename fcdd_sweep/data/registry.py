"""Which data sets there are and what each can do. Needs no torch and reads no image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fcdd_sweep.data.synsets import IMAGENET30


@dataclass(frozen=True)
class Option:
    """A setting that belongs to one data set alone (`dataset.options`)."""

    default: bool | int | float | str
    meaning: str
    allowed: tuple[str, ...] = ()
    """Names to choose from; empty: any value of the default's type."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class DataSetInfo:
    """What is known of a data set before it is read.

    Attributes:
        name: its name in experiment files.
        title: one line for `list`.
        module: the module that reads it; see `data.loading`.
        protocol: `one_vs_rest`, `defects`, or None when the folders tell.
        classes: names in order, or None when the folders tell.
        maps: whether test anomalies have ground-truth maps; None when the folders tell.
        augmentation: which of the paper's augmentations fits: `small`, `texture` (MVTec-AD's), `photo` or `imagenet`.
        needs_root: whether `dataset.root` must be given.
        get: how to get the data, one or two sentences.
        options: settings of this data set alone.
        trains_with_anomalies: whether the training split holds real anomalies (mode `other`); None: folders tell.
        exposure_only: whether it serves as outlier exposure alone, and cannot be swept.
        streamed: whether outlier exposure reads it image by image instead of its decoded training images.
    """

    name: str
    title: str
    module: str
    protocol: Literal["one_vs_rest", "defects"] | None
    classes: tuple[str, ...] | None
    maps: bool | None
    augmentation: Literal["small", "texture", "photo", "imagenet"]
    needs_root: bool
    get: str
    options: dict[str, Option] = field(default_factory=dict)
    trains_with_anomalies: bool | None = None
    exposure_only: bool = False
    streamed: bool = False


MVTEC_CLASSES = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut",
    "pill", "screw", "tile", "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip

_ALL = (
    DataSetInfo(
        name="digits",
        title="scikit-learn's handwritten digits, 1,797 grey images of 8x8 pixels, enlarged",
        module="fcdd_sweep.data.digits",
        protocol="one_vs_rest",
        classes=tuple("0123456789"),
        maps=False,
        augmentation="small",
        needs_root=False,
        get="Comes with scikit-learn.",
        trains_with_anomalies=True,
    ),
    DataSetInfo(
        name="textures",
        title="texture photographs of scikit-image with rendered defects and exact maps",
        module="fcdd_sweep.data.textures",
        protocol="defects",
        classes=("brick", "grass", "gravel"),
        maps=True,
        augmentation="texture",
        needs_root=False,
        get="Comes with scikit-image.",
        options={
            "regions": Option(
                default="reporting",
                meaning="where test images are cut: `selection` takes a part of the training region, so that settings "
                "can be chosen without a look at the reporting region",
                allowed=("reporting", "selection"),
            )
        },
        trains_with_anomalies=False,
    ),
    DataSetInfo(
        name="solar",
        title="electroluminescence images of 2,624 solar cells (ELPV), graded by experts",
        module="fcdd_sweep.data.solar",
        protocol="defects",
        classes=("mono", "poly"),
        maps=False,
        augmentation="texture",
        needs_root=False,
        get="Install the extra: pip install 'fcdd_sweep[solar]' (package elpv-dataset, 91 MB).",
        options={
            "threshold": Option(
                default=0.5,
                meaning="a cell is anomalous when its defect probability (0, 1/3, 2/3 or 1) is above this; nominal "
                "cells have probability 0, those in between are left out",
                low=0.0,
                high=0.99,
            )
        },
        trains_with_anomalies=True,
    ),
    DataSetInfo(
        name="folder",
        title="your own images: CLASS/{train,test}/{normal,anomalous}, or one folder a class",
        module="fcdd_sweep.data.folder",
        protocol=None,
        classes=None,
        maps=None,
        augmentation="photo",
        needs_root=True,
        get="Set dataset.root to a folder with CLASS/{train,test}/{normal,anomalous}/IMAGES, with "
        "{train,test}/CLASS/{normal,anomalous}/IMAGES, or with one folder of images a class.",
    ),
    DataSetInfo(
        name="mvtec",
        title="MVTec-AD, 15 classes of industrial products and textures with ground-truth maps",
        module="fcdd_sweep.data.mvtec",
        protocol="defects",
        classes=MVTEC_CLASSES,
        maps=True,
        augmentation="texture",
        needs_root=True,
        get="Download MVTec-AD from https://www.mvtec.com/company/research/datasets/mvtec-ad, unpack it, and set "
        "dataset.root to the folder that holds CLASS/{train,test,ground_truth}.",
        trains_with_anomalies=False,
    ),
    DataSetInfo(
        name="imagenet",
        title="ImageNet-30: 30 classes of ILSVRC2012; as outlier exposure the validation images of all 1,000",
        module="fcdd_sweep.data.imagenet",
        protocol="one_vs_rest",
        classes=tuple(IMAGENET30),
        maps=False,
        augmentation="imagenet",
        needs_root=True,
        get="Register at https://image-net.org and download ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and "
        "ILSVRC2012_devkit_t12.tar.gz into one folder; nothing needs to be extracted.",
        trains_with_anomalies=False,
        streamed=True,
    ),
    DataSetInfo(
        name="imagenet22k",
        title="all of ImageNet, 21,841 classes with 14 million images",
        module="fcdd_sweep.data.imagenet22k",
        protocol="one_vs_rest",
        classes=(),
        maps=False,
        augmentation="imagenet",
        needs_root=True,
        get="Register at https://image-net.org, download the tars by WordNet id, and place them in one folder, as "
        "n########.tar or extracted to n########/*.JPEG.",
        trains_with_anomalies=False,
        exposure_only=True,
        streamed=True,
    ),
)

DATA_SETS: dict[str, DataSetInfo] = {entry.name: entry for entry in _ALL}

SWEPT: dict[str, DataSetInfo] = {name: entry for name, entry in DATA_SETS.items() if not entry.exposure_only}
"""Those that `dataset.name` can be."""


def info(name: str) -> DataSetInfo:
    """What is known of data set `name`; KeyError for a name that `DATA_SETS` lacks."""
    return DATA_SETS[name]
