"""Types of keys that several sections share: durations, paths, sources of anomalies, the validation split."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

from fcdd_sweep.config.locations import local_path

LARGEST_INTEGER = 2**63 - 1
"""Of 64 bits with a sign, which tables and generators hold."""
DURATION_PATTERN = r"^[1-9][0-9]{0,8} ?[smh]$"
EVERY_PATTERN = r"^[1-9][0-9]{0,8}( ?[smh]| epochs?)$"
Duration = Annotated[str, Field(pattern=DURATION_PATTERN)]
"""A length of time; `seconds` reads it."""
EveryText = Annotated[str, Field(pattern=EVERY_PATTERN)]
"""How often something is done; `Every.of` reads it."""
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(duration: str) -> float:
    """Return a duration such as `5m` in seconds.

    Raises:
        ValueError: the text is not a duration.
    """
    if not re.fullmatch(DURATION_PATTERN, duration):
        raise ValueError(f"'{duration}' is not a duration such as '90s', '5m' or '2h'")
    return int(duration[:-1]) * _SECONDS[duration[-1]]


@dataclass(frozen=True)
class Every:
    """An interval, in seconds or in epochs.

    Attributes:
        seconds: length of the interval; None where epochs count.
        epochs: length of the interval; None where seconds count.
    """

    seconds: float | None = None
    epochs: int | None = None

    @classmethod
    def of(cls, text: str) -> Every:
        """Return the interval that `5m` or `10 epochs` means.

        Raises:
            ValueError: the text is neither.
        """
        if not re.fullmatch(EVERY_PATTERN, text):
            raise ValueError(f"'{text}' is neither a duration such as '5m' nor a number of epochs such as '10 epochs'")
        number, _, unit = text.partition(" ")
        return cls(epochs=int(number)) if unit.startswith("epoch") else cls(seconds=seconds(text))


class Section(BaseModel):
    """A part of an experiment file: unknown keys and wrong types are errors, values never change."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(local_path)]
"""A path that does not depend on the working directory; `~` is the home folder."""


class DatasetSource(Section):
    dataset: str
    """Outlier exposure: training images of this data set."""
    root: AbsolutePath | None = None
    """Folder of that data set, if it needs one."""
    download: bool = False
    """Whether missing files below `root` may be downloaded from where the authors publish them."""


class FolderSource(Section):
    folder: AbsolutePath
    """Outlier exposure: all images below this folder."""


def kind_of_source(source: object) -> str | None:
    """Return the tag of a source in a union: of a name, a data set or a folder."""
    if isinstance(source, str):
        return "(name)"
    if isinstance(source, FolderSource) or (isinstance(source, dict) and "folder" in source):
        return "(folder)"
    return "(dataset)" if isinstance(source, DatasetSource | dict) else None


AnomalySource = Annotated[
    Annotated[str, Tag("(name)")]
    | Annotated[DatasetSource, Tag("(dataset)")]
    | Annotated[FolderSource, Tag("(folder)")],
    Discriminator(kind_of_source),
]
VALIDATION_NAMES = ("none", "training")
"""Values of `evaluation.validation.anomalies` besides names of synthetic sources."""


class FromTestSource(Section):
    from_test: int = Field(ge=1)
    """How many test anomalies of each defect type leave the test set of every config, to select settings on them; one
    of each type stays."""


def _kind_of_anomalies(source: object) -> str | None:
    named = ("from_test", "set_aside")  # the second is its name in schema 1, which is reported
    if isinstance(source, FromTestSource) or (isinstance(source, dict) and any(key in source for key in named)):
        return "(from_test)"
    return kind_of_source(source)


ValidationSource = Annotated[
    Annotated[str, Tag("(name)")]
    | Annotated[DatasetSource, Tag("(dataset)")]
    | Annotated[FolderSource, Tag("(folder)")]
    | Annotated[FromTestSource, Tag("(from_test)")],
    Discriminator(_kind_of_anomalies),
]


TOP_SHARES = {0.001: "score_top_0_1", 0.01: "score_top_1", 0.03: "score_top_3", 0.1: "score_top_10"}
"""Shares of a heatmap's pixels whose largest values an image's score may be the mean of, and their columns in
`scores.parquet`."""


class TopScore(Section):
    top: float
    """Share of the heatmap's pixels: the score of an image is the mean of so many of its largest values."""

    @field_validator("top")
    @classmethod
    def known(cls, top: float) -> float:
        if top not in TOP_SHARES:
            raise ValueError(f"found {top:g}; scores are kept for the shares {', '.join(map(str, TOP_SHARES))}")
        return top


def _kind_of_score(score: object) -> str:
    return "(top)" if isinstance(score, TopScore | dict) else "(name)"


KnownScore = Annotated[
    Annotated[Literal["mean", "max"], Tag("(name)")] | Annotated[TopScore, Tag("(top)")], Discriminator(_kind_of_score)
]
ImageScore = Annotated[
    Annotated[Literal["mean", "max", "auto"], Tag("(name)")] | Annotated[TopScore, Tag("(top)")],
    Discriminator(_kind_of_score),
]
MEAN_SCORE = "score_mean"


def score_column(image_score: Literal["mean", "max", "auto"] | TopScore) -> str:
    """Return the column of `scores.parquet` that holds an image's score by this setting; of `auto` the mean, which
    stands in until a score is chosen."""
    if isinstance(image_score, TopScore):
        return TOP_SHARES[image_score.top]
    return MEAN_SCORE if image_score == "auto" else f"score_{image_score}"


def known_score(column: str) -> Literal["mean", "max"] | TopScore:
    """Return the setting by which this column of `scores.parquet` is an image's score."""
    shares = {name: share for share, name in TOP_SHARES.items()}
    if column in shares:
        return TopScore(top=shares[column])
    return "mean" if column == MEAN_SCORE else "max"


def score_title(column: str) -> str:
    """Return in words what this column of `scores.parquet` holds."""
    match known_score(column):
        case TopScore(top=share):
            return f"mean of the largest {100 * share:g}% of the heatmap's values"
        case "mean":
            return "mean of the anomaly map"
    return "largest value of the heatmap"


class Validation(Section):
    nominal_fraction: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the nominal training images that is held out; thresholds are calibrated on them."""
    anomalies: ValidationSource = "none"
    """Anomalies of the validation set, which neither training nor the test set has: `none`; a synthetic source by name,
    rendered on the held-out images; `training`, anomalies of the training split; `{dataset: NAME}`; `{folder: PATH}`;
    or `{from_test: N}`."""
    epochs: list[Annotated[int, Field(ge=1)]] = []
    """Epochs after which the AUROC over validation images is measured for `history.parquet`; training is not
    affected."""

    @field_validator("epochs")
    @classmethod
    def increasing(cls, epochs: list[int]) -> list[int]:
        if epochs != sorted(set(epochs)):
            raise ValueError(f"epochs must increase, found {epochs}")
        return epochs
