"""The keys that are no part of a trial's identity exist."""

from __future__ import annotations

from fcdd_sweep.config.grid import KNOWN_KEYS
from fcdd_sweep.config.trial_spec import NOT_IDENTITY, slug


def test_every_key_outside_of_the_identity_is_a_key_of_the_schema():
    assert [key for key in NOT_IDENTITY if key not in KNOWN_KEYS] == []
    assert len(set(NOT_IDENTITY)) == len(NOT_IDENTITY)


def test_a_long_class_has_a_folder_that_file_systems_allow():
    names = ["a" * 250, "a" * 249 + "b", "ä" * 250]
    folders = [f"normal_{slug(name)}" for name in names]
    assert all(len(folder) <= 255 for folder in folders) and len(set(folders)) == 3
    assert slug("a" * 240) == "a" * 240
