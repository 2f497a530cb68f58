"""The same test images under every member of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fcdd_sweep.metrics import shown_images
from fcdd_sweep.report.compared_runs import ComparedGroup
from fcdd_sweep.report.figures.color_maps import low_high
from fcdd_sweep.report.figures.heatmaps import LABEL_NAMES, NO_MAP_MARK, TrialMaps, common_paths
from fcdd_sweep.report.figures.image_grid import Strip, StripRow, absent_row, as_rgb, draw_strips, map_row
from fcdd_sweep.report.figures.run_figures import HEATMAPS_FILE, maps_of
from fcdd_sweep.report.figures.style import save_picture

MOST_IN_PICTURE = 8
"""Most members in a picture."""
_UNREADABLE = "unreadable"
_COLOR_NOTE = "Colors: each method and seed spans the range of its own reference images, {}."
ImagePaths = npt.NDArray[np.str_]


def draw_compared_class(group: ComparedGroup, name: str, folder: Path, problems: list[str]) -> Path | None:
    """Draw one figure per seed and one of all seeds, `it_SEED.png` and `heatmaps.png`.

    Args:
        group: what is compared; the first `MOST_IN_PICTURE` members are drawn.
        name: the normal class.
        folder: for the figures.
        problems: gets a sentence on each member that is not drawn.
    Returns:
        The figure of all seeds; None where no seed has two members with a test image in common.
    """
    by_seed = {seed: maps_by_member(group, name, seed, problems) for seed in group.seeds(name)}
    problems.extend(
        f"{' '.join(filter(None, [group.title, name]))}, seed {seed}: {group.members[member].title} is {reason}"
        for seed, maps in by_seed.items()
        for member, reason in maps.items()
        if isinstance(reason, str)
    )
    found = {seed: [each for each in maps.values() if isinstance(each, TrialMaps)] for seed, maps in by_seed.items()}
    drawn = {seed: by_seed[seed] for seed, maps in found.items() if maps}
    if not drawn or max(map(len, found.values())) < 2:
        return None
    images = compared_images([each for maps in found.values() for each in maps])
    if not len(images):
        problems.append(f"{name}: no test image is kept by all, so that none is drawn")
        return None
    first = next(iter(group.members.values())).run
    titles = {member: each.title for member, each in group.members.items()}
    display = first.experiment.heatmaps
    quantile, note = display.color_quantile, _COLOR_NOTE.format(low_high(display.color_map))
    strips = {
        seed: member_strip({titles[member]: each for member, each in maps.items()}, images, f"seed {seed}", quantile)
        for seed, maps in drawn.items()
    }
    for seed, strip in strips.items():
        save_picture(draw_strips([strip], note=note), folder / f"it_{seed}.png")
    return save_picture(draw_strips(list(strips.values()), note=note), folder / HEATMAPS_FILE)


def maps_by_member(group: ComparedGroup, name: str, seed: int, problems: list[str]) -> dict[str, TrialMaps | str]:
    """Return by member the maps of a trial, or in a word why there are none: its status, or `unreadable`."""
    found: dict[str, TrialMaps | str] = {}
    for member, each in list(group.members.items())[:MOST_IN_PICTURE]:
        trial = each.trial(name, seed)
        if trial is None or not trial.is_done:
            found[member] = trial.status.value if trial else "not planned"
        else:
            found[member] = maps_of(each.run, trial, problems) or _UNREADABLE
    return found


def compared_images(maps: Sequence[TrialMaps], nominal: int = 3, anomalous: int = 6) -> ImagePaths:
    """Return the paths of test images that all of the trials kept: of each label equidistant by the first's score."""
    if not maps:
        return np.zeros(0, np.str_)
    common = common_paths(maps)
    rows = maps[0].rows_of(common)
    label, score = maps[0].label[rows], maps[0].score[rows]
    counts = (nominal, anomalous)
    return common[np.concatenate([shown_images.equidistant(label, score, value, counts[value]) for value in (0, 1)])]


def member_strip(maps: Mapping[str, TrialMaps | str], images: ImagePaths, title: str, quantile: float) -> Strip:
    """Return input, one row of heatmaps per member, each in the colors of its own reference set, and ground truth.

    Args:
        maps: by title; a reason in place of maps gives a row of empty images.
        images: paths that all of them kept.
        title: text above the strip.
        quantile: share of the values that the colors span.
    Raises:
        ValueError: none has maps.
    """
    first = next((each for each in maps.values() if isinstance(each, TrialMaps)), None)
    if first is None:
        raise ValueError("no member has heatmaps: there is nothing to draw")
    rows = first.rows_of(images)
    inputs = as_rgb(first.images[rows])
    strip_rows = [StripRow("input", inputs)]
    for member, each in maps.items():
        if isinstance(each, str):
            strip_rows.append(absent_row(f"{member}:\n{each}", inputs))
        else:
            strip_rows.append(StripRow(member, each.colored(each.rows_of(images), quantile, "global")))
    if first.gt_maps is not None:
        strip_rows.append(map_row("ground\ntruth", first.gt_maps[rows], NO_MAP_MARK))
    captions = tuple(LABEL_NAMES[label] for label in first.label[rows])
    return Strip(title, tuple(strip_rows), captions)
