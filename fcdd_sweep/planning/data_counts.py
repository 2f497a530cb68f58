"""Numbers of images that are known before one is decoded, and classes that have too few of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from fcdd_sweep.anomalies.registry import MODES
from fcdd_sweep.config.errors import Problem
from fcdd_sweep.config.schema import Dataset, Images, Settings
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.corpus import held_out_of
from fcdd_sweep.data.decoding.survey import depth_text
from fcdd_sweep.data.records import DatasetFacts, DatasetScan
from fcdd_sweep.planning.sections import DataInspector, chosen_classes, only

DefectCounts = dict[str, dict[str, int]]
"""By class, the number of test images of each defect type."""
_MOST_NAMED = 3
_MOST_HELD_OUT = 0.5


def defect_counts(dataset: Dataset, images: Images, facts: DatasetFacts, inspector: DataInspector) -> DefectCounts:
    """Return the numbers of test images by defect type, of every chosen class that can be read."""
    chosen = chosen_classes(dataset, facts)
    if not chosen:
        return {}
    found: DefectCounts = {}
    for record in inspector.scan(only(chosen, dataset), images).records:
        of_class = found.setdefault(record.class_name, {})
        if record.is_test and record.is_anomalous:
            of_class[record.defect] = of_class.get(record.defect, 0) + 1
    return {name: found[name] for name in chosen if name in found}


def image_counts(dataset: Dataset, images: Images, facts: DatasetFacts, inspector: DataInspector) -> list[str]:
    """Return lines with the numbers of images by class, split and label; none where the files are yet to be fetched.

    Classes with equal numbers share a line. In `one_vs_rest` an image counts for each class that it belongs to.
    """
    chosen = chosen_classes(dataset, facts)
    scan = inspector.scan(only(chosen, dataset), images)
    counts: dict[str, Counter[tuple[bool, bool]]] = {name: Counter() for name in chosen}
    for record in scan.records:
        for name in (record.class_name, *record.also):
            if name in counts:
                counts[name][record.is_test, record.is_anomalous] += 1
    alike: dict[str, list[str]] = {}
    for name, count in counts.items():
        alike.setdefault(_counts_text(count, labeled=facts.protocol == "defects"), []).append(name)
    return [f"{_some(names)}: {text}" for text, names in alike.items()] if scan.records else []


def layout_text(dataset: Dataset, images: Images, facts: DatasetFacts, inspector: DataInspector) -> str:
    """Return which of several layouts the files have; empty where there is one only."""
    return inspector.scan(only(chosen_classes(dataset, facts), dataset), images).layout


def _counts_text(counts: Mapping[tuple[bool, bool], int], *, labeled: bool) -> str:
    if not labeled:
        return f"{counts[False, False]} train, {counts[True, False]} test"
    return "; ".join(
        f"{split} {counts[is_test, False]} normal, {counts[is_test, True]} anomalous"
        for split, is_test in (("train", False), ("test", True))
    )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {count_noun(more, 'more class')}, each" if more > 0 else "")


def anomalies_in_training(scan: DatasetScan, facts: DatasetFacts, classes: Sequence[str]) -> dict[str, int]:
    """Return by class the number of training images that are anomalous for it: in `one_vs_rest` all others."""
    if facts.protocol == "one_vs_rest":
        training = sum(not record.is_test for record in scan.records)
        return {name: training - scan.nominal_in_training[name] for name in classes}
    return {name: scan.anomalous_in_training[name] for name in classes}


def untrained(scan: DatasetScan, dataset: str, classes: Sequence[str]) -> Iterator[Problem]:
    """Yield a problem for classes without nominal training images; none where the data is incomplete or broken."""
    if not scan.is_whole:
        return
    if without := [name for name in classes if not scan.nominal_in_training[name]]:
        what = f"'{dataset}' has no nominal training image of class {', '.join(without)}"
        yield Problem("dataset.classes", what, next_step="Leave it out of dataset.classes, or complete the data")


def few_notes(settings: Settings, facts: DatasetFacts, inspector: DataInspector) -> Iterator[str]:
    """Yield notes on settings that ask for more images than the data has, or leave few to train on."""
    classes = chosen_classes(settings.dataset, facts)
    scan = inspector.scan(only(classes, settings.dataset), settings.images)
    if not scan.is_whole:
        return
    limit, fraction = settings.anomalies.limit, settings.evaluation.validation.nominal_fraction
    if MODES[settings.anomalies.mode].real and limit != "all":
        pools = anomalies_in_training(scan, facts, classes)
        if few := {name: count for name, count in pools.items() if count < limit}:
            yield f"anomalies.limit asks for {limit} training anomalies, but {listed(few)}: all are used."
    if fraction > _MOST_HELD_OUT:
        nominal = scan.nominal_in_training
        kept = {name: nominal[name] - held_out_of(nominal[name], fraction) for name in classes}
        yield (
            f"evaluation.validation.nominal_fraction is {fraction:g}: more nominal images are held out than trained "
            f"on; to train on, {listed(kept)}."
        )


def decoding_notes(settings: Settings, facts: DatasetFacts, inspector: DataInspector) -> Iterator[str]:
    """Yield how images of more than 8 bits are decoded."""
    dataset = only(chosen_classes(settings.dataset, facts), settings.dataset)
    if text := depth_text(inspector.depth(dataset, settings.images), settings.images):
        yield text


def listed(counts: dict[str, int]) -> str:
    """Return `class 'a' has 1, class 'b' has 3 and 7 more classes`, the smallest first."""
    names = sorted(counts, key=lambda name: counts[name])
    shown = ", ".join(f"class '{name}' has {counts[name]}" for name in names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return shown + (f" and {count_noun(more, 'more class')}" if more > 0 else "")
