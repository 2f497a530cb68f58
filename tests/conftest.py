"""What every test gets: one thread, since several test processes share the cores, and a cache of its own session."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Decoded images go to a folder that is gone afterwards, never to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FCDD_SWEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
