"""Real anomalies that leave the test set so that configs can train on them: what is asked for and what there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fcdd_sweep.anomalies.limits import reservable
from fcdd_sweep.anomalies.registry import REAL_SOURCES
from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.fields import FromTestSource
from fcdd_sweep.config.schema import Anomalies, Dataset, Settings
from fcdd_sweep.data.records import DatasetFacts
from fcdd_sweep.data.registry import DATA_SETS

DefectCounts = dict[str, dict[str, int]]
"""By class, the number of test images of each defect type."""


def reserved_per_defect(settings: Settings) -> int:
    """How many test anomalies of each defect type a config needs out of the test set."""
    asked, limit = settings.evaluation.reserved_anomalies, settings.anomalies.limit
    return max(asked, limit) if settings.anomalies.source in REAL_SOURCES and limit != "all" else asked


def left_for_training(settings: Settings, count: int) -> int:
    """Of `count` test images of a defect type, how many are left when those that settings are selected on are gone."""
    selecting = settings.evaluation.validation.anomalies
    return count - (reservable(count, selecting.from_test) if isinstance(selecting, FromTestSource) else 0)


def real_problems(
    anomalies: Anomalies | None, aside: int, dataset: Dataset, facts: DatasetFacts, counted: Callable[[], DefectCounts]
) -> Iterator[Problem]:
    """What is wrong with real anomalies that are to leave the test set.

    Args:
        anomalies: None where that section is broken.
        aside: `evaluation.reserved_anomalies` as it was given.
        counted: looks at the data; called only where the answer matters.
    """
    source = anomalies.source if anomalies is not None and anomalies.source in REAL_SOURCES else None
    if facts.protocol != "defects":
        if source or aside:
            yield _no_defects(str(source or ""), aside, dataset)
        return
    if source is None or anomalies is None:
        return
    if source == "mvtec_gt" and not facts.maps:
        what = f"'mvtec_gt' trains on ground-truth maps, and '{dataset.name}' has none"
        yield Problem("anomalies.source", what, next_step="Choose anomalies.source: mvtec")
    if anomalies.limit == "all":
        what = f"'{source}' takes its images out of the test set, and all of them would leave"
        yield Problem("anomalies.limit", what, "a whole number, how many of each defect type", "Set it to 1")
        return
    for name, defects in counted().items():
        if not any(reservable(count, anomalies.limit) for count in defects.values()):
            what = f"class '{name}' has no defect type with two test images, one to train on and one to test on"
            step = "Leave the class out of dataset.classes, or choose another source"
            yield Problem("anomalies.source", what, next_step=step)


def _no_defects(source: str, aside: int, dataset: Dataset) -> Problem:
    where, what = ("anomalies.source", f"'{source}'") if source else ("evaluation.reserved_anomalies", f"{aside}")
    what += f" takes test anomalies by defect type, but those of '{dataset.name}' are its other classes"
    named = source in DATA_SETS
    return Problem(where, what, next_step=f"For images of that data set write {{dataset: {source}}}" if named else "")


def reserved_notes(settings: Settings, counts: DefectCounts) -> Iterator[str]:
    """Defect types of which fewer images leave the test set than the experiment asks for."""
    asked = settings.evaluation.reserved_anomalies
    for name, found in counts.items():
        defects = {kind: left_for_training(settings, count) for kind, count in found.items()}
        few = [f"{reservable(n, asked)} of {n} '{kind}'" for kind, n in sorted(defects.items()) if n <= asked]
        if few:
            yield (
                f"class '{name}': {asked} test images a defect type were to be set aside, but one stays: "
                + ", ".join(few)
            )
