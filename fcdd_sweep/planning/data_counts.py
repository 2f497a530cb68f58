"""What can be said of a data set's images before one of them is decoded: who has too few of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fcdd_sweep.anomalies.registry import MODES
from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.corpus import held_out_of
from fcdd_sweep.data.records import DatasetFacts, DatasetScan
from fcdd_sweep.planning.sections import DataInspector, chosen_classes, only

_MOST_NAMED = 3
_MOST_HELD_OUT = 0.5


def anomalies_in_training(scan: DatasetScan, facts: DatasetFacts, classes: Sequence[str]) -> dict[str, int]:
    """By class, how many images of the training split are anomalous for it: in `one_vs_rest` all of the others."""
    if facts.protocol == "one_vs_rest":
        training = sum(not record.is_test for record in scan.records)
        return {name: training - scan.nominal_in_training[name] for name in classes}
    return {name: scan.anomalous_in_training[name] for name in classes}


def untrained(scan: DatasetScan, dataset: str, classes: Sequence[str]) -> Iterator[Problem]:
    """Classes that have nothing to train on; nothing where the data is not there yet or is broken anyhow."""
    if not scan.is_whole:
        return
    there = scan.nominal_in_training
    if without := [name for name in classes if not there[name]]:
        what = f"'{dataset}' has no nominal training image of class {', '.join(without)}"
        yield Problem("dataset.classes", what, next_step="Leave it out of dataset.classes, or complete the data")


def few_notes(settings: Settings, facts: DatasetFacts, inspector: DataInspector) -> Iterator[str]:
    """Settings that ask for more images than there are, or leave hardly any."""
    classes = chosen_classes(settings.dataset, facts)
    scan = inspector.scan(only(classes, settings.dataset), settings.images)
    if not scan.is_whole:
        return
    limit, fraction = settings.anomalies.limit, settings.evaluation.validation.nominal_fraction
    if MODES[settings.anomalies.mode].real and limit != "all":
        pools = anomalies_in_training(scan, facts, classes)
        if few := {name: there for name, there in pools.items() if there < limit}:
            yield f"anomalies.limit asks for {limit} training anomalies, but {listed(few)}: all are used."
    if fraction > _MOST_HELD_OUT:
        there = scan.nominal_in_training
        kept = {name: there[name] - held_out_of(there[name], fraction) for name in classes}
        yield (
            f"evaluation.validation.nominal_fraction is {fraction:g}: more nominal images are held out than trained "
            f"on; of those to train on {listed(kept)}."
        )


def listed(counts: dict[str, int]) -> str:
    """`class 'a' has 1, class 'b' has 3 and 7 more classes`: the smallest first."""
    names = sorted(counts, key=lambda name: counts[name])
    shown = ", ".join(f"class '{name}' has {counts[name]}" for name in names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return shown + (f" and {count_noun(more, 'more class')}" if more > 0 else "")
