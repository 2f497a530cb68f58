"""Reading experiment files: values, layers, the way back, and what identifies a trial."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fcdd_sweep.config.grid import KNOWN_KEYS, configs_of
from fcdd_sweep.config.loading import dump_experiment
from fcdd_sweep.config.presets import PRESETS, Preset
from fcdd_sweep.config.schema import Anomalies, Experiment, Settings
from fcdd_sweep.config.trial_spec import TrialSpec, canonical, config_id, digest, identity
from tests.broken import HEAD

PLAIN = {
    "schema": 2,
    "name": "x",
    "dataset": {"name": "digits"},
    "images": {"load_size": 32, "size": 28, "color": "gray"},
    "anomalies": {"mode": "noise", "source": {"dataset": "textures"}, "limit": 8},
    "network": {"name": "FCDD_CNN28"},
    "training": {"epochs": 3, "learning_rate": 0.01, "schedule": {"type": "exponential", "factor": 0.9}},
}


def settings(**sections):
    """Settings of `PLAIN` with sections merged in; anything but a mapping replaces."""
    plain = {key: value for key, value in PLAIN.items() if key in Settings.model_fields}
    for name, value in sections.items():
        plain[name] = {**plain.get(name, {}), **value} if isinstance(value, dict) else value
    return Settings.model_validate(plain)


# Values


def test_yaml_1_2_reads_numbers_and_words_as_a_person_means_them(load):
    text = "training: {learning_rate: 1e-3, weight_decay: 1}\nvariants: {no: {}, 'on': {training.epochs: 010}}\n"
    experiment = load(HEAD + text + "dataset: {classes: ['3', 4]}\n")
    assert experiment.training.learning_rate == 0.001
    assert experiment.training.weight_decay == 1.0
    assert experiment.variants == {"no": {}, "on": {"training.epochs": 10}}
    assert experiment.dataset.classes == ["3", 4]


def test_anchors_and_a_byte_order_mark_are_understood(load):
    text = HEAD + "variants:\n  a: &base {network.bias: false}\n  b: {<<: *base, training.epochs: 7}\n"
    assert load(text).variants["b"] == {"network.bias": False, "training.epochs": 7}
    assert load("\ufeff" + HEAD).name == "x"


def test_paths_are_absolute_and_know_the_home_folder(load, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.chdir(tmp_path)
    experiment = load(HEAD + "dataset: {root: ~/data}\n")
    assert experiment.dataset.root == Path("/home/somebody/data")
    assert experiment.run_dir == tmp_path / "results" / "x"


def test_seeds_are_a_number_or_a_list(load):
    assert load(HEAD + "seeds: 3\n").seed_list == [0, 1, 2]
    assert load(HEAD + "seeds: [7, 3]\n").seed_list == [7, 3]


# Layers


def test_the_file_overrides_the_preset_and_overrides_win_over_both(load):
    preset = PRESETS["digits"].tree["training"]
    experiment = load(HEAD + "training: {epochs: 7, batch_size: 9}\n", "training.epochs=5", "training.epochs=6")
    assert experiment.training.epochs == 6
    assert experiment.training.batch_size == 9
    assert experiment.training.passes_per_epoch == preset["passes_per_epoch"]


def test_overrides_reach_every_kind_of_value(load):
    experiment = load(
        HEAD,
        "training={epochs: 2, threads: 2}",
        "grid.training.learning_rate=[0.1, 1e-2]",
        "variants.plain.network.bias=false",
        "seeds=[1, 2]",
        "output=a: b #1",
        "heatmaps.kernel_std_px=null",
        "preset=textures",
    )
    assert (experiment.training.epochs, experiment.training.threads) == (2, 2)
    assert experiment.grid == {"training.learning_rate": [0.1, 0.01]}
    assert experiment.variants == {"plain": {"network.bias": False}}
    assert experiment.seeds == [1, 2]
    assert experiment.output.name == "a: b #1"
    assert experiment.heatmaps.kernel_std_px is None
    assert experiment.dataset.name == "textures"


def test_a_grid_can_be_emptied_from_the_command_line(load):
    text = HEAD + "grid: {training.epochs: [1, 2]}\n"
    assert load(text, "grid.training.threads=[1, 2]").grid.keys() == {"training.epochs", "training.threads"}
    assert load(text, "grid={}").grid == {}
    anew = load(text, "grid={}", "grid={training.momentum: [0.5]}", "grid.training.epochs=[1, 2]").grid
    assert anew == {"training.momentum": [0.5], "training.epochs": [1, 2]}


def test_a_schedule_of_another_type_replaces_the_presets_schedule_whole(load):
    milestones = load(HEAD, "training.schedule.type=milestones", "training.schedule.milestones=[3]")
    assert milestones.training.schedule.model_dump() == {"type": "milestones", "milestones": [3], "factor": 0.1}
    factor = load(HEAD + "training: {schedule: {factor: 0.5}}\n").training.schedule
    assert factor.model_dump() == {"type": "exponential", "factor": 0.5}


def test_what_belongs_to_a_mode_goes_with_it(load):
    assert PRESETS["digits"].tree["anomalies"]["limit"] != "all"
    assert load(HEAD, "anomalies.mode=unsupervised").anomalies == Anomalies()
    noise = load(HEAD + "anomalies: {mode: noise, source: solid}\n").anomalies
    assert (noise.source, noise.limit) == ("solid", "all")
    textures = HEAD.replace("digits", "textures")
    assert load(textures, "anomalies.mode=malformed_normal_gt").anomalies.source == "confetti"


def test_another_data_set_takes_nothing_from_the_old_one(load):
    experiment = load(HEAD.replace("digits", "mvtec") + "dataset: {name: digits}\n")
    assert experiment.dataset.model_dump() == {
        "name": "digits", "root": None, "classes": "all", "protocol": None, "options": {}, "download": False,
    }  # fmt: skip
    text = HEAD.replace("digits", "mvtec") + "dataset: {name: mvtec, root: /data, classes: [bottle]}\n"
    assert load(text, "dataset.name=digits").dataset == experiment.dataset


def test_every_value_knows_where_it_was_written(load, tmp_path):
    origin = load(HEAD + "training:\n  epochs: 3\n", "seeds=2").origin
    file = tmp_path / "x.yaml"
    assert origin.where("training.epochs") == f"{file}:5: training.epochs"
    assert origin.where("training.batch_size") == f"{file}:3: preset 'digits': training.batch_size"
    assert origin.where("training.threads") == f"{file}:4: training.threads"
    assert origin.where("resources.cpus") == f"{file}: resources.cpus"
    assert origin.where("seeds") == "--set seeds=2"


# The way back


NASTY = """
variants:
  no: {heatmaps.kernel_std_px: null}
  "1e3": {training.learning_rate: 1e-5}
  "null": {anomalies.source: {folder: "/a: b #c"}, anomalies.mode: noise}
grid:
  training.schedule: [{type: milestones, milestones: [3], factor: 0.1}, {type: exponential, factor: 1}]
dataset: {classes: ["1", 2, "no"], options: {a: "1e3", b: 1e-7, c: true, d: "", e: 3}}
"""


@pytest.mark.parametrize("text", [f"preset: {name}\n" for name in PRESETS] + ["preset: digits\n" + NASTY])
def test_a_dumped_experiment_loads_again_as_the_same(load, text):
    experiment = load("schema: 2\nname: x\n" + text)
    again = load(dump_experiment(experiment))
    assert again == experiment
    assert dump_experiment(again) == dump_experiment(experiment)
    assert [config.config_id for config in configs_of(again)] == [config.config_id for config in configs_of(experiment)]


def test_a_dump_holds_every_key_so_that_a_changed_preset_changes_nothing(load, monkeypatch):
    experiment = load(HEAD)
    dumped = dump_experiment(experiment)
    changed = {**PRESETS["digits"].tree, "preprocessing": "none", "dataset": {"name": "digits", "options": {"x": 1}}}
    monkeypatch.setitem(PRESETS, "digits", Preset("", changed))
    assert load(HEAD) != experiment
    assert load(dumped) == experiment


def test_an_experiment_made_in_python_dumps_and_loads(load):
    experiment = Experiment.model_validate(PLAIN)
    assert load(dump_experiment(experiment)) == experiment
    assert experiment.origin.where("training.epochs") == "training.epochs"


# Identity

CHANGES = {
    "method": "hsc",
    "dataset.name": "textures",
    "dataset.protocol": "defects",
    "dataset.options": {"threshold": 0.2},
    "images.load_size": 40,
    "images.size": 30,
    "images.resize": "nearest",
    "images.aspect": "crop",
    "images.color": "rgb",
    "images.nominal_label": 1,
    "images.bit_depth": 12,
    "images.range": [100.0, 900.0],
    "images.map_rule": "half",
    "images.map_background": 255,
    "anomalies.mode": "malformed_normal",
    "anomalies.source": "solid",
    "anomalies.limit": 9,
    "anomalies.probability": 0.4,
    "anomalies.online": False,
    "network.name": "FCDD_CNN32_S",
    "network.bias": False,
    "network.weights": "imagenet",
    "preprocessing": "lcn",
    "training.epochs": 4,
    "training.passes_per_epoch": 2,
    "training.min_steps": 3,
    "training.batch_size": 64,
    "training.supervision": "maps",
    "training.optimizer": "adam",
    "training.momentum": 0.5,
    "training.learning_rate": 0.1,
    "training.weight_decay": 0.1,
    "training.schedule": {"type": "exponential", "factor": 0.8},
    "training.layout": "contiguous",
    "training.precision": "bf16",
    "training.threads": 2,
    "heatmaps.kernel_std_px": 3.0,
    "evaluation.validation": {"nominal_fraction": 0.1},
    "evaluation.test": False,
    "evaluation.reserved_anomalies": 2,
    "evaluation.calibration": "cross",
}
KEEPS = {
    "evaluation.validation": {"epochs": [1]},
    "dataset.root": "/elsewhere",
    "dataset.classes": ["3"],
    "dataset.download": True,
    "images.max_megapixels": 2000.0,
    "evaluation.image_score": "max",
    "evaluation.false_alarm_rate": 0.1,
    "evaluation.folds": 7,
    "heatmaps.color_quantile": 0.5,
    "heatmaps.color_map": "jet",
    "heatmaps.blur": True,
    "resources.device": "cpu",
    "resources.cpus": 2.0,
    "resources.trials_per_gpu": 1,
    "resources.pack": 3,
    "keep.snapshots": "none",
    "keep.maps": "all",
    "keep.pictures": "none",
}


def changed(key, value):
    section, _, name = key.partition(".")
    return settings(**{section: {name: value} if name else value})


def test_every_setting_is_known_to_change_the_id_or_not():
    fields = {key for key in KNOWN_KEYS if key.split(".")[0] in Settings.model_fields and key.count(".") <= 1}
    whole = {key for key in fields if any(other.startswith(f"{key}.") for other in fields)}
    assert fields - whole - {"network.backbone", "network.node"} == CHANGES.keys() | KEEPS.keys()


def test_new_keys_leave_the_ids_of_finished_trials_alone(monkeypatch):
    """Ids of schema 2, whose names of keys are part of them, before a key is added."""
    monkeypatch.setattr("fcdd_sweep.config.trial_spec.NUMERICS_VERSION", 2)
    assert config_id(settings()) == "78aaaec94981"
    evaluation = {"validation": {"nominal_fraction": 0.1}, "reserved_anomalies": 2}
    assert config_id(settings(evaluation=evaluation)) == "bdd460829d44"


def test_calibration_is_part_of_the_id_where_it_changes_training():
    def of(**evaluation):
        return config_id(settings(evaluation=evaluation))

    assert of(calibration="none") == of(calibration="none", folds=7) == of(calibration="split") == of()
    assert len({of(), of(calibration="cross", folds=5), of(calibration="cross", folds=7)}) == 3


def test_validation_anomalies_are_part_of_the_id_but_not_where_they_are():
    def of(anomalies):
        return config_id(settings(evaluation={"validation": {"nominal_fraction": 0.1, "anomalies": anomalies}}))

    assert of("none") == config_id(settings(evaluation={"validation": {"nominal_fraction": 0.1}}))
    ids = [of(each) for each in ("none", "training", "blob", {"from_test": 1}, {"from_test": 2}, {"dataset": "mnist"})]
    assert len(set(ids)) == len(ids)
    assert of({"dataset": "mnist"}) == of({"dataset": "mnist", "root": "/elsewhere", "download": True})
    assert of({"folder": "/a/birds"}) == of({"folder": "/b/birds/"}) != of({"folder": "/a/fish"})


def test_schema_2_changed_ids_by_its_new_names_alone():
    """With the names of schema 1 the digest is the id of schema 1: nothing else about a config's identity changed."""
    names = {"load_size": "raw_size", '"gray"': '"grey"'}
    text = canonical({"settings": identity(settings()), "numerics": 2})
    for new, old in names.items():
        text = text.replace(new, old)
    assert digest(json.loads(text)) == "816eb5e98995"


@pytest.mark.parametrize("key", CHANGES)
def test_what_changes_numbers_changes_the_id(key):
    assert config_id(changed(key, CHANGES[key])) != config_id(settings())


@pytest.mark.parametrize("key", KEEPS)
def test_paths_resources_and_drawing_leave_the_id(key):
    assert config_id(changed(key, KEEPS[key])) == config_id(settings())


def test_a_folder_of_outlier_exposure_counts_by_its_name():
    def of(folder):
        return config_id(settings(anomalies={"mode": "noise", "source": {"folder": folder}}))

    assert of("/a/birds") == of("/b/birds/") != of("/a/fish")


def test_a_backbone_is_another_network_and_its_weights_count_by_their_name():
    def of(**network):
        return config_id(Settings.model_validate({**settings().model_dump(mode="json"), "network": network}))

    ids = {of(backbone="resnet18", node=node, weights=weights) for node in ("layer1", "layer2") for weights in "ab"}
    assert len(ids) == 4
    assert of(name="X", weights="/a/w.pt") == of(name="X", weights="/b/w.pt") != of(name="X")


def test_the_root_of_an_exposed_data_set_leaves_the_id():
    source = {"dataset": "textures", "root": "/somewhere"}
    assert config_id(settings(anomalies={"source": source})) == config_id(settings())


def test_a_default_that_is_written_out_leaves_the_id():
    written = settings(heatmaps={"kernel_std_px": None}, resources={"device": "auto"}, preprocessing="none")
    assert config_id(written) == config_id(settings())


def test_whole_numbers_and_fractions_of_equal_value_are_one_config():
    assert config_id(settings(training={"learning_rate": 1})) == config_id(settings(training={"learning_rate": 1.0}))


def test_ids_are_the_same_for_ever():
    """When this fails, finished trials are no longer found: raise NUMERICS_VERSION only when numbers changed."""
    spec = TrialSpec(settings(), "3", 0)
    assert (spec.config_id, spec.trial_id) == ("9b3d358953d4", "12af95e14ffb")


def test_defaults_do_not_change_unnoticed():
    """Defaults are left out of ids: whoever changes one must raise NUMERICS_VERSION, and then this digest."""
    assert digest(settings().model_dump(mode="json")) == "ae8c0cfa2b69"


def test_labels_are_no_part_of_an_id_since_they_were_the_default():
    by_labels, by_maps = (settings(training={"supervision": kind}) for kind in ("labels", "maps"))
    assert config_id(by_labels) == config_id(settings()) != config_id(by_maps)


def test_class_and_seed_make_the_trial():
    ids = {TrialSpec(settings(), name, seed).trial_id for name in "34" for seed in (0, 1)}
    assert len(ids) == 4
    assert TrialSpec(settings(), "3", 0, "a", {"x": 1}).trial_id == TrialSpec(settings(), "3", 0).trial_id


def test_a_trial_survives_json():
    spec = TrialSpec(settings(), "nut", 3, "limit-8", {"anomalies.limit": 8})
    again = TrialSpec.from_dict(json.loads(canonical(spec.to_dict())))
    assert again == spec
    assert (again.trial_id, again.parameters) == (spec.trial_id, spec.parameters)
    assert again.leaf == "limit-8/normal_nut/it_3"


# Imports


@pytest.mark.parametrize("modules", ["config.loading, fcdd_sweep.config.presets", "planning.plan"])
@pytest.mark.slow
def test_experiments_are_read_and_planned_without_torch_and_ray(modules, tmp_path):
    (tmp_path / "x.yaml").write_text(HEAD)
    program = (
        f"import sys, fcdd_sweep.{modules}\n"
        "from fcdd_sweep.config.loading import load_experiment\n"
        f"experiment = load_experiment({str(tmp_path / 'x.yaml')!r})\n"
        "if 'fcdd_sweep.planning.plan' in sys.modules: sys.modules['fcdd_sweep.planning.plan'].plan(experiment)\n"
        "print([name for name in ('torch', 'ray', 'optuna', 'matplotlib') if name in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
