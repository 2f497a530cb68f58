"""scikit-learn's digits: all of them, a third of each class for testing, the same third on every machine."""

from __future__ import annotations

from collections import Counter

import numpy as np
from sklearn.datasets import load_digits

from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.datasets.digits import scan

RECORDS = scan(Dataset(name="digits"), Images(load_size=8, size=8, color="gray")).records


def test_each_digit_is_there_once_in_the_order_of_scikit_learn():
    target = load_digits().target
    assert [record.class_name for record in RECORDS] == [str(label) for label in target]
    assert len({record.path for record in RECORDS}) == 1797


def test_a_third_of_each_class_is_for_testing():
    whole = Counter(record.class_name for record in RECORDS)
    tested = Counter(record.class_name for record in RECORDS if record.is_test)
    assert tested == {name: count // 3 for name, count in whole.items()}


def test_sixteen_levels_become_the_full_range():
    image = RECORDS[0].load().image
    assert np.array_equal(image, np.rint(load_digits().images[0] * (255 / 16)).astype(np.uint8))
