"""The runner on Ray Tune, on a Ray of this machine."""

from functools import partial

import pytest

from fcdd_sweep.config.schema import Resources
from fcdd_sweep.runners import failures
from fcdd_sweep.runners.ray_runner import RayRunner
from tests.runners.conformance import CorePromises, RunnerConformance

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(failures, "MAX_WAIT_S", 0.05)


@pytest.fixture
def runner():
    return partial(RayRunner, Resources(device="cpu"))


class TestRayRunner(CorePromises):
    """Each of its tests starts a Ray."""


@pytest.mark.long
class TestRayRunnerInFull(RunnerConformance):
    """The same and the rest."""
