"""The runner on Ray Tune, on a Ray of this machine."""

from functools import partial

import pytest

from fcdd_sweep.config.schema import Resources
from fcdd_sweep.runners import failures
from fcdd_sweep.runners.ray_runner import RayRunner
from fcdd_sweep.runners.ray_session import connected
from tests.runners.conformance import RunnerConformance, StoppingConformance

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(failures, "MAX_WAIT_S", 0.05)


@pytest.fixture(scope="module")
def runner():
    with connected(None, lambda text: None) as scratch:
        yield partial(RayRunner, Resources(device="cpu"), scratch=scratch)


class TestRayRunner(StoppingConformance):
    """What `test_ray_driver.py` does not show."""


@pytest.mark.long
class TestRayRunnerInFull(RunnerConformance):
    """The same and the rest."""
