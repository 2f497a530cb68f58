"""What finished trials cost in device-hours, and what the others will cost at that rate."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from fcdd_sweep.config.schema import Resources
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.files import TableRow

_GPU_NAMES = ("nvidia", "tesla", "geforce", "quadro", "radeon", "instinct")


def on_gpu(device: str | None) -> bool:
    """Return whether a device is a GPU, by the name that its driver reports; no processor has such a name."""
    return any(name in (device or "").lower() for name in _GPU_NAMES)


def share_of(device: str | None, resources: Resources, threads: int) -> float:
    """Return what a trial holds: a share of a GPU, or a number of CPU cores."""
    if on_gpu(device):
        return 1 / resources.trials_per_gpu
    return float(threads if resources.cpus == "auto" else resources.cpus)


def trial_costs(index: Iterable[TableRow]) -> dict[str, list[float]]:
    """Return the seconds of finished trials by config id, and those of all trials under an empty one."""
    found: dict[str, list[float]] = {}
    for row in _timed(index):
        for key in (row["config_id"], ""):
            found.setdefault(key, []).append(row["wall_time_s"])
    return found


def seconds_of(config_id: str, costs: Mapping[str, Sequence[float]]) -> float:
    """Return the seconds of a config's trial: the median of its finished ones, else of all.

    Args:
        config_id: of the config.
        costs: see `trial_costs`; not empty.
    """
    return statistics.median(costs.get(config_id) or costs[""])


def hours_lines(
    index: Sequence[TableRow], unfinished: Sequence[TableRow], resources: Resources, threads: int
) -> list[str]:
    """Return the device-hours of finished trials and an estimate for the others; nothing before a trial finished.

    Args:
        index: rows of `index.parquet`.
        unfinished: rows of `plan.parquet` of trials that are not done.
        resources: of a trial.
        threads: of a trial.
    """
    costs, rows = trial_costs(index), _timed(index)
    if not costs:
        return []
    kind = "GPU" if sum(on_gpu(row["device"]) for row in rows) * 2 > len(rows) else "CPU"
    used = sum(row["wall_time_s"] * share_of(row["device"], resources, threads) for row in rows)
    share = share_of(max(rows, key=lambda row: row["published_at"])["device"], resources, threads)
    left = sum(seconds_of(row["config_id"], costs) for row in unfinished) * share
    line = f"{used / 3600:.2f} {kind}-hours used by {count_noun(len(rows), 'finished trial')}"
    if unfinished:
        line += f", about {left / 3600:.2f} left for {len(unfinished)} unfinished"
    return [line, "(failed and interrupted attempts are not counted; unfinished trials at the median of finished ones)"]


def _timed(index: Iterable[TableRow]) -> list[TableRow]:
    return [row for row in index if row["status"] == TrialStatus.DONE and row["wall_time_s"] is not None]
