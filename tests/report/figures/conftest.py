"""A finished trial's folder, for tests of figures."""

from __future__ import annotations

import pytest

from tests import fakes


@pytest.fixture(scope="module")
def leaf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leaf")
    fakes.write_leaf(folder, fakes.key("", "brick", 0), wrong=3, size=32)
    return folder
