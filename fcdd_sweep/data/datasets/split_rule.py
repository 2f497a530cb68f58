"""The split of images that their folders or tables do not split: by a hash that no other image changes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from fcdd_sweep.config.errors import DataError, Problem
from fcdd_sweep.config.names import name_share, printable
from fcdd_sweep.config.schema import Dataset

TEST_SHARE = 1 / 3
"""Share of the groups that are test images."""
GROUP = "dataset.options.group"


@dataclass(frozen=True)
class SplitRule:
    """Which images are test images: those of about a third of all groups, whichever other images there are.

    Attributes:
        pattern: its first group, found in an image's file name, names the images that stay together; None: each image
            is a group of its own.
        seed: draws another split; 0 is the split of earlier versions.
    """

    pattern: re.Pattern[str] | None = None
    seed: int = 0

    def is_test(self, class_name: str, name: str, group: str = "") -> bool:
        """Return whether an image is a test image.

        Args:
            class_name: of the image; groups of two classes are two groups.
            name: the path below its class's folder, with forward slashes.
            group: the group that a table names; empty: `pattern` finds it in the file's name.
        """
        key = f"{class_name}/{group or self.group_of(name)}"
        return name_share(f"{self.seed}:{key}" if self.seed else key) < TEST_SHARE

    def group_of(self, name: str) -> str:
        """Return the group of a file: the whole `name` where the pattern is not found."""
        found = self.pattern.search(name.rsplit("/", 1)[-1]) if self.pattern else None
        return name if found is None or not found[1] else found[1]


def split_rule(dataset: Dataset) -> SplitRule:
    """Return the rule that `dataset.options` asks for.

    Raises:
        DataError: the group's pattern is no regular expression, or has no group.
    """
    text, seed = str(dataset.options.get("group", "")), int(dataset.options.get("split_seed", 0))
    if not text:
        return SplitRule(seed=seed)
    try:
        pattern = re.compile(text)
    except re.error as error:
        _refuse(f"is no regular expression ({error}): {text}")
    if not pattern.groups:
        _refuse(f"has no group in parentheses: {text}")
    return SplitRule(pattern, seed)


def _refuse(what: str) -> NoReturn:
    allowed = "a regular expression on the file name whose first group names images that stay together"
    raise DataError(Problem(GROUP, printable(what), allowed, r"For example '^(part\d+)_'"))
