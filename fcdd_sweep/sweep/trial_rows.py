"""What names a trial in every table and in its leaf, and its result as its leaf tells it; needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.runners.trial_result import TrialResult


def key_of(spec: TrialSpec) -> dict[str, Any]:
    """Return the columns that name a trial in every table."""
    return {
        "trial_id": spec.trial_id,
        "config_id": spec.config_id,
        "config": spec.config_name,
        "normal_class": spec.normal_class,
        "seed": spec.seed,
    }


def config_text(spec: TrialSpec) -> str:
    """Return the text of a leaf's `config.yaml`: JSON, which is YAML too and keeps every number as it is."""
    plain = {"trial_id": spec.trial_id, "config_id": spec.config_id, **spec.to_dict()}
    return json.dumps(plain, indent=2) + "\n"


def finished_result(row: Mapping[str, Any], number: int, host: str = "") -> TrialResult:
    """Return the result of a finished attempt from its row of `metrics.parquet`."""
    return TrialResult(
        row["trial_id"],
        TrialStatus.DONE,
        number,
        image_auroc=row["image_auroc"],
        data_fingerprint=row["data_fingerprint"],
        host=host,
        wall_time_s=row["wall_time_s"],
        device=row["device"],
        trials_per_gpu=row.get("trials_per_gpu"),
        device_numerics=row.get("device_numerics"),
        validation_image_auroc=row.get("validation_image_auroc"),
    )
