"""Values of more than 8 bits are read with all of their bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcdd_sweep.data.decoding.depth import deep_header
from fcdd_sweep.data.decoding.reading import read_values
from tests.formats import write_png16


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("filtering", range(5))
def test_every_bit_of_a_png_is_read_under_every_filter(tmp_path: Path, channels: int, filtering: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (7, 9, channels)).astype(np.uint16)
    values = values[..., 0] if channels == 1 else values
    path = write_png16(tmp_path / "a.png", values, filtering=filtering)
    header = deep_header(path)
    assert header is not None
    np.testing.assert_array_equal(read_values(path, header), values)
