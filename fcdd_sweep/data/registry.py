"""The table of data sets, and what the module of each offers. Needs no torch and reads no image."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from fcdd_sweep.data.datasets.synsets import IMAGENET30

if TYPE_CHECKING:
    from fcdd_sweep.config.errors import Problem
    from fcdd_sweep.config.schema import Dataset, Images
    from fcdd_sweep.data.pools import FilePool
    from fcdd_sweep.data.records import DatasetFacts, DatasetScan, Say


@dataclass(frozen=True)
class Option:
    """A setting of a single data set (`dataset.options`)."""

    default: bool | int | float | str
    meaning: str
    allowed: tuple[str, ...] = ()
    """Names to choose from; empty: any value of the default's type."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class DataSetInfo:
    """Facts of a data set that are known before it is read.

    Attributes:
        name: its name in experiment files.
        title: one line for `list`.
        module: the full name of the module that reads it, a `DatasetModule`.
        protocol: `one_vs_rest`, `defects`, or None when the folders decide.
        classes: names in order, or None when the folders decide.
        maps: whether test anomalies have ground-truth maps; None when the folders decide.
        augmentation: which of the paper's augmentations fits: `small`, `texture` (MVTec-AD's), `photo`, `imagenet` (as
            `photo`, normalized by ImageNet's constants) or `watermark` (Pascal VOC's: never cropped
            or mirrored, so that a watermark stays visible).
        needs_root: whether `dataset.root` must be given.
        get: how to get the data, one or two sentences.
        options: settings of this data set alone.
        downloads: whether `dataset.download: true` fetches it.
        trains_with_anomalies: whether the training split holds real anomalies (mode `other`); None: the folders decide.
        exposure_only: whether it serves only as outlier exposure and cannot be swept.
        root_files: endings of files that `dataset.root` may name instead of a folder.
        audited: whether its images are searched for those that are in training and in the test.
        streamed: whether outlier exposure reads it image by image instead of its decoded training images.
    """

    name: str
    title: str
    module: str
    protocol: Literal["one_vs_rest", "defects"] | None
    classes: tuple[str, ...] | None
    maps: bool | None
    augmentation: Literal["small", "texture", "photo", "imagenet", "watermark"]
    needs_root: bool
    get: str
    options: dict[str, Option] = field(default_factory=dict)
    trains_with_anomalies: bool | None = None
    downloads: bool = False
    exposure_only: bool = False
    streamed: bool = False
    root_files: tuple[str, ...] = ()
    audited: bool = False


MVTEC_CLASSES = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut",
    "pill", "screw", "tile", "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip
LOCO_CLASSES = ("breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors")
_FASHION = ("t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
    """.split()
)
_PASCAL_VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def _small(name: str, title: str, module: str, classes: tuple[str, ...], place: str) -> DataSetInfo:
    """Return the entry of small images that torchvision downloads; `place` names their files below the root."""
    return DataSetInfo(
        name=name,
        title=title,
        module=f"fcdd_sweep.data.datasets.{module}",
        protocol="one_vs_rest",
        classes=classes,
        maps=False,
        augmentation="small",
        needs_root=True,
        get=f"Set dataset.root to a folder that holds {place}, or to an empty one and dataset.download to true.",
        trains_with_anomalies=True,
        downloads=True,
    )


_ALL = (
    DataSetInfo(
        name="digits",
        title="scikit-learn's handwritten digits, 1,797 gray images of 8x8 pixels, enlarged",
        module="fcdd_sweep.data.datasets.digits",
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
        module="fcdd_sweep.data.datasets.textures",
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
                "can be chosen without using the reporting region",
                allowed=("reporting", "selection"),
            )
        },
        trains_with_anomalies=False,
    ),
    DataSetInfo(
        name="solar",
        title="electroluminescence images of 2,624 solar cells (ELPV), graded by experts",
        module="fcdd_sweep.data.datasets.solar",
        protocol="defects",
        classes=("mono", "poly"),
        maps=False,
        augmentation="texture",
        needs_root=False,
        get="Install its package: pip install elpv-dataset (91 MB).",
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
        title="your own images: CLASS/{train,test}/{normal,anomalous}, or one folder per class",
        module="fcdd_sweep.data.datasets.folder",
        protocol=None,
        classes=None,
        maps=None,
        augmentation="photo",
        needs_root=True,
        root_files=(".csv", ".parquet"),
        audited=True,
        get="Set dataset.root to a folder with CLASS/{train,test}/{normal,anomalous}/IMAGES, with "
        "{train,test}/CLASS/{normal,anomalous}/IMAGES, with normal and anomalous images in folders such as good and "
        "bad, or with one folder of images per class, or to a CSV or Parquet file with columns path and label.",
        options={
            "layout": Option(
                default="auto",
                meaning="how the folders are read: `labels`, normal and anomalous in train and test; `mvtec`, "
                "train/good and test/{good,DEFECT}; `good_bad`, with or without train and test; `classes`, one folder "
                "per class; `flat`, nominal images in one folder; auto finds it",
                allowed=("auto", "labels", "mvtec", "good_bad", "classes", "flat"),
            ),
            "group": Option(
                default="",
                meaning="for data without train and test: a regular expression on the file name whose first group "
                "names images that stay together, in training or test",
            ),
            "split_seed": Option(
                default=0, meaning="for data without train and test: a number that draws another split", low=0
            ),
        },
    ),
    DataSetInfo(
        name="mvtec",
        title="MVTec-AD, 15 classes of industrial products and textures with ground-truth maps",
        module="fcdd_sweep.data.datasets.mvtec",
        protocol="defects",
        classes=MVTEC_CLASSES,
        maps=True,
        augmentation="texture",
        needs_root=True,
        get="Download MVTec-AD from https://www.mvtec.com/company/research/datasets/mvtec-ad, and set dataset.root to "
        "the folder that holds its archive or CLASS/{train,test,ground_truth}, or set dataset.download: true.",
        trains_with_anomalies=False,
        downloads=True,
    ),
    DataSetInfo(
        name="mvtec_loco",
        title="MVTec LOCO AD, 5 classes with logical and structural anomalies, ground-truth maps and saturation areas",
        module="fcdd_sweep.data.datasets.mvtec_loco",
        protocol="defects",
        classes=LOCO_CLASSES,
        maps=True,
        augmentation="texture",
        needs_root=True,
        get="Download MVTec LOCO AD from https://www.mvtec.com/company/research/datasets/mvtec-loco, unpack it, and "
        "set dataset.root to the folder that holds CLASS/{train,test,ground_truth}.",
        trains_with_anomalies=False,
    ),
    _small(
        "mnist",
        "MNIST, 70,000 handwritten digits, gray, 28x28",
        "idx",
        tuple("0123456789"),
        "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte",
    ),
    _small(
        "fmnist",
        "Fashion-MNIST, 70,000 pieces of clothing, gray, 28x28",
        "idx",
        _FASHION,
        "FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte",
    ),
    _small(
        "emnist",
        "EMNIST letters, 145,600 handwritten letters, gray, 28x28",
        "idx",
        tuple("abcdefghijklmnopqrstuvwxyz"),
        "EMNIST/raw/emnist-letters-{train,test}-{images-idx3,labels-idx1}-ubyte",
    ),
    _small(
        "cifar10",
        "CIFAR-10, 60,000 photographs, 32x32",
        "cifar",
        _CIFAR10,
        "cifar-10-batches-py/{data_batch_1..5,test_batch}",
    ),
    _small(
        "cifar100",
        "CIFAR-100, 60,000 photographs, 32x32",
        "cifar",
        _CIFAR100,
        "cifar-100-python/{train,test}",
    ),
    DataSetInfo(
        name="pascalvoc",
        title="Pascal VOC 2007, 5,011 photographs; an image belongs to the class of every object in it",
        module="fcdd_sweep.data.datasets.pascalvoc",
        protocol="one_vs_rest",
        classes=_PASCAL_VOC,
        maps=False,
        augmentation="watermark",
        needs_root=True,
        get="Set dataset.root to a folder that holds VOCdevkit/VOC2007/{Annotations,ImageSets,JPEGImages}, or to an "
        "empty one and dataset.download to true.",
        trains_with_anomalies=True,
        downloads=True,
    ),
    DataSetInfo(
        name="imagenet",
        title="ImageNet-30: 30 classes of ILSVRC2012; as outlier exposure the validation images of all 1,000",
        module="fcdd_sweep.data.datasets.imagenet",
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
        module="fcdd_sweep.data.datasets.imagenet22k",
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


def swept() -> list[str]:
    """Return the names that `dataset.name` can have."""
    return [name for name, entry in DATA_SETS.items() if not entry.exposure_only]


def info(name: str) -> DataSetInfo:
    """Return the entry of data set `name`.

    Raises:
        KeyError: `DATA_SETS` has no such name.
    """
    return DATA_SETS[name]


@runtime_checkable
class DatasetModule(Protocol):
    """The module of a data set. None of its functions imports torch, except that `fetch` may use torchvision."""

    def scan(self, dataset: Dataset, images: Images) -> DatasetScan:
        """Return every image, in an order that is the same on every machine, with all problems.

        Nothing is decoded. `--dry-run` and every worker call it: what is slow to import is imported inside the
        function. Records of a `defects` data set are restricted to `wanted_classes`.
        """
        ...


@runtime_checkable
class DiscoveringModule(DatasetModule, Protocol):
    """A module whose folders decide what the registry leaves None: protocol, classes, maps or training anomalies."""

    def discover(self, dataset: Dataset) -> DatasetFacts:
        """Return the facts; raise `DataError` when the folders show none."""
        ...


@runtime_checkable
class FetchingModule(DatasetModule, Protocol):
    """A module that can bring missing files: its `scan` may set `to_fetch`."""

    def fetch(self, dataset: Dataset, say: Say) -> None:
        """Bring the missing files; raise `DataError` on failure and leave nothing half done.

        `--dry-run` never calls it, and one process per machine calls it at a time.
        """
        ...


@runtime_checkable
class StreamedModule(DatasetModule, Protocol):
    """A module of a collection that outlier exposure reads image by image."""

    def expose(self, root: Path, target: str, images: Images, cache: Path, say: Say | None = None) -> FilePool:
        """Return the images without the classes that data set `target` calls nominal; raise `DataError`."""
        ...

    def exposure_problems(self, root: Path, target: str | None) -> list[Problem]:
        """Return why `expose` would raise, without listing millions of files."""
        ...


def module_of(name: str) -> DatasetModule:
    """Import and return the module of data set `name`.

    A caller that needs more than `scan` narrows the result by `isinstance` to one of the protocols above.

    Raises:
        TypeError: the module has no function `scan`.
    """
    module = importlib.import_module(info(name).module)
    if not isinstance(module, DatasetModule):
        raise TypeError(f"{module.__name__} must have a function scan(dataset, images)")
    return module
