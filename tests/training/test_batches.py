"""Anomalies in their places within a batch."""

import numpy as np
import pytest
import torch

from fcdd_sweep.training.batches import _Slots


@pytest.mark.parametrize("replaced", [[True], [False, True, True, False, True], [True] * 4, [False, False, True]])
def test_anomalies_take_the_places_of_the_replaced_samples_in_their_order(replaced):
    replaced = np.array(replaced)
    batch = torch.arange(len(replaced) * 12, dtype=torch.uint8).view(-1, 3, 2, 2)
    anomalies = 200 + torch.arange(int(replaced.sum()), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    expected = batch.clone()
    expected[torch.from_numpy(replaced)] = anomalies
    filled = _Slots.of(replaced, torch.device("cpu")).filled(batch, anomalies)
    assert filled.dtype == torch.uint8 and torch.equal(filled, expected)
