"""What runs now and what it costs, from `progress.json` and the index: the live part of `status`."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from fcdd_sweep.config.schema import Resources
from fcdd_sweep.config.text import count_noun, duration_text
from fcdd_sweep.report.run_files import TableRow
from fcdd_sweep.results.documents import RunningTrial, SweepProgress

_SILENT_AFTER = 6
"""Writes of `progress.json` that may be missed before its driver counts as dead or cut off."""
_MOST_SHOWN = 12
_GPU_NAMES = ("nvidia", "tesla", "geforce", "quadro", "radeon", "instinct")


def age_s(progress: SweepProgress, now: dt.datetime) -> float:
    """Seconds since it was written, by the clocks of both machines."""
    return max(0.0, (now - progress.written).total_seconds())


def is_silent(progress: SweepProgress, now: dt.datetime) -> bool:
    return progress.state == "running" and age_s(progress, now) > _SILENT_AFTER * progress.every_s


def live_lines(progress: SweepProgress | None, now: dt.datetime) -> list[str]:
    """What the driver does, and since when it has not said anything."""
    if progress is None:
        return []
    age, host = duration_text(age_s(progress, now)), progress.driver.host
    if progress.state != "running":
        return [f"no sweep is running: the last start on {host} {progress.state} {age} ago"]
    if is_silent(progress, now):
        what = f"the driver on {host} has not written for {age}: it is dead, or cut off from the results"
        return [f"{what}; once it is gone, the same command goes on"]
    gone = duration_text((now - progress.began).total_seconds())
    eta = "" if progress.eta_s is None else f", about {duration_text(progress.eta_s)} to go"
    ended = f"{progress.done} done and {progress.failed} failed of {progress.to_run} in this start"
    lines = [f"running on {host}, told {age} ago: {ended}, {gone} gone{eta}"]
    if progress.machines:
        lines.append(f"machines: {', '.join(progress.machines)}")
    shown = progress.trials[:_MOST_SHOWN]
    more = progress.running - len(shown)
    return [*lines, *map(_trial_line, shown), *([f"  and {more} more"] if more > 0 else [])]


def _trial_line(trial: RunningTrial) -> str:
    name = f"{trial.config}, " if trial.config else ""
    loss = "" if trial.loss is None else f", loss {trial.loss:.4f}"
    state = f"epoch {trial.epoch}/{trial.epochs}{loss}" if trial.epoch else "starting"
    return f"  {name}class {trial.normal_class}, seed {trial.seed}: {state}"


def on_gpu(device: str | None) -> bool:
    """By the name that the driver of a GPU gives it; processors have others."""
    return any(name in (device or "").lower() for name in _GPU_NAMES)


def share_of(device: str | None, resources: Resources, threads: int) -> float:
    """Of a GPU, or CPU cores, that a trial holds."""
    if on_gpu(device):
        return 1 / resources.trials_per_gpu
    return float(threads if resources.cpus == "auto" else resources.cpus)


def trial_costs(index: Iterable[TableRow]) -> dict[str, list[float]]:
    """Seconds of finished trials by config's id; those of all under an empty one."""
    found: dict[str, list[float]] = {}
    for row in index:
        if row["status"] == "done" and row["wall_time_s"] is not None:
            for key in (row["config_id"], ""):
                found.setdefault(key, []).append(row["wall_time_s"])
    return found


def seconds_of(config_id: str, costs: Mapping[str, Sequence[float]]) -> float:
    """What a trial of a config takes: the median of its own finished ones, else of all. `costs` must not be empty."""
    return statistics.median(costs.get(config_id) or costs[""])


def hours_lines(
    plan: Sequence[TableRow],
    index: Mapping[str, TableRow],
    done: Callable[[str], bool],
    resources: Resources,
    threads: int,
) -> list[str]:
    """Hours of devices that finished trials took, and that the others would take."""
    costs = trial_costs(index.values())
    if not costs:
        return []
    rows = [row for row in index.values() if row["status"] == "done" and row["wall_time_s"] is not None]
    kind = "GPU" if sum(on_gpu(row["device"]) for row in rows) * 2 > len(rows) else "CPU"
    used = sum(row["wall_time_s"] * share_of(row["device"], resources, threads) for row in rows)
    left = [row["config_id"] for row in plan if not done(row["trial_id"])]
    share = share_of(max(rows, key=lambda row: row["published_at"])["device"], resources, threads)
    to_go = sum(seconds_of(config_id, costs) for config_id in left) * share
    lines = [f"{used / 3600:.2f} {kind}-hours used by {count_noun(len(rows), 'finished trial')}"]
    if left:
        lines[0] += f", about {to_go / 3600:.2f} to go for {len(left)} not finished"
    return [*lines, "(attempts that failed or were interrupted are not counted; trials to go as the median of others)"]
