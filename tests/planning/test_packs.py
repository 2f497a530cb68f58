"""Which trials one program can train."""

from __future__ import annotations

from fcdd_sweep.config.schema import Resources
from fcdd_sweep.planning.packs import front_key, pack_key, pack_size, pack_text
from tests.specs import spec


def test_by_default_each_trial_is_trained_alone():
    assert pack_size(Resources()) == 1 and pack_size(Resources(pack=5)) == 5
    assert pack_text(Resources(), [spec(seed=0), spec(seed=1)]) == ""


def test_seeds_rates_decay_schedule_and_what_is_no_part_of_a_step_may_differ():
    key = pack_key(spec())
    assert key == pack_key(spec(seed=1))
    for training in (
        {"learning_rate": 0.5},
        {"weight_decay": 0.1},
        {"momentum": 0.5},
        {"schedule": {"type": "exponential", "factor": 0.5}},
    ):
        assert key == pack_key(spec(training=training))
    assert key == pack_key(spec(anomalies={"limit": 3, "probability": 0.4}))
    assert key == pack_key(spec(evaluation={"false_alarm_rate": 0.2}, keep={"maps": "all"}))


def test_whatever_shapes_a_step_or_its_data_keeps_trials_apart():
    key = pack_key(spec())
    for sections in (
        {"normal_class": "other"},
        {"training": {"batch_size": 8}},
        {"training": {"epochs": 3}},
        {"training": {"optimizer": "adam"}},
        {"training": {"precision": "bf16"}},
        {"training": {"layout": "contiguous"}},
        {"network": {"name": "FCDD_CNN28_W"}},
        {"preprocessing": "lcn"},
        {"images": {"size": 26}},
        {"anomalies": {"source": "blob"}},
        {"evaluation": {"validation": {"nominal_fraction": 0.5}}},
        {"dataset": {"name": "textures", "options": {"x": 1}}},
    ):
        assert pack_key(spec(**sections)) not in (None, key), sections


def test_offline_anomalies_count_as_images_so_limits_must_be_equal():
    offline = {"online": False}
    assert pack_key(spec(anomalies=offline)) != pack_key(spec(anomalies={**offline, "limit": 3}))


def test_the_plan_says_how_many_packs_there_are_and_why_trials_are_alone():
    five = [spec(seed=seed) for seed in range(5)]
    assert pack_text(Resources(pack=2), five) == "5 trials in 3 packs of at most 2"
    other = spec(normal_class="other")
    why = "no other has its class, network, images and length of training"
    assert pack_text(Resources(pack=8), [*five, other]) == f"5 trials in 1 pack of at most 8; 1 trial alone ({why})"
    crossed = spec(evaluation={"calibration": "cross"})
    assert pack_key(crossed) is None
    text = pack_text(Resources(pack=8), [*five, crossed])
    assert text.endswith("1 trial alone (evaluation.calibration cross trains several models one after another)")


VGG = {"network": {"name": "FCDD_CNN224_VGG_F", "weights": "none"}, "images": {"color": "rgb"}}


def test_configs_of_one_class_and_seed_with_equal_batches_share_a_frozen_front():
    key = front_key(spec(**VGG))
    for section in ({"learning_rate": 0.5}, {"weight_decay": 0.1}, {"momentum": 0.5}):
        assert front_key(spec(**VGG, training=section)) == key != front_key(spec(seed=1, **VGG, training=section))
    for sections in (
        {"normal_class": "other"},
        {"anomalies": {"limit": 3}},
        {"anomalies": {"probability": 0.4}},
        {"anomalies": {"source": "blob"}},
        {"training": {"batch_size": 8}},
        {"training": {"precision": "bf16"}},
        {"preprocessing": "lcn"},
    ):
        assert front_key(spec(**{**VGG, **sections})) not in (None, key), sections
    free = {"network": {"name": "FCDD_CNN224_VGG", "weights": "none"}, "images": {"color": "rgb"}}
    backbone = {"network": {"name": None, "backbone": "resnet18", "node": "layer1", "weights": "none"}}
    for sections in ({}, free, backbone, {**VGG, "evaluation": {"calibration": "cross"}}):
        assert front_key(spec(**sections)) is None


def test_the_plan_says_where_frozen_layers_are_computed_once():
    shared = "2 trials in 1 pack of at most 2, where configs of one class and seed compute their frozen layers once"
    rates = [spec(**VGG, training={"learning_rate": rate}) for rate in (0.1, 0.2)]
    assert pack_text(Resources(pack=2), rates) == shared
    assert pack_text(Resources(pack=2), [spec(**VGG), spec(seed=1, **VGG)]) == shared.partition(",")[0]
