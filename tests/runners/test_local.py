"""The runner in this process."""

import pytest

from fcdd_sweep.runners import failures
from fcdd_sweep.runners.local import LocalRunner
from tests.runners.conformance import RunnerConformance


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(failures, "MAX_WAIT_S", 0.05)


class TestLocalRunner(RunnerConformance):
    @pytest.fixture
    def runner(self):
        return LocalRunner
