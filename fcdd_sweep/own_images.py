"""An experiment file for a folder of the user's own images, every choice with its reason. Needs no torch."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fcdd_sweep.anomalies.registry import SOURCES
from fcdd_sweep.config.command_words import as_typed, typed_text
from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.presets import PRESETS
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.data.appearance import FEWEST_PIXELS, Appearance, appearance_of
from fcdd_sweep.data.corpus import held_out_of
from fcdd_sweep.data.decoding.survey import Depth, depth_problems, depth_text
from fcdd_sweep.data.records import DatasetFacts
from fcdd_sweep.metrics.decision import fewest_images
from fcdd_sweep.networks.registry import NETWORKS
from fcdd_sweep.planning.checks import facts_of
from fcdd_sweep.planning.data_counts import image_counts
from fcdd_sweep.planning.sections import DataInspector

FEW = 50
"""Nominal training images of a class below which metrics vary widely between draws of the images."""
_FEW_TESTED = 20
"""Nominal or anomalous test images below which an AUROC says little."""
_SMALLEST_SIDE, _MULTIPLE = 32, 8
_PRESET = PRESETS["folder"].tree
_REAL = 10
"""Real training anomalies of each class from which on they replace rendered ones."""
_HELD_OUT = ((160, 0.33), (199, 0.25), (1000, 0.2), (math.inf, 0.1))
"""By number of nominal training images up to which it holds, the share that is held out: 40 and more from 120 on."""
_RATE, _WORST_RATE = 0.05, 0.25
_SELECTING = 0.2
"""Share of the held-out images that choose the image score instead, where that is `auto`."""
GIVEN_KEYS = tuple(f"images.{key}" for key in ("bit_depth", "range", "max_megapixels", "map_rule", "map_background"))
"""How files are read, where only the user knows."""
_FEWEST_CHOOSING = 8
"""Images for that below which `auto` is not worth it: their AUROC would have a standard error above .1."""
_SCORE_REASONS = {
    "max": "The largest value of the heatmap: a small defect counts, and image and mask agree. (`auto` chooses among "
    "scores, which needs 40 held-out images.)",
    "auto": "Chosen after training, on a part of the held-out images with drawn defects: mean, largest value or "
    "mean of the largest values of the heatmap.",
}
_WIDTH = 100


class ClassCounts(NamedTuple):
    """Numbers of a class's images."""

    nominal: int
    """Nominal training images."""
    anomalous: int
    """Training anomalies; in one-vs-rest the images of other classes."""
    test_nominal: int
    test_anomalous: int


@dataclass(frozen=True)
class OwnImages:
    """What a folder or table of images holds.

    Attributes:
        dataset: as the experiment will name it.
        facts: protocol, classes and abilities.
        layout: how the folders are read, in words.
        counts: by class.
        count_lines: the same as text.
        appearance: of the images.
        depth: a sentence on images of more than 8 bits; empty without such.
        n_masks: images with ground-truth maps.
        gaps: sentences on what is missing or not read.
    """

    dataset: Dataset
    facts: DatasetFacts
    layout: str
    counts: Mapping[str, ClassCounts]
    count_lines: tuple[str, ...]
    appearance: Appearance
    depth: str
    n_masks: int
    gaps: tuple[str, ...]

    @property
    def fewest(self) -> ClassCounts:
        """Return the smallest of each number over the classes."""
        return ClassCounts(*(min(numbers) for numbers in zip(*self.counts.values(), strict=True)))

    @property
    def total(self) -> int:
        """Return the number of nominal training images of all classes."""
        return sum(counts.nominal for counts in self.counts.values())

    @property
    def lines(self) -> list[str]:
        """Return what was found, a line each."""
        seen = self.appearance
        masks = count_noun(self.n_masks, "image") if self.n_masks else "none"
        of_seen = f"of {count_noun(seen.looked_at, 'image')}"
        closed = f"note: {seen.unreadable} {of_seen} do not open."
        tiny = f"note: {seen.tiny} {of_seen} less than {FEWEST_PIXELS} px wide or high: remove what is no photograph."
        return [
            f"  layout  {self.layout or self.facts.protocol}",
            *(f"  {'images' if row == 0 else '':8}{line}" for row, line in enumerate(self.count_lines)),
            f"  pixels  {_sizes_text(seen)}, {_color_text(seen)}. {self.depth or 'No image has more than 8 bits.'}",
            f"  masks   {masks}",
            *([closed] if seen.unreadable else []),
            *([tiny] if seen.tiny else []),
            *(f"note: {gap}" for gap in self.gaps),
        ]


def inspect_images(root: Path, options: Mapping[str, str]) -> OwnImages:
    """Return what a folder or table of images holds; nothing is decoded but thumbnails.

    Args:
        root: the folder, or a CSV or Parquet table.
        options: `layout` and `group` of `dataset.options`, where they are given.
    Raises:
        InputError: everything that keeps the images from being read.
    """
    dataset, images = Dataset(name="folder", root=root, options=dict(options)), Images(load_size=64, size=64)
    facts, problems = facts_of(dataset)
    if facts is None:
        raise InputError(as_typed(problems, root))
    inspector = DataInspector()
    scan = inspector.scan(dataset, images)
    if scan.problems:
        raise InputError(as_typed(scan.problems, root))
    appearance = appearance_of([record.file for record in scan.records if record.file is not None])
    if appearance is None:
        raise InputError(Problem(str(root), "none of its images can be opened", next_step="Replace the files"))
    counts = {name: [0, 0, 0, 0] for name in facts.classes}
    for record in scan.records:
        counts[record.class_name][2 * record.is_test + record.is_anomalous] += 1
    found = {name: ClassCounts(*each) for name, each in counts.items()}
    if facts.protocol == "one_vs_rest":
        found = {name: _against_others(name, found) for name in found}
    return OwnImages(
        dataset=dataset,
        facts=facts,
        layout=scan.layout,
        counts=found,
        count_lines=tuple(image_counts(dataset, images, facts, inspector)),
        appearance=appearance,
        depth=_depth_text(inspector.depth(dataset, images), images),
        n_masks=sum(bool(record.masks) for record in scan.records),
        gaps=tuple(map(typed_text, _gaps(facts, inspector.notes))),
    )


def _depth_text(depth: Depth, images: Images) -> str:
    """Return what is found, without how a range is taken where the plan will ask for one."""
    if depth_problems(depth, images):
        return f"{count_noun(len(depth.deep), 'image')} of more than 8 bits ({depth.deep[0][1].kind})."
    return depth_text(depth, images)


def _gaps(facts: DatasetFacts, notes: Iterable[str]) -> Iterator[str]:
    """Yield the notes on the data without those that `too_little` gives, and what one folder per class means."""
    yield from (note for note in notes if not note.endswith(" has no test anomalies."))
    if facts.protocol == "one_vs_rest" and len(facts.classes) > 1:
        yield (
            "Images of the other folders count as anomalous for each class; if all show one kind of part, put them "
            "into one folder."
        )


def _against_others(name: str, counts: Mapping[str, ClassCounts]) -> ClassCounts:
    others = [each for other, each in counts.items() if other != name]
    anomalous, tested = sum(each.nominal for each in others), sum(each.test_nominal for each in others)
    return counts[name]._replace(anomalous=anomalous, test_anomalous=tested)


class ChosenSetting(NamedTuple):
    """A key of the experiment file with its value and the reason for it."""

    key: str
    value: Any
    reason: str


def choices_for(found: OwnImages, name: str, given: Mapping[str, Any] | None = None) -> list[ChosenSetting]:
    """Return the settings for some images, in the order of an experiment file.

    What does not depend on the images is the preset's and stated all the same, to be changed in place.

    Args:
        found: the images.
        name: of the run.
        given: values of `GIVEN_KEYS` by the user.
    """
    one_seed = "One seed gives a first answer. With --set seeds=5 the others are added: they show the spread."
    return [
        ChosenSetting("schema", 2, ""),
        ChosenSetting("name", name, f"Results go to results/{name}."),
        ChosenSetting("preset", "folder", "Defaults for own images; everything below overrides them."),
        ChosenSetting("seeds", 1, one_seed),
        *_dataset(found),
        *_images(found),
        *(ChosenSetting(key, value, "As given by --set.") for key, value in (given or {}).items()),
        *_anomalies(found),
        *_network(),
        *_training(found),
        *_evaluation(found),
    ]


def _dataset(found: OwnImages) -> Iterator[ChosenSetting]:
    classes = f"{count_noun(len(found.counts), 'class')}, {count_noun(found.total, 'nominal training image')}"
    yield ChosenSetting(
        "dataset.root", str(found.dataset.root), f"Read as {found.layout or found.facts.protocol}: {classes}."
    )
    for option, value in found.dataset.options.items():
        yield ChosenSetting(f"dataset.options.{option}", value, "As given on the command line.")


def _images(found: OwnImages) -> Iterator[ChosenSetting]:
    seen, most = found.appearance, int(_PRESET["images"]["size"])
    side = max(_SMALLEST_SIDE, min(*seen.median, most) // _MULTIPLE * _MULTIPLE)
    small = "A defect must be a few pixels wide at this size: for finer ones raise both, time grows with the square."
    why = f"The images have {_sizes_text(seen)}; at most {most} px, at which the preset was measured. {small}"
    yield ChosenSetting("images.load_size", side, why)
    yield ChosenSetting("images.size", side, "As load_size: whole images are seen, with their rims.")
    yield ChosenSetting("images.resize", "area", "Averages pixels when it shrinks, so that fine lines stay.")
    gray = "a network with one input channel" if seen.colored == 0 else "color may show a defect"
    yield ChosenSetting("images.color", "rgb" if seen.colored else "gray", f"{_color_text(seen).capitalize()}: {gray}.")


def _anomalies(found: OwnImages) -> Iterator[ChosenSetting]:
    real, one_vs_rest = found.fewest.anomalous, found.facts.protocol == "one_vs_rest"
    if real >= _REAL:
        what = "images of the other classes" if one_vs_rest else "training anomalies"
        yield ChosenSetting(
            "anomalies.mode", "other", f"There are {real} or more {what} per class: training learns from them."
        )
        return
    few = (
        f"Only {real} real training anomalies in a class, fewer than {_REAL}" if real else "No real training anomalies"
    )
    why = f"{few}: defects are drawn on copies of the images, and training knows which pixels changed."
    yield ChosenSetting("anomalies.mode", _PRESET["anomalies"]["mode"], why)
    kinds = f"{SOURCES[_PRESET['anomalies']['source']].capitalize()}. Others: docs/anomalies.md."
    yield ChosenSetting("anomalies.source", _PRESET["anomalies"]["source"], kinds)


def _network() -> Iterator[ChosenSetting]:
    name = str(_PRESET["network"]["name"])
    yield ChosenSetting("network.name", name, f"{NETWORKS[name].title}; needs no download.")
    spread = "By the network: each cell of its map is spread over what it sees."
    yield ChosenSetting("heatmaps.kernel_std_px", _PRESET["heatmaps"].get("kernel_std_px"), spread)


def _training(found: OwnImages) -> Iterator[ChosenSetting]:
    preset, (held_out, _) = _PRESET["training"], _calibration(found.fewest.nominal)
    left = found.fewest.nominal - held_out_of(found.fewest.nominal, held_out)
    steps, batch, epochs = preset["min_steps"], preset["batch_size"], preset["epochs"]
    passes = math.ceil(steps * batch / left)
    yield ChosenSetting("preprocessing", _PRESET["preprocessing"], "As the preset, see docs/own_images.md.")
    few = f"{count_noun(left, 'image')} to train on in the smallest class: "
    yield ChosenSetting("training.batch_size", batch, f"{few}a small batch gives many steps, and fits any memory.")
    why = f"An epoch passes over the images until it has so many steps: {count_noun(passes, 'time')}."
    yield ChosenSetting("training.min_steps", steps, why if passes > 1 else "An epoch has more steps than this.")
    yield ChosenSetting("training.epochs", epochs, f"{epochs} epochs of {steps} steps or more.")
    yield ChosenSetting("training.optimizer", preset["optimizer"], "As the preset, with its learning rate:")
    yield ChosenSetting("training.learning_rate", preset["learning_rate"], "of the first epoch.")
    last = f"Falls to {preset['schedule']['factor'] ** (epochs - 1):.0%} of that by the last epoch."
    yield ChosenSetting("training.schedule", preset["schedule"], last)


def _calibration(nominal: int) -> tuple[float, float]:
    """Return the share of `nominal` images to hold out, 0 for none, and the false-alarm rate that they allow."""
    share = next(share for most, share in _HELD_OUT if nominal <= most)
    calibrating = held_out_of(nominal, share)
    if (
        _image_score(calibrating) == "auto"
    ):  # a hash of its name decides what an image is for: two deviations fewer are counted on
        calibrating = int(calibrating * (1 - _SELECTING) - 2 * math.sqrt(calibrating * _SELECTING * (1 - _SELECTING)))
    rate = max(_RATE, math.ceil(100 / (calibrating + 1)) / 100)
    return (share, rate) if rate <= _WORST_RATE else (0.0, _RATE)


def _evaluation(found: OwnImages) -> Iterator[ChosenSetting]:
    nominal = found.fewest.nominal
    share, rate = _calibration(nominal)
    if not share:
        few = f"{count_noun(nominal, 'image')}: too few to hold some out, so there is no decision, only scores."
        yield ChosenSetting("evaluation.validation.nominal_fraction", 0.0, few)
    else:
        held_out = held_out_of(nominal, share)
        chooses = _image_score(held_out) == "auto"
        use = (
            "a fifth of them choose the image score, the thresholds come from the others"
            if chooses
            else ("the thresholds come from them")
        )
        why = f"{held_out} of {nominal} nominal images are not trained on: {use}."
        yield ChosenSetting("evaluation.validation.nominal_fraction", share, why)
        usual = f"{_RATE:.0%} would need {fewest_images(_RATE)}. " if rate > _RATE else ""
        why = f"At most {rate:.0%} of new nominal images are called anomalous. {usual}"
        yield ChosenSetting(
            "evaluation.false_alarm_rate", rate, f"{why}A change needs no training: start this file again."
        )
    score = _image_score(held_out_of(nominal, share) if share else 0)
    yield ChosenSetting("evaluation.image_score", score, _SCORE_REASONS.get(str(score), "As the preset."))


def _image_score(held_out: int) -> Any:
    """Return the preset's score of an image; `max` where it leaves the default, or too few images could choose."""
    score = _PRESET.get("evaluation", {}).get("image_score", "max")
    return "max" if score == "auto" and held_out * _SELECTING < _FEWEST_CHOOSING else score


def too_little(found: OwnImages) -> list[str]:
    """Return sentences on what there is too little of."""
    notes = []
    for name, counts in found.counts.items():
        if counts.nominal < FEW:
            few = f"{count_noun(counts.nominal, 'nominal training image')}: below {FEW} expect a wide spread"
            notes.append(f"class '{name}': {few} between draws of the images.")
        tested = {"nominal": counts.test_nominal, "anomalous": counts.test_anomalous}
        if not counts.test_anomalous:
            notes.append(f"class '{name}': no test anomalies, so nothing can say how well it works.")
        elif few_of := [f"{number} {kind}" for kind, number in tested.items() if number < _FEW_TESTED]:
            few = f"{' and '.join(few_of)} test images: below {_FEW_TESTED} of a kind an AUROC says little"
            notes.append(f"class '{name}': {few}.")
    return notes


def experiment_text(choices: Sequence[ChosenSetting], head: Sequence[str]) -> str:
    """Return an experiment file: `head` as comments, then each key below the comment that gives its reason."""
    lines = [line for text in head for line in _comment(text, "")]
    above: list[str] = []
    for choice in choices:
        *sections, key = choice.key.split(".")
        if sections[:1] != above[:1]:
            lines.append("")
        for depth, section in enumerate(sections):
            if above[: depth + 1] != sections[: depth + 1]:
                lines.append(f"{'  ' * depth}{section}:")
        indent = "  " * len(sections)
        lines += [*_comment(choice.reason, indent), f"{indent}{key}: {json.dumps(choice.value, ensure_ascii=False)}"]
        above = sections
    return "\n".join([*lines, ""])


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def run_name(root: Path) -> str:
    """Return the name of the run, and of the file, for a folder: its own, in letters that any system takes."""
    stem = root.stem if root.is_file() else root.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:100].strip("-._") or "own-images"


def _sizes_text(seen: Appearance) -> str:
    if seen.sizes == 1:
        return f"{seen.median[0]}x{seen.median[1]} px"
    smallest, median, largest = ("x".join(map(str, size)) for size in (seen.smallest, seen.median, seen.largest))
    return f"{smallest} to {largest} px (median {median})"


def _color_text(seen: Appearance) -> str:
    if seen.colored in (0, 1):
        return "all in color" if seen.colored else "all gray"
    return f"{seen.colored:.0%} in color"
