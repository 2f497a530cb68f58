"""Real anomalies that leave the test set so that configs can train on them: checks and notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fcdd_sweep.anomalies.limits import reservable
from fcdd_sweep.anomalies.registry import REAL_SOURCES
from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.fields import FromTestSource
from fcdd_sweep.config.schema import Anomalies, Dataset, Settings
from fcdd_sweep.data.records import DatasetFacts
from fcdd_sweep.data.registry import DATA_SETS
from fcdd_sweep.planning.data_counts import DefectCounts


def reserved_per_defect(settings: Settings) -> int:
    """Return the number of test anomalies of each defect type that a config needs out of the test set."""
    asked, limit = settings.evaluation.reserved_anomalies, settings.anomalies.limit
    return max(asked, limit) if settings.anomalies.source in REAL_SOURCES and limit != "all" else asked


def left_for_training(settings: Settings, count: int) -> int:
    """Return how many of `count` test images of a defect type are left after those for selection."""
    selecting = settings.evaluation.validation.anomalies
    return count - (reservable(count, selecting.from_test) if isinstance(selecting, FromTestSource) else 0)


def real_problems(
    anomalies: Anomalies | None,
    reserved: int,
    dataset: Dataset,
    facts: DatasetFacts,
    counted: Callable[[], DefectCounts],
) -> Iterator[Problem]:
    """Yield problems of real anomalies that are to leave the test set.

    Args:
        anomalies: None where that section is broken.
        reserved: `evaluation.reserved_anomalies` as it was given.
        counted: counts the data; called only where the result matters.
    """
    source = anomalies.source if anomalies is not None and anomalies.source in REAL_SOURCES else None
    if facts.protocol != "defects":
        if source or reserved:
            yield _no_defects(str(source or ""), reserved, dataset)
        return
    if source is None or anomalies is None:
        return
    if source == "mvtec_gt" and not facts.maps:
        what = f"'mvtec_gt' trains on ground-truth maps, and '{dataset.name}' has none"
        yield Problem("anomalies.source", what, next_step="Choose anomalies.source: mvtec")
    if anomalies.limit == "all":
        what = f"'{source}' takes its images out of the test set, and with 'all' none would stay"
        yield Problem("anomalies.limit", what, "a whole number, how many of each defect type", "Set it to 1")
        return
    for name, defects in counted().items():
        if not any(reservable(count, anomalies.limit) for count in defects.values()):
            what = f"class '{name}' has no defect type with two test images, one to train on and one to test on"
            step = "Leave the class out of dataset.classes, or choose another source"
            yield Problem("anomalies.source", what, next_step=step)


def _no_defects(source: str, reserved: int, dataset: Dataset) -> Problem:
    where, what = ("anomalies.source", f"'{source}'") if source else ("evaluation.reserved_anomalies", f"{reserved}")
    what += f" takes test anomalies by defect type, but those of '{dataset.name}' are its other classes"
    named = source in DATA_SETS
    return Problem(where, what, next_step=f"For images of that data set write {{dataset: {source}}}" if named else "")


def reserved_notes(settings: Settings, asked: int, counts: DefectCounts) -> Iterator[str]:
    """Yield a note per class with defect types of which fewer images leave the test set than asked for."""
    for name, found in counts.items():
        defects = {kind: left_for_training(settings, count) for kind, count in found.items()}
        few = [f"{reservable(n, asked)} of {n} '{kind}'" for kind, n in sorted(defects.items()) if n <= asked]
        if few:
            yield (
                f"class '{name}': {asked} test images per defect type were to be reserved, but one must stay: "
                + ", ".join(few)
            )
