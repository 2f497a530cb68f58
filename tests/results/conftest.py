"""A real S3 server on this machine, and a folder in it for each test."""

import uuid

import pytest

from fcdd_sweep.config.locations import parse_location
from tests.s3 import served


@pytest.fixture(scope="module")
def server():
    with served() as started:
        yield started


@pytest.fixture
def store(server):
    """A folder of the store for this test alone."""
    return parse_location(server.address(uuid.uuid4().hex))
