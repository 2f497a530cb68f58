"""What the host decides about a step, in a row of bytes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from fcdd_sweep.training import anomaly_pools, step_plan
from fcdd_sweep.training.preprocessing import Augmentation, Recipe
from fcdd_sweep.training.step_plan import ANOMALIES, AUGMENTATION, DROPOUT, PlanRows, RowLayout, in_batches
from tests.prepared import FOLDER, Patchy, anomalies_of, drawn_of, made, pixels, plan_of


@pytest.mark.parametrize("image", [None, (3, 4, 4), (1, 5, 3)])
def test_a_row_gives_back_what_was_written(image):
    rng = np.random.default_rng(0)
    rows = PlanRows(RowLayout(7, image))
    replaced = np.array([0, 1, 1, 0, 0, 1, 0], dtype=bool)
    flags = rng.random((3, 7)) < 0.5
    decided = Augmentation(*rng.integers(-4, 9, (2, 7)), *flags, rng.random((7, 4)).astype(np.float32))
    rows.keys[:] = 2**62, 5, 6
    rows.put_samples(np.arange(7)[None] * 3, replaced[None])
    rows.put_augmentation(decided)
    if image is None:
        rows.put_drawn(replaced[None], np.array([9, 8, 7]))
    else:
        read = rng.integers(0, 256, (3, *image)).astype(np.uint8)
        rows.put_pixels(replaced[None], read)
    (row,) = rows
    plan = plan_of(row)
    assert plan.keys.tolist() == [2**62, 5, 6] and plan.pick.tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert plan.replaced.tolist() == replaced.tolist()
    for found, wanted in zip(plan.augmentation, decided, strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted)
    assert len(row.memory) == row.layout.size and row.layout.size % 8 == 0
    if image is None:
        assert plan.drawn.tolist() == [0, 9, 8, 0, 0, 7, 0] and plan.pixels is None
        assert row.used == row.layout.size
    else:
        np.testing.assert_array_equal(plan.pixels[plan.drawn[plan.replaced]].numpy(), read)
        assert row.used == RowLayout(7).size + read.nbytes  # without those of samples that stay


def test_steps_that_are_left_out_draw_nothing_and_change_no_later_one(monkeypatch):
    monkeypatch.setattr(anomaly_pools, "RESIDENT_BYTES", 1000)
    found = made(exposure=Patchy(pixels()), anomalies=FOLDER, training={"batch_size": 8})
    whole, rest = list(found.batches.planner.rows(3)), list(found.batches.planner.rows(3, 2))
    assert len(whole) == 5 and len(rest) == 3
    for row, again in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(row.memory[: row.used], again.memory[: again.used])


def test_keys_name_the_draws_that_the_device_makes():
    def keys(sections, **options):
        return plan_of(made(**sections).batches.planner.row(np.arange(4), 1, 0, **options)).keys.tolist()

    confetti = keys({"preprocessing": "aug1"}, dropout=True)
    assert all(confetti) and len(set(confetti)) == 3
    assert keys({"preprocessing": "none"}) == [confetti[ANOMALIES], 0, 0]
    nominal = {"anomalies": {"mode": "unsupervised", "source": None}, "preprocessing": "aug1"}
    assert keys(nominal, dropout=True) == [0, confetti[AUGMENTATION], confetti[DROPOUT]]


@pytest.mark.parametrize(("count", "sizes"), [(40, [13, 13, 14]), (39, [13] * 3), (12, [12]), (1, [1]), (14, [14])])
def test_one_sample_left_over_joins_the_last_batch(count, sizes):
    assert [len(batch) for batch in in_batches(np.arange(count), 13)] == sizes


OVERALL = 2**32 - 1
"""In the place of a step in the key of an epoch's decisions."""
TEXTURE = Recipe("aug1", "texture", load_size=32, size=28, maps=True)
SMALL = Recipe("lcnaug1", "small", load_size=32, size=28, maps=False)


def counting(found, **changes):
    return replace(found.batches.planner, counted=True, **changes)


def exposed(recipe=TEXTURE, **training):
    found = made(exposure=Patchy(pixels(23)), anomalies={**FOLDER, "probability": 0.3}, training=training)
    return counting(found, recipe=recipe)


class Counter:
    """The draws of one sample, one after the other: SplitMix64 in plain integers."""

    def __init__(self, planner, stream, epoch, place):
        self.key = planner.streams.integer(stream, epoch, OVERALL)
        self.number = place * 2**40

    def bits(self):
        self.number += 1
        state = (self.key + self.number * 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
        return state ^ state >> 31

    def uniform(self):
        return (self.bits() >> 40) / 2**24

    def below(self, count):
        return (self.bits() >> 32) * count >> 32


def decided_alone(planner, epoch, place):
    """What is decided about the sample at a place of an epoch: replaced, drawn, top, left, whole, flipped, noisy."""
    counter = Counter(planner, "anomalies", epoch, place)
    replaced, drawn = counter.uniform() < 0.3, counter.below(23)
    counter = Counter(planner, "augmentation", epoch, place)
    if planner.recipe is SMALL:  # a padding of 2
        top, left, flipped = counter.below(9) - 2, counter.below(9) - 2, counter.uniform() < 0.5
        return [replaced, drawn * replaced, top, left, False, flipped, False], [0.0] * 4
    top, left, whole, strong = counter.below(5), counter.below(5), counter.uniform() >= 0.5, not counter.below(2)
    strengths = [0.04] * 4 if strong else [0.005] + [0.0005] * 3
    jitter = [np.float32((2 * counter.uniform() - 1) * strength) for strength in strengths]
    return [replaced, drawn * replaced, top, left, whole, False, counter.uniform() < 0.5], jitter


@pytest.mark.parametrize("recipe", [TEXTURE, SMALL], ids=lambda recipe: recipe.kind)
def test_counted_decisions_are_those_of_each_sample_alone(recipe):
    planner = exposed(recipe, batch_size=9, passes_per_epoch=2)
    place, order = 0, planner.order(3)
    for row in planner.rows(3):
        plan = plan_of(row)
        top, left, *flags, jitter = plan.augmentation
        numbers = torch.stack([plan.replaced, plan.drawn * plan.replaced, top, left, *flags], dim=1).tolist()
        for pick, found, amounts in zip(plan.pick.tolist(), numbers, jitter.tolist(), strict=True):
            assert (found, amounts) == decided_alone(planner, 3, place) and pick == order[place]
            place += 1
    assert place == 80


def memories(rows):
    return [row.memory[: row.used].tolist() for row in rows]


@pytest.mark.parametrize("streamed", [False, True])
def test_counted_rows_depend_neither_on_how_many_are_made_at_once_nor_on_where_an_epoch_is_resumed(
    monkeypatch, streamed
):
    if streamed:
        monkeypatch.setattr(anomaly_pools, "RESIDENT_BYTES", 1000)
    sections = {"preprocessing": "aug1", "training": {"batch_size": 13, "passes_per_epoch": 3}}
    for options in ({"exposure": Patchy(pixels(23), broken=range(0, 23, 3)), "anomalies": FOLDER}, {}):
        found = made(**options, **sections)
        planner, rows = counting(found), {}
        for together in (1, 2, 64):
            monkeypatch.setattr(step_plan, "_TOGETHER", together)
            rows[together] = memories(planner.rows(2, dropout=True))
            assert memories(planner.rows(2, 4, dropout=True)) == rows[together][4:]
        order = in_batches(planner.order(2), 13)
        alone = memories(planner.row(chosen, 2, step, dropout=True) for step, chosen in enumerate(order))
        assert rows[1] == rows[2] == rows[64] == alone and len(alone) == 10
        assert len({tuple(row) for row in alone}) == 10


def test_counted_draws_take_the_same_images_from_a_pool_that_is_read_while_training(monkeypatch):
    options = {"exposure": Patchy(pixels(23)), "anomalies": FOLDER}
    resident = made(**options)
    monkeypatch.setattr(anomaly_pools, "RESIDENT_BYTES", 1000)
    streamed = made(**options)
    for one, other in zip(counting(resident).rows(1), counting(streamed).rows(1), strict=True):
        np.testing.assert_array_equal(anomalies_of(resident, one), anomalies_of(streamed, other))
        assert len(drawn_of(one))


def test_counted_decisions_have_their_distributions():
    planner = exposed(SMALL, passes_per_epoch=200, batch_size=64)
    plans = [plan_of(row) for row in planner.rows(1)]
    pick, drawn, replaced = (torch.cat([plan[place] for plan in plans]).numpy() for place in (1, 2, 3))
    top, left, _, flipped, _, _ = (
        torch.cat(each).numpy() for each in zip(*(p.augmentation for p in plans), strict=True)
    )
    assert np.bincount(pick).tolist() == [200] * 40  # every sample once a pass
    for chosen, share in ((replaced, 0.3), (flipped, 0.5)):
        assert stats.binomtest(int(chosen.sum()), 8000, share).pvalue > 0.001
        assert stats.chisquare(np.bincount(pick[chosen])).pvalue > 0.001  # whichever image it is
    assert stats.chisquare(np.bincount(drawn[replaced], minlength=23)).pvalue > 0.001
    crops = np.bincount((top + 2) * 9 + left + 2, minlength=81)
    assert len(crops) == 81 and stats.chisquare(crops).pvalue > 0.001
    assert stats.chi2_contingency(np.histogram2d(replaced, top, (2, 9))[0]).pvalue > 0.001
