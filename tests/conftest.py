"""What every test gets: one thread, since several test processes share the cores, and a cache of its own session."""

import os
import shutil
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch

from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.report import aggregate
from fcdd_sweep.report.figures.run_figures import RunFigures
from fcdd_sweep.report.leaf_pictures import LeafPictures
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners import ray_session
from fcdd_sweep.sweep.session import Session

torch.set_num_threads(1)
# Ray keeps to what it read when it was first imported: a password, as our own sweeps' Ray has
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=ray_session._TOKEN)
os.environ["RAY_worker_niceness"] = "0"  # workers of clusters that tests make would starve beside other tests
TESTS = Path(__file__).parent
MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes free in memory from which on tests write there: what they publish is flushed to disk, file by file."""
MAY_RUN = MEMORY.is_dir() and not os.statvfs(MEMORY).f_flag & getattr(os, "ST_NOEXEC", 0)
if MAY_RUN and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


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


DRAWING = {
    (aggregate, "draw_run"): aggregate.draw_run,
    (LeafPictures, "add_stale"): LeafPictures.add_stale,
    (LeafPictures, "add"): LeafPictures.add,
}
NOTHING_DRAWN = {
    (aggregate, "draw_run"): lambda run, ranked, anew=False: RunFigures(),
    (LeafPictures, "add"): lambda self, leaves: None,
}
NO_LEAF_DRAWN = {(LeafPictures, "add_stale"): lambda self, trials, again=False: None}


@contextmanager
def drawing_by(functions):
    """Draw by these functions while entered."""
    with pytest.MonkeyPatch.context() as patch:
        for (owner, name), function in functions.items():
            patch.setattr(owner, name, function)
        yield


@pytest.fixture(autouse=True, scope="module")
def without_figures(request):
    """Leave out the figures of runs and trials, most of the time of a small sweep, outside of the report's tests.

    In these the figures of trials are left out.
    """
    in_report = request.path.relative_to(TESTS).parts[0] == "report"
    with drawing_by(NO_LEAF_DRAWN if in_report else NOTHING_DRAWN):
        yield


@pytest.fixture(scope="module")
def drawn():
    """Draw figures while entered, in the fixtures of a file; tests are marked `figures`."""
    return partial(drawing_by, DRAWING)


@pytest.fixture(autouse=True)
def with_figures_where_marked(request, drawn):
    with drawn() if "figures" in request.keywords else nullcontext():
        yield


@pytest.fixture
def load(tmp_path):
    """Loads an experiment from text."""

    def load(text, *overrides):
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        return load_experiment(path, overrides)

    return load


@pytest.fixture
def without_report(monkeypatch):
    """Leave out the report: tests of a search are not those of its report."""
    monkeypatch.setattr(Session, "make_report", lambda session: RunPaths(session.ledger.run_dir).report)
