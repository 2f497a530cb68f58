"""A planned experiment from its text."""

import pytest

from fcdd_sweep.planning.plan import plan_file


@pytest.fixture
def planned(tmp_path):
    """Plans an experiment from text."""

    def planned(text, *overrides):
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        return plan_file(path, overrides)[1]

    return planned
