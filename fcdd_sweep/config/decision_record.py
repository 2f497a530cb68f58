"""What decides about the images of a trial since its run's report was made: `decision.json` in its leaf.

A snapshot is written when its trial ends. The image score that `auto` chooses for a class, and thresholds at another
false-alarm rate, are known later: the report leaves them beside the snapshot, where whoever loads it finds them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.fields import KnownScore
from fcdd_sweep.config.schema import Settings

DECISION = "decision.json"
_COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
_SHARES = (
    *("accuracy", "precision", "recall", "f1"),
    *("test_false_alarm_rate", "test_false_alarm_low", "test_false_alarm_high"),
    *("test_region_rate", "test_region_low", "test_region_high"),
    *("test_agreement", "fpr_at_95_recall"),
)


def decision_figures(metrics: Mapping[str, Any]) -> dict[str, int | float | None]:
    """Return how often decisions are right on the test set, by column of `metrics.parquet`, as plain values.

    Args:
        metrics: of a trial; a figure that is NaN or missing is None.
    """
    known = {name: value for name, value in metrics.items() if value is not None and not _is_nan(value)}
    counts = {name: int(known[name]) if name in known else None for name in _COUNTS}
    return counts | {name: float(known[name]) if name in known else None for name in _SHARES}


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


class DecisionRecord(BaseModel):
    """The content of `decision.json`; names are those of columns of `metrics.parquet`."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    trial_id: str = Field(description="the trial")
    image_score: KnownScore = Field(description="score of an image, as `evaluation.image_score` names it")
    image_score_source: str = Field(description="what `auto` chose it by; empty where the experiment names it")
    false_alarm_rate: float = Field(description="`evaluation.false_alarm_rate` that the thresholds keep")
    threshold: float | None = Field(description="an image with a higher score is called anomalous; null: no decision")
    pixel_threshold: float | None = Field(description="a pixel whose heatmap is higher is anomalous; null: no decision")
    p_value_level: float | None = Field(
        None, description="several models call an image anomalous up to this p-value; null where thresholds decide"
    )
    threshold_source: str = Field(description="what can be said of both thresholds, or why there are none")
    n_calibration: int = Field(description="number of held-out nominal images that they come from")
    test_decisions: dict[str, int | float | None] = Field(
        default_factory=dict, description="how often these decisions are right on the test set; null: undefined"
    )

    @classmethod
    def of(cls, content: bytes, where: object) -> DecisionRecord:
        """Return the record that a file holds.

        Args:
            content: of the file.
            where: the file, for messages.
        Raises:
            InputError: it is damaged.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            step = "Run aggregate for the run, which writes it again"
            raise InputError(Problem(str(where), "this is not a record of decisions", next_step=step)) from error

    @classmethod
    def beside(cls, snapshot: Path) -> DecisionRecord | None:
        """Return the record in the folder of a snapshot; None where there is none.

        Raises:
            InputError: it cannot be read.
        """
        path = snapshot.with_name(DECISION)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(Problem(str(path), f"cannot be read ({error.strerror})")) from error
        return cls.of(content, path)

    def decided_settings(self, settings: Settings) -> Settings:
        """Return a trial's settings with the image score and the false-alarm rate of the record."""
        changes = {"image_score": self.image_score, "false_alarm_rate": self.false_alarm_rate}
        return settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update=changes)})

    @property
    def decision(self) -> dict[str, Any]:
        """What decisions rest on, by attribute of a detector; NaN where there is no threshold."""
        return {
            "threshold": math.nan if self.threshold is None else self.threshold,
            "pixel_threshold": math.nan if self.pixel_threshold is None else self.pixel_threshold,
            "threshold_source": self.threshold_source,
            "n_calibration": self.n_calibration,
        }
