"""What is decided once for all files of a data set: the range of images of more than 8 bits, and what maps mark.

`depth_of` reads headers alone and serves planning; `survey` also reads maps and, where a range must be measured, the
nominal training images. It depends on files and settings alone, so that every machine finds the same answer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.schema import Images
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.config.trial_spec import digest
from fcdd_sweep.data.decoding.cache import cached
from fcdd_sweep.data.decoding.depth import (
    LARGEST,
    DeepHeader,
    ValueCounts,
    ValueRange,
    declared_range,
    deep_header,
    measured,
)
from fcdd_sweep.data.decoding.maps import MapFacts, MapRule, choose_rule, map_facts, rule_text
from fcdd_sweep.data.decoding.pixels import (
    DECODER_VERSION,
    Decoding,
    deep_values,
    drawn_on,
    read_map,
    stored_orientation,
)
from fcdd_sweep.data.decoding.reading import open_image
from fcdd_sweep.data.records import Record

_FILE = "survey.json"
_SET = "Set images.bit_depth, or images.range: [LOW, HIGH]"
_Found = TypeVar("_Found")
_Given = TypeVar("_Given")


@dataclass(frozen=True)
class Depth:
    """Which images of a data set have more than 8 bits per channel.

    Attributes:
        deep: their records and headers, in the order of the records.
        plain: the first file of 8 bits, or None.
        nominal_plain: the number of nominal training images of 8 bits.
    """

    deep: tuple[tuple[Record, DeepHeader], ...] = ()
    plain: Path | None = None
    nominal_plain: int = 0

    @property
    def nominal(self) -> list[tuple[Record, DeepHeader]]:
        return [(record, header) for record, header in self.deep if record.is_nominal_training]

    @property
    def declares(self) -> bool:
        return bool(self.nominal) and all(header.declares for _, header in self.nominal)


def depth_of(records: Sequence[Record]) -> Depth:
    """Return which images have more than 8 bits, from the headers of their files; unreadable files are passed over."""

    def header(record: Record) -> DeepHeader | None:
        try:
            return deep_header(record.file) if record.file is not None else None
        except OSError:
            return None

    files = [record for record in records if record.file is not None]
    found = list(zip(files, _in_threads(header, files), strict=True))
    plain = [record for record, header in found if header is None]
    return Depth(
        tuple((record, header) for record, header in found if header is not None),
        plain[0].file if plain else None,
        sum(record.is_nominal_training for record in plain),
    )


def depth_problems(depth: Depth, images: Images) -> list[Problem]:
    """Return why no range can be found for the images of more than 8 bits."""
    if not depth.deep or images.range is not None or images.bit_depth is not None:
        return []
    first, nominal = str(depth.deep[0][0].file), depth.nominal
    count = f"{len(depth.deep)} image{'s' if len(depth.deep) > 1 else ''}"
    if not nominal:
        what = f"{count} of more than 8 bits, but no nominal training image to take their range from"
        return [Problem(first, what, next_step=_SET)]
    if depth.declares:
        return []
    if unbounded := [record for record, header in depth.deep if not header.whole]:
        images_ = count_noun(len(unbounded), "image")
        what = f"{images_} of floating point, with a sign or of 32 bits, whose range is unknown"
        return [Problem(str(unbounded[0].file), what, next_step=_SET)]
    if depth.plain is not None:
        what = (
            f"{count} of more than 8 bits among others of 8 bits ({depth.plain}): their range cannot be measured alone"
        )
        return [Problem(first, what, next_step=_SET)]
    return []


def depth_text(depth: Depth, images: Images) -> str:
    """Return a sentence for the plan on images of more than 8 bits; empty where nothing needs to be said."""
    given = given_range(images)
    if not depth.deep:
        return f"No image has more than 8 bits: {given.origin} has no effect." if given else ""
    begin = f"{count_noun(len(depth.deep), 'image')} of more than 8 bits ({depth.deep[0][1].kind})"
    others = "; those of 8 bits are taken as they are" if depth.plain is not None else ""
    if given:
        return f"{begin}: {given}{others}."
    if not depth.declares:
        return f"{begin}: their range will be measured on {count_noun(len(depth.nominal), 'nominal training image')}."
    headers = [header for _, header in depth.nominal]
    if all(header.significant is None for header in headers):
        return f"{begin}: {declared_range(iter(headers), None)}{others}."
    bits = max(header.significant or 0 for header in headers)
    return f"{begin}: sBIT declares {bits} bits, checked on the nominal training images{others}."


def given_range(images: Images) -> ValueRange | None:
    """Return the range that the settings give, or None."""
    if images.range is not None:
        return ValueRange(images.range[0], images.range[1], "images.range")
    return None if images.bit_depth is None else ValueRange(0, 2**images.bit_depth - 1, "images.bit_depth")


def in_range(images: Images, value_range: ValueRange | None) -> Images:
    """Return settings with which images beside the data set are decoded as its own are."""
    if value_range is None:
        return images
    return images.model_copy(update={"range": [value_range.low, value_range.high], "bit_depth": None})


def decoding_of(images: Images) -> Decoding:
    """Return how files are decoded as far as the settings alone say."""
    rule = MapRule("values" if images.map_rule == "auto" else images.map_rule, background=images.map_background)
    return Decoding(given_range(images), rule, images.max_megapixels)


@dataclass(frozen=True)
class Survey:
    """How a data set is decoded, and sentences for the report about it."""

    decoding: Decoding
    notes: tuple[str, ...] = ()


def survey(wanted: Sequence[Record], every: Sequence[Record], images: Images, cache: Path, root: str) -> Survey:
    """Return how the files of a data set are decoded; found once per machine, then kept in the cache.

    Args:
        wanted: the images that are read; where none has more than 8 bits, or a map, those of other classes decide
            nothing about that.
        every: the images of all classes, which decide: sweeps over some of them must agree with sweeps over all.
        images: settings.
        cache: the cache folder.
        root: names the data set in the cache.
    Raises:
        DataError: files that contradict each other, or whose range is unknown.
    """
    files = [record for record in wanted if record.file is not None]
    if not files:
        return Survey(decoding_of(images))
    stamps = [[record.path, record.stamp, record.is_nominal_training] for part in (files, every) for record in part]
    settings = [images.bit_depth, images.range, images.map_rule, images.map_background, images.max_megapixels]
    key = digest([root, len(files), stamps, settings, DECODER_VERSION])

    def build(folder: Path) -> None:
        (folder / _FILE).write_text(json.dumps(_plain(_surveyed(files, every, images))), encoding="utf-8")

    return _from_plain(json.loads((cached(cache, f"survey-{key}", 4096, build) / _FILE).read_text(encoding="utf-8")))


def _surveyed(wanted: Sequence[Record], every: Sequence[Record], images: Images) -> Survey:
    depth = depth_of(every) if depth_of(wanted).deep else Depth()
    problems = depth_problems(depth, images)
    with_maps = every if any(record.masks for record in wanted) else ()
    facts = _facts_of_maps(with_maps, images.max_megapixels)
    rule, map_problems = choose_rule(facts, images)
    if problems := [*problems, *map_problems]:
        raise DataError(problems)
    value_range = _range(depth, images)
    notes = filter(None, (_depth_note(depth, value_range), _turned_note(facts), _rule_note(facts, rule)))
    return Survey(Decoding(value_range, rule, images.max_megapixels), tuple(notes))


def rule_of_maps(records: Sequence[Record], images: Images) -> MapRule:
    """Return how the maps of images are read.

    Raises:
        DataError: some maps do not fit one rule.
    """
    rule, problems = choose_rule(_facts_of_maps(records, images.max_megapixels), images)
    if problems:
        raise DataError(problems)
    return rule


def _range(depth: Depth, images: Images) -> ValueRange | None:
    if not depth.deep:
        return None
    if given := given_range(images):
        return given
    headers = [header for _, header in depth.nominal]
    if depth.declares:
        needs_counts = any(header.declared is None for header in headers)
        return declared_range(iter(headers), _counts(depth.nominal, images) if needs_counts else None)
    return measured(_counts(depth.nominal, images))


def _counts(nominal: Sequence[tuple[Record, DeepHeader]], images: Images) -> ValueCounts:
    """Return (65536,) how often each value occurs in nominal training images; transparency does not count.

    Raises:
        DataError: none of them can be read.
    """

    def count(pair: tuple[Record, DeepHeader]) -> ValueCounts | None:
        record, header = pair
        assert record.file is not None  # it has a header
        try:
            values = deep_values(record.file, header, images.max_megapixels)
        except DataError:  # decoding names it
            return None
        if values.ndim == 3 and values.shape[2] in (2, 4):
            values = values[..., :-1]
        return np.bincount(values.ravel(), minlength=LARGEST + 1)

    total = np.zeros(LARGEST + 1, np.int64)
    for counts in _in_threads(count, nominal):
        total += 0 if counts is None else counts
    if not total.any():
        what = f"none of {count_noun(len(nominal), 'nominal training image')} of more than 8 bits can be read"
        raise DataError(Problem(str(nominal[0][0].file), what, next_step="Replace the files"))
    return total


def _facts_of_maps(files: Sequence[Record], max_megapixels: float) -> list[MapFacts]:
    """Return the facts of all maps; maps that do not decode are passed over, and decoding names them."""

    def facts(pair: tuple[Record, Path]) -> MapFacts | None:
        record, mask = pair
        assert record.file is not None  # it has a map
        try:
            content, turned = read_map(mask, max_megapixels)
            orientation = 1 if turned else stored_orientation(record.file)
            place = ""
            if orientation != 1:
                with open_image(record.file, record.file, max_megapixels) as image:
                    stored = image.size[::-1]
                place = drawn_on(content.codes.shape, stored[::-1] if orientation >= 5 else stored, orientation)
            return map_facts(mask, content, place)
        except Exception:  # of the image or of the map; decoding names it
            return None

    found = _in_threads(facts, [(record, mask) for record in files for mask in record.masks])
    return [each for each in found if each is not None]


def _depth_note(depth: Depth, value_range: ValueRange | None) -> str:
    if value_range is None:
        return ""
    shallow = f"; {count_noun(depth.nominal_plain, 'nominal training image')} of 8 bits as they are"
    return f"Images of more than 8 bits: {value_range}{shallow if depth.nominal_plain else ''}."


def _rule_note(facts: Sequence[MapFacts], rule: MapRule) -> str:
    """Return a note on maps that are not simply 0 and one other value."""
    several = sum(each.values is None or len(each.values) > 2 for each in facts)
    if not several and rule == MapRule():
        return ""
    counted = f"; {several} of {count_noun(len(facts), 'map')} have more than two values" if several else ""
    return f"{rule_text(rule)}{counted}."


def _turned_note(facts: Sequence[MapFacts]) -> str:
    unknown = [each for each in facts if each.turned == "unknown"]
    if not unknown or any(each.turned == "stored" for each in facts) != any(each.turned == "upright" for each in facts):
        return ""  # none, or the sizes of other maps show what all are drawn on
    count = count_noun(len(unknown), "map")
    return f"{count} of images that EXIF turns may be upright or not, taken as upright: {unknown[0].path}."


def _in_threads(find: Callable[[_Given], _Found], given: Iterable[_Given]) -> Iterable[_Found]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        yield from threads.map(find, given)


def _plain(found: Survey) -> dict[str, Any]:
    return {**asdict(found.decoding), "notes": found.notes}


def _from_plain(plain: dict[str, Any]) -> Survey:
    value_range = None if plain["value_range"] is None else ValueRange(**plain["value_range"])
    return Survey(Decoding(value_range, MapRule(**plain["maps"]), plain["max_megapixels"]), tuple(plain["notes"]))
