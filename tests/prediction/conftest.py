"""One run for all tests of prediction."""

import pytest

from tests.prediction import runs


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of a run with one class and three seeds."""
    folder = tmp_path_factory.mktemp("run") / "parts"
    runs.write_run(folder)
    return folder


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """Labelled images, `test/{good,crack}` with maps in `ground_truth/crack`."""
    return runs.write_parts(tmp_path_factory.mktemp("labelled") / "parts")
