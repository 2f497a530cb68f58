"""The keys that are no part of a trial's identity exist."""

from __future__ import annotations

from fcdd_sweep.config.grid import KNOWN_KEYS
from fcdd_sweep.config.trial_spec import NOT_IDENTITY


def test_every_key_outside_of_the_identity_is_a_key_of_the_schema():
    assert [key for key in NOT_IDENTITY if key not in KNOWN_KEYS] == []
    assert len(set(NOT_IDENTITY)) == len(NOT_IDENTITY)
