"""What the host decides about a step, in a row of bytes."""

import numpy as np
import pytest
import torch

from fcdd_sweep.training import anomaly_pools
from fcdd_sweep.training.preprocessing import Augmentation
from fcdd_sweep.training.step_plan import ANOMALIES, AUGMENTATION, DROPOUT, PlanRow, RowLayout, in_batches
from tests.prepared import FOLDER, Patchy, made, pixels, plan_of


@pytest.mark.parametrize("image", [None, (3, 4, 4)])
def test_a_row_gives_back_what_was_written(image):
    rng = np.random.default_rng(0)
    row = PlanRow(RowLayout(7, image))
    replaced = np.array([0, 1, 1, 0, 0, 1, 0], dtype=bool)
    flags = rng.random((3, 7)) < 0.5
    decided = Augmentation(*rng.integers(-4, 9, (2, 7)), *flags, rng.random((7, 4)).astype(np.float32))
    row.keys[:] = 2**62, 5, 6
    row.put_samples(np.arange(7) * 3, replaced)
    row.put_augmentation(decided)
    if image is None:
        row.put_drawn(replaced, np.array([9, 8, 7]))
    else:
        read = rng.integers(0, 256, (3, *image)).astype(np.uint8)
        row.put_pixels(replaced, read)
    plan = plan_of(row)
    assert plan.keys.tolist() == [2**62, 5, 6] and plan.pick.tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert plan.replaced.tolist() == replaced.tolist()
    for found, wanted in zip(plan.augmentation, decided, strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted)
    if image is None:
        assert plan.drawn.tolist() == [0, 9, 8, 0, 0, 7, 0] and plan.pixels is None
        assert row.used == len(row.content) == row.layout.size
    else:
        np.testing.assert_array_equal(plan.pixels[plan.drawn[plan.replaced]].numpy(), read)
        assert row.used == len(row.content) - 4 * 48  # of four samples that stay


def test_steps_that_are_left_out_draw_nothing_and_change_no_later_one(monkeypatch):
    monkeypatch.setattr(anomaly_pools, "RESIDENT_BYTES", 1000)
    found = made(exposure=Patchy(pixels()), anomalies=FOLDER, training={"batch_size": 8})
    whole, rest = list(found.batches.planner.rows(3)), list(found.batches.planner.rows(3, 2))
    assert len(whole) == 5 and len(rest) == 3
    for row, again in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(row.content[: row.used], again.content[: again.used])


def test_keys_name_the_draws_that_the_device_makes():
    def keys(sections, **options):
        return made(**sections).batches.planner.row(np.arange(4), 1, 0, **options).keys.tolist()

    confetti = keys({"preprocessing": "aug1"}, dropout=True)
    assert all(confetti) and len(set(confetti)) == 3
    assert keys({"preprocessing": "none"}) == [confetti[ANOMALIES], 0, 0]
    nominal = {"anomalies": {"mode": "unsupervised", "source": None}, "preprocessing": "aug1"}
    assert keys(nominal, dropout=True) == [0, confetti[AUGMENTATION], confetti[DROPOUT]]


@pytest.mark.parametrize(("count", "sizes"), [(40, [13, 13, 14]), (39, [13] * 3), (12, [12]), (1, [1]), (14, [14])])
def test_one_sample_left_over_joins_the_last_batch(count, sizes):
    assert [len(batch) for batch in in_batches(np.arange(count), 13)] == sizes


def test_a_row_fits_in_what_cuda_copies_without_waiting():
    assert RowLayout(512).size < 2**16
    assert torch.from_numpy(PlanRow(RowLayout(3)).content).numel() == RowLayout(3).size
