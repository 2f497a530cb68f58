"""The runner on Ray Tune, on a Ray of this machine."""

from functools import partial

import pytest

from fcdd_sweep.config.schema import Resources
from fcdd_sweep.runners import failures
from fcdd_sweep.runners.ray_runner import RayRunner
from tests.runners.conformance import RunnerConformance, StoppingConformance

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(failures, "MAX_WAIT_S", 0.05)


@pytest.fixture
def runner():
    return partial(RayRunner, Resources(device="cpu"))


class TestRayRunner(StoppingConformance):
    """What `test_ray_driver.py` does not show; each test starts a Ray."""


@pytest.mark.long
class TestRayRunnerInFull(RunnerConformance):
    """The same and the rest."""
