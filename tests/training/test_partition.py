"""A corpus divided for a trial: every image has one role, and the config decides none but its own."""

from __future__ import annotations

import numpy as np
import pytest

from fcdd_sweep.data.corpus import split_for
from fcdd_sweep.training.partition import partition_for
from fcdd_sweep.training.streams import Streams
from tests.specs import defects_corpus, spec

CORPUS = defects_corpus()


def partition(seed=0, fraction=0.0, reserved=0, **sections):
    evaluation = {"validation": {"nominal_fraction": fraction}, "reserved_anomalies": reserved}
    return partition_for(spec(seed=seed, evaluation=evaluation, **sections), CORPUS, Streams(seed, "plain"))


def test_every_image_has_exactly_one_role():
    found = partition(fraction=0.25, reserved=3)
    roles = [found.split.train_nominal, found.held_out, found.split.test, found.reserved_anomalies.reserved]
    assert [len(rows) for rows in roles] == [30, 10, 21, 3]
    assert sorted(np.concatenate(roles)) == list(range(64))


def test_without_a_fraction_or_a_reserve_the_split_is_the_corpus_s():
    found, whole = partition(), split_for(CORPUS, "plain")
    np.testing.assert_array_equal(found.split.train_nominal, whole.train_nominal)
    np.testing.assert_array_equal(found.split.test, whole.test)
    assert found.split.test_defect == whole.test_defect
    assert not len(found.held_out) and not len(found.reserved_anomalies.reserved)


@pytest.mark.parametrize("limit", [1, 2])
def test_a_config_uses_as_many_reserved_anomalies_as_its_limit(limit):
    found = partition(reserved=4, anomalies={"mode": "noise", "source": "mvtec_gt", "limit": limit})
    reserved = found.reserved_anomalies
    assert len(reserved.reserved) == 4 and reserved.used.tolist() == reserved.reserved[:limit].tolist()
    assert CORPUS.is_anomalous[reserved.reserved].all()


def test_labels_and_defects_stay_beside_their_images():
    split = partition(reserved=5).split
    np.testing.assert_array_equal(split.test_label, CORPUS.is_anomalous[split.test])
    assert split.test_defect == tuple(CORPUS.defect[row] for row in split.test)


def test_another_seed_holds_out_other_images():
    assert set(partition(fraction=0.25).held_out) != set(partition(seed=1, fraction=0.25).held_out)
