"""The schema of an experiment file. Names of data sets, networks and sources are in the registries of their rooms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    InstanceOf,
    PlainSerializer,
    PrivateAttr,
    field_validator,
    model_validator,
)

from fcdd_sweep.config.errors import Origin
from fcdd_sweep.config.fields import AbsolutePath, AnomalySource, Duration, EveryText, ImageScore, Section, Validation
from fcdd_sweep.config.locations import RemotePath, parse_location
from fcdd_sweep.config.search_schema import SearchSettings, Seeds
from fcdd_sweep.config.training_schema import Training

SCHEMA_VERSION = 2
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$"
"""A name is that of a folder, for which file systems allow 255 bytes."""
VARIANT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
"""A variant's name begins the name of a folder beside the run's files, so it has no suffix."""
MODES_WITHOUT_SOURCE = ("unsupervised", "other")


def _parsed_location(value: Any) -> Any:
    return parse_location(value) if isinstance(value, str | Path) else value


Output = Annotated[
    Annotated[Path, Field(strict=False)] | InstanceOf[RemotePath],
    BeforeValidator(_parsed_location),
    PlainSerializer(lambda place: str(place), when_used="json"),  # older pydantic wants a signature, `str` has none
]
"""A path like `AbsolutePath`, or the address of an object store."""


class Dataset(Section):
    name: str
    """Which data set; `python -m fcdd_sweep list` shows them."""
    root: AbsolutePath | None = None
    """Folder of the data; `~` is the home folder. Data sets that ship with a library need none."""
    classes: Literal["all"] | list[str | int] = "all"
    """Normal classes to train on, by name or index."""
    protocol: Literal["defects", "one_vs_rest"] | None = None
    """`folder` only: its layout; found from the folders when left out."""
    options: dict[str, bool | int | float | str] = {}
    """Settings of one data set only; `list` shows them."""
    download: bool = False
    """Whether missing files below `root` may be downloaded from where the authors publish them."""


class Images(Section):
    load_size: int = Field(ge=4, le=16_384)
    """Side in pixels to which every image is resized when it is decoded; crops are taken from this size."""
    size: int = Field(ge=4, le=16_384)
    """Side in pixels of the network's input; at most `load_size`."""
    resize: Literal["nearest", "bilinear", "area"] = "bilinear"
    """How images are resized to `load_size`; `area` averages when it shrinks (no aliasing)."""
    aspect: Literal["stretch", "crop"] = "stretch"
    """For images that are not square: `stretch` keeps the whole image, `crop` keeps proportions and the middle."""
    color: Literal["gray", "rgb"] = "rgb"
    """Channels of the network's input."""
    nominal_label: Literal[0, 1] = 0
    """1 swaps the roles: the normal class is pushed away and the anomalies are pulled in."""
    bit_depth: Annotated[int, Field(ge=8, le=32)] | None = None
    """Bits that images of more than 8 bits use: 0 to 2^N - 1 become 0 to 255; null: see `range`."""
    range: list[float] | None = None
    """`[LOW, HIGH]`, the values of images of more than 8 bits that become 0 and 255; null: as `bit_depth` or the files
    say, else measured on the nominal training images."""
    max_megapixels: float = Field(1000.0, gt=0.0)
    """Images of more megapixels are refused before they are decoded."""
    map_rule: Literal["auto", "values", "half"] = "auto"
    """What ground-truth maps mark as anomalous: `values`, all but `map_background`; `half`, what is beyond half of the
    format's range; auto: `values` where all maps are lossless and have at most 32 values each, else `half`."""
    map_background: int = Field(0, ge=0)
    """Value, or number in the palette, of ground-truth maps where nothing is anomalous."""

    @model_validator(mode="after")
    def size_fits(self) -> Images:
        if self.size > self.load_size:
            raise ValueError(f"images.size {self.size} must not be larger than images.load_size {self.load_size}")
        return self

    @model_validator(mode="after")
    def one_range(self) -> Images:
        if self.range is not None and self.bit_depth is not None:
            raise ValueError("images.bit_depth and images.range both say which values the images have: keep one")
        if self.range is not None and (len(self.range) != 2 or self.range[0] >= self.range[1]):
            raise ValueError(f"images.range must be [LOW, HIGH] with LOW below HIGH, found {self.range}")
        return self

    @property
    def channels(self) -> int:
        return 3 if self.color == "rgb" else 1


class Anomalies(Section):
    mode: Literal["unsupervised", "noise", "malformed_normal", "malformed_normal_gt", "other"] = "unsupervised"
    """Where training anomalies come from: none; an image replaced by noise or by outlier exposure; noise added to
    the nominal image, without or with the map of changed pixels; real anomalies of the training split."""
    source: AnomalySource | None = None
    """A synthetic source by name, `{dataset: NAME}`, `{folder: PATH}`, or real test anomalies: `mvtec`, `mvtec_gt`."""
    limit: Literal["all"] | Annotated[int, Field(ge=1)] = "all"
    """How many distinct outlier-exposure or real anomalies are used, drawn once per seed; from `mvtec` and `mvtec_gt`,
    how many of each defect type."""
    probability: float = Field(0.5, ge=0.0, le=1.0)
    """Chance that a nominal training sample is replaced, drawn anew each time (`online` only)."""
    online: bool = True
    """False: one anomaly for each nominal training sample is made once, before training, and appended."""


class Network(Section):
    name: str | None = None
    """Which network; `python -m fcdd_sweep list` shows them."""
    backbone: str | None = None
    """Instead of `name`: a classification network of torchvision by its function's name, such as `resnet18`."""
    node: str | None = None
    """Where the backbone is cut: the feature node whose output is used, such as `layer2`."""
    weights: Literal["auto", "imagenet", "none"] | AbsolutePath = "auto"
    """Initial weights: ImageNet's from torchvision, none, or a file; auto: as the network's name says, and ImageNet's
    for a backbone."""
    bias: bool = True
    """Biases in convolutions and affine batch norms."""

    @model_validator(mode="after")
    def one_network(self) -> Network:
        if (self.name is None) == (self.backbone is None):
            raise ValueError("network needs either a name, or a backbone and a node")
        if (self.backbone is None) != (self.node is None):
            raise ValueError("network.backbone and network.node go together")
        return self

    @property
    def title(self) -> str:
        """The network's name in messages."""
        return self.name or f"{self.backbone} up to {self.node}"


class Heatmaps(Section):
    kernel_std_px: float | None = Field(None, gt=0.0)
    """Standard deviation in pixels of the upsampling Gaussian; null: derived from the receptive field's size."""
    color_quantile: float = Field(0.99, gt=0.0, le=1.0)
    """Share of the reference values that the colors span; drawing only."""
    color_map: Literal["inferno", "magma", "viridis", "cividis", "jet"] = "inferno"
    """Colors of heatmaps: brighter is more anomalous, also in gray; `jet` is the paper's; drawing only."""
    blur: bool = False
    """Whether pictures show heatmaps blurred by a Gaussian of the receptive field's size; drawing only."""


class Evaluation(Section):
    validation: Validation = Validation()
    test: bool = True
    """False: the test set is counted but not scored; trials of a search use it."""
    image_score: ImageScore = "mean"
    """Score of an image: `mean` of its anomaly map, as in the paper; `max`, the largest value of its heatmap; or
    `{top: SHARE}`, the mean over that share of its pixels, those with the largest values: 0.001, 0.01, 0.03 or 0.1;
    `auto` chooses one of these for each class, on a part of the held-out nominal images and on anomalies that are not
    in the test set. A change needs no training, unless `calibration` is auto."""
    false_alarm_rate: float = Field(0.05, gt=0.0, lt=1.0)
    """Greatest share of new nominal images that is called anomalous, on average over draws of the images that
    decisions are calibrated on; a change needs no training, unless `calibration` is auto or its `folds` are."""
    calibration: Literal["split", "cross", "none", "auto"] = "split"
    """What decisions are calibrated on: `split`, held-out nominal images (`validation.nominal_fraction`); `cross`, the
    nominal training images, each scored by the one of `folds` models that is trained without it, which decide together;
    `none`, no decisions; auto: by class `split` where enough are held out, else `cross` where there are enough images,
    else `none`. Only `cross` changes training."""
    folds: Literal["auto"] | Annotated[int, Field(ge=2, le=1000)] = "auto"
    """Models that calibration `cross` trains one after another; auto: 5, or as many more as decisions at the
    false-alarm rate need."""
    reserved_anomalies: int = Field(0, ge=0)
    """How many test anomalies of each defect type leave the test set of every config, to train on them (sources `mvtec`
    and `mvtec_gt`); raised to the experiment's largest limit of such a source. One of each type stays."""


class Resources(Section):
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of trials; auto: a GPU if there is one, else the CPU."""
    cpus: Literal["auto"] | Annotated[float, Field(gt=0.0, le=4096.0)] = "auto"
    """CPU cores that a trial reserves; auto: `training.threads`."""
    trials_per_gpu: Literal["auto"] | Annotated[int, Field(ge=1, le=1000)] = "auto"
    """Number of trials that share a GPU; auto: as many as fit by the memory that was measured for the network, at most
    4. The plan states the need and the number."""
    pack: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    """Number of trials of a class that one program trains: they differ in seed, learning rate, weight decay, schedule
    or limit alone. They hold the resources of one trial, and numbers are those of trials alone. auto: 1."""

    @property
    def trials_on_gpu(self) -> int:
        """How many trials share the GPU of this one; 1 where no runner has divided it."""
        return 1 if self.trials_per_gpu == "auto" else self.trials_per_gpu


class Faults(Section):
    retries: int = Field(3, ge=0)
    """Retries of a trial per start when its worker or machine was lost, its GPU failed, it hung, ran out of memory, or
    could not write its files."""
    max_failures: Annotated[int, Field(ge=1)] | None = None
    """Failed attempts, over all starts, after which a trial is not run again; null: no limit."""
    retry_failed: bool = True
    """Whether the same command runs failed trials again."""
    checkpoint_every: EveryText = "5m"
    """How often a trial saves a checkpoint, from which it resumes: a duration, or `10 epochs`."""
    progress_timeout: Duration = "30m"
    """Time without a training step, scoring included, after which a trial counts as hung and is retried."""


class Keep(Section):
    snapshots: Literal["all", "none"] = "all"
    """Whether trials save a `snapshot.pt`, which `predict` needs."""
    maps: Literal["shown", "all"] = "shown"
    """Anomaly maps and images that a trial keeps: those shown in its figures, or all test images."""
    pictures: Literal["leaf", "none"] = "leaf"
    """Whether the figures of trials are drawn, by the driver; `aggregate --redraw` draws them later."""


class ReportSettings(Section):
    style: Literal["screen", "paper"] = "screen"
    """Look of plots in files: `paper` is as wide as a column (3.3 in), with text of 8 pt and no title."""
    self_contained: bool = False
    """Whether `report.html` holds the full-size images, too; they are links otherwise."""


class MlflowTracker(Section):
    tracking_uri: str | None = None
    """The server, such as `http://host:5000`, or `sqlite:///FILE`; left out: `MLFLOW_TRACKING_URI`."""
    experiment: str | None = None
    """MLflow's experiment; left out: the name of this one."""


class WandbTracker(Section):
    project: str | None = None
    """W&B's project; left out: `WANDB_PROJECT`, or W&B's own choice."""
    mode: Literal["online", "offline"] = "online"
    """`offline` writes files below the run, for `wandb sync`."""


class Trackers(Section):
    tensorboard: bool = False
    """Whether event files for TensorBoard are written, to `.trackers/tensorboard` in the run."""
    mlflow: MlflowTracker | None = None
    """Log to an MLflow server; `{}` takes its settings from the environment. Needs the extra `mlflow`."""
    wandb: WandbTracker | None = None
    """Log to Weights & Biases; `{}` takes its settings from the environment. Needs the extra `wandb`."""


class Settings(Section):
    """The settings of a single trial, apart from its class and seed."""

    method: Literal["fcdd", "hsc", "ae"] = "fcdd"
    """FCDD, or a baseline: the hypersphere classifier, or the autoencoder."""
    dataset: Dataset
    images: Images
    anomalies: Anomalies = Anomalies()
    network: Network
    preprocessing: Literal["none", "lcn", "aug1", "lcnaug1", "aug1_blackcenter", "aug1_blackcenter_inverted"] = "none"
    """The paper's recipes: `aug1` augments, `lcn` normalizes each image by its local contrast, `lcnaug1` does both;
    the others are `aug1` with the center, or all but the center, of training images black."""
    training: Training
    heatmaps: Heatmaps = Heatmaps()
    evaluation: Evaluation = Evaluation()
    resources: Resources = Resources()
    keep: Keep = Keep()

    @property
    def models(self) -> int:
        """Models that a trial trains, one after another; in a plan `evaluation.folds` is a number."""
        folds = self.evaluation.folds
        return folds if self.evaluation.calibration == "cross" and folds != "auto" else 1

    @property
    def total_epochs(self) -> int:
        """Epochs of all models of a trial."""
        return self.models * self.training.epochs

    @property
    def total_passes(self) -> int:
        """Passes over the nominal training images, over all epochs of all models."""
        return self.models * self.training.passes


Overrides = dict[str, Any]
"""Dotted keys and their values: `{"training.learning_rate": 0.01}`."""


class Experiment(Settings):
    """An experiment file, presets and overrides applied."""

    schema_: Literal[2] = Field(alias="schema")
    """Version of the schema."""
    name: str = Field(pattern=NAME_PATTERN)
    """The run's directory is `output`/`name`."""
    preset: str | None = None
    """Defaults for a data set; everything in the file overrides them."""
    seeds: Seeds = 5
    """5 means seeds 0 to 4; or a list."""
    grid: dict[str, list[Any]] = {}
    """Dotted keys and the values to try; the configs are the product."""
    variants: dict[str, Overrides] = {}
    """Named configs, crossed with the grid."""
    search: SearchSettings | None = None
    """A search for the best config, instead of `grid` and `variants`."""
    faults: Faults = Faults()
    report: ReportSettings = ReportSettings()
    trackers: Trackers = Trackers()
    output: Output = Field(Path("results"), validate_default=True)
    """Folder of the runs, or an address in an object store: `s3://BUCKET/FOLDER`."""
    _origin: Origin = PrivateAttr(default_factory=Origin)

    @property
    def origin(self) -> Origin:
        """Where each key was written; empty for an experiment that was not read from a file."""
        return self._origin

    def with_origin(self, origin: Origin) -> Experiment:
        """Return the same experiment with the places where its keys were written."""
        copy = self.model_copy()
        copy._origin = origin
        return copy

    @field_validator("seeds")
    @classmethod
    def distinct(cls, seeds: int | list[int]) -> int | list[int]:
        if isinstance(seeds, int):
            return seeds
        if not seeds:
            raise ValueError("the list of seeds is empty")
        if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            raise ValueError(f"the list of seeds holds {', '.join(map(str, twice))} more than once")
        return seeds

    def __repr__(self) -> str:
        seeds = f"{len(self.seed_list)} seed{'' if len(self.seed_list) == 1 else 's'}"
        return f"Experiment({self.name!r}: {self.method} on {self.dataset.name}, {self.network.title}, {seeds})"

    __str__ = __repr__

    @property
    def run_dir(self) -> Path | RemotePath:
        return self.output / self.name

    @property
    def seed_list(self) -> list[int]:
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)
