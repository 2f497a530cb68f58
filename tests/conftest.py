"""What every test gets: one thread, since several test processes share the cores, and a cache of its own session."""

import os
from pathlib import Path

import pytest
import torch

from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.report import aggregate
from fcdd_sweep.report.figures.run_figures import RunFigures
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners import ray_session
from fcdd_sweep.sweep import trial

torch.set_num_threads(1)
# Ray keeps to what it read when it was first imported: a password, as our own sweeps' Ray has
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=ray_session._TOKEN)
TESTS = Path(__file__).parent
ROOMS_WITHOUT_FIGURES = {"config", "data", "planning", "results", "runners", "search", "sweep"}


def pytest_collection_modifyitems(items):
    """Begin with the files that start Ray: they wait more than they compute, while others use the cores."""
    waiting = {item.path for item in items if item.get_closest_marker("ray") and not item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in waiting)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Decoded images go to a folder that is gone afterwards, never to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FCDD_SWEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def without_figures(request, monkeypatch):
    """Leave out the figures of a run and its trials, most of the time of a small sweep, outside of tests that see them.

    They are drawn in the tests of the report and of whole commands, and where a test is marked `figures`.
    """
    room = request.path.relative_to(TESTS).parts[0]
    if room in ROOMS_WITHOUT_FIGURES and "figures" not in request.keywords:
        monkeypatch.setattr(aggregate, "draw_run", lambda run, *, redraw: RunFigures())
        monkeypatch.setattr(trial, "_draw", lambda spec, leaf: None)


@pytest.fixture
def load(tmp_path):
    """Loads an experiment from text."""

    def load(text, *overrides):
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        return load_experiment(path, overrides)

    return load


@pytest.fixture
def without_search_report(monkeypatch):
    """Tests of a search are not those of its report."""
    from fcdd_sweep.search import search

    monkeypatch.setattr(search, "aggregate", lambda run_dir, tell: RunPaths(run_dir).report)
