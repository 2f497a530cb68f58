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
_LIKE_MAPS = frozenset(
    """
    anno annotation annotations anomaly_mask anomaly_masks defect_mask defect_masks ground_truth groundtruth gt label
    labels map maps mask masks seg segmentation segmentations
    """.split()
)
_SAYS_NOTHING = r"(?:\d+|data|(?:image|img|part|photo|picture|sample)s?)"
_AT_THE_ENDS = re.compile(rf"^(?:{_SAYS_NOTHING}_)+|(?:_{_SAYS_NOTHING})+$")
Role = Literal["normal", "anomalous", "maps"]


def role_of(folder: Folder) -> Role | None:
    """Return what a folder's name says of its images, in the words that people use; None for any other name.

    Numbers and words such as `parts` or `images` at its ends say nothing.
    """
    name = re.sub(r"[\s-]+", "_", folder.name.casefold())
    core = _AT_THE_ENDS.sub("", name)
    if core in _LIKE_NORMAL:
        return "normal"
    if core in _LIKE_ANOMALOUS:
        return "anomalous"
    numbered = any(map(str.isdigit, name))  # `label_1` and `label_2` are classes
    return "maps" if core in _LIKE_MAPS and not numbered else None


def is_normal(folder: Folder) -> bool:
    return folder.name.casefold() in NORMAL


def is_label(folder: Folder) -> bool:
    return folder.name.casefold() in LABEL_FOLDERS
