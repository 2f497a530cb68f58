"""What the names of folders say of the images in them, in the words that people use."""

from __future__ import annotations

import re
from typing import Literal

from fcdd_sweep.data.decoding.folders import Folder

NORMAL = frozenset({"normal", "nominal", "good"})
LABEL_FOLDERS = NORMAL | {"anomalous"}
_LIKE_NORMAL = NORMAL | frozenset(
    "defect_free fine healthy intact io no_defect non_defective ok pass passed regular undamaged".split()
)
_LIKE_ANOMALOUS = frozenset(
    """
    abnormal anomalies anomalous anomaly anormal bad broken damage damaged defect defective defects fail failed fault
    faulty ko nio ng no_good nok not_good not_ok reject rejected rejects scrap ungood
    """.split()
)
_MASKS = frozenset("annotations ground_truth groundtruth masks segmentations".split())
"""Words that are for maps whatever is before them: `screw_masks`, where `missing_mask` may be a defect."""
_LIKE_MAPS = _MASKS | frozenset("anno annotation gt label labels map maps mask seg segmentation".split())
_OF_SOMETHING = re.compile(rf"(.+)_({'|'.join(sorted(_LIKE_MAPS))})")
_SAYS_NOTHING = r"(?:\d+|data|(?:image|img|part|photo|picture|sample)s?)"
_AT_THE_ENDS = re.compile(rf"^(?:{_SAYS_NOTHING}_)+|(?:_{_SAYS_NOTHING})+$")
Role = Literal["normal", "anomalous", "maps"]


def role_of(folder: Folder) -> Role | None:
    """Return what a folder's name says of its images, in the words that people use; None for any other name.

    Numbers and words such as `parts` or `images` at its ends say nothing. `bad_masks` holds maps.
    """
    return _role_in(_plain(folder))


def role_of_masked(folder: Folder) -> Role | None:
    """Return what the name of a folder of maps says of their images: `normal` for `good_masks`."""
    found = _OF_SOMETHING.fullmatch(_plain(folder))
    return _role_in(found[1]) if found else None


def _plain(folder: Folder) -> str:
    return re.sub(r"[\s-]+", "_", folder.name.casefold())


def _role_in(name: str) -> Role | None:
    core = _AT_THE_ENDS.sub("", name)
    if core in _LIKE_NORMAL:
        return "normal"
    if core in _LIKE_ANOMALOUS:
        return "anomalous"
    if core in _LIKE_MAPS:
        return None if any(map(str.isdigit, name)) else "maps"  # `label_1` and `label_2` are classes
    found = _OF_SOMETHING.fullmatch(core)
    return "maps" if found and (found[2] in _MASKS or _role_in(found[1]) in ("normal", "anomalous")) else None


def is_normal(folder: Folder) -> bool:
    return folder.name.casefold() in NORMAL


def is_label(folder: Folder) -> bool:
    return folder.name.casefold() in LABEL_FOLDERS
