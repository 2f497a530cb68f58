"""The images that settings are selected on, as experiment files name them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag, field_validator

from fcdd_sweep.config.section import Section
from fcdd_sweep.config.sources import DatasetSource, FolderSource, kind_of_source

VALIDATION_NAMES = ("none", "training")
"""What `evaluation.validation.anomalies` may be beside the name of a synthetic source."""


class SetAsideSource(Section):
    set_aside: int = Field(ge=1)
    """How many test anomalies of each defect type leave the test set of every config, to select settings on them; one
    of each type stays."""


def _kind_of_anomalies(source: object) -> str | None:
    if isinstance(source, SetAsideSource) or (isinstance(source, dict) and "set_aside" in source):
        return "(set_aside)"
    return kind_of_source(source)


ValidationAnomalies = Annotated[
    Annotated[str, Tag("(name)")]
    | Annotated[DatasetSource, Tag("(dataset)")]
    | Annotated[FolderSource, Tag("(folder)")]
    | Annotated[SetAsideSource, Tag("(set_aside)")],
    Discriminator(_kind_of_anomalies),
]


class Validation(Section):
    nominal_fraction: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the nominal training images that is held out; thresholds come from them."""
    anomalies: ValidationAnomalies = "none"
    """Anomalies beside them, which neither training nor the test set has: `none`; a synthetic source by name, rendered
    on the held-out images; `training`, anomalies of the training split; `{dataset: NAME}`; `{folder: PATH}`; or
    `{set_aside: N}`."""
    epochs: list[Annotated[int, Field(ge=1)]] = []
    """After these epochs `history.parquet` has the AUROC over validation images; training does not notice."""

    @field_validator("epochs")
    @classmethod
    def increasing(cls, epochs: list[int]) -> list[int]:
        if epochs != sorted(set(epochs)):
            raise ValueError(f"epochs must increase, found {epochs}")
        return epochs
