"""The null device for the tests of this folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nullcuda.build import build

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def null_device(tmp_path_factory):
    """Runs a module of this folder on the null device and returns what it prints."""
    environment = os.environ | build(tmp_path_factory.mktemp("nullcuda")) | {"PYTHONPATH": str(ROOT)}

    def run(module, *arguments):
        command = [sys.executable, "-m", f"tests.nullcuda.{module}", *arguments]
        ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        if "with CUDA capability sm_0 is not compatible" in ended.stderr and ended.returncode:
            pytest.skip("this torch warns of the null device, which says of itself what no card does")
        if ended.returncode:
            raise RuntimeError(ended.stderr)
        return json.loads(ended.stdout)

    return run
