"""From experiments to trials: which there are, in what order, and what is said about them."""

from __future__ import annotations

import shutil
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from fcdd_sweep.anomalies.registry import MODES
from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.config.schema import MODES_WITHOUT_SOURCE, Experiment
from fcdd_sweep.data.datasets import folder
from fcdd_sweep.data.records import DatasetScan
from fcdd_sweep.data.registry import MVTEC_CLASSES
from fcdd_sweep.planning.describe import describe
from fcdd_sweep.planning.plan import plan, plan_file
from fcdd_sweep.results import schemas
from fcdd_sweep.results.files import table_from_rows
from tests import trees

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
HEAD = "schema: 2\nname: x\npreset: digits\nseeds: 2\n"


def test_trials_are_configs_times_seeds_times_classes_and_classes_come_first(planned):
    found = planned(HEAD + "grid: {training.epochs: [3, 4]}\ndataset: {classes: [5, '2']}\n")
    assert [(spec.config_name, spec.seed, spec.normal_class) for spec in found.specs] == [
        (config, seed, name) for config in ("epochs-3", "epochs-4") for seed in (0, 1) for name in ("5", "2")
    ]
    assert (found.classes, found.seeds) == (("5", "2"), (0, 1))
    assert [spec.settings.training.epochs for spec in found.specs] == [3] * 4 + [4] * 4
    assert len({spec.trial_id for spec in found.specs}) == len({spec.leaf for spec in found.specs}) == 8


def test_adding_seeds_classes_or_a_grid_keeps_the_trials_that_were_there(planned):
    before = {spec.trial_id for spec in planned(HEAD + "dataset: {classes: ['1', '2']}\n", "anomalies.limit=32").specs}
    more = planned(HEAD, "seeds=3", "grid.anomalies.limit=[8, 32]")
    assert before < {spec.trial_id for spec in more.specs}
    assert len(more.specs) == 10 * 3 * 2


def test_a_class_is_found_by_name_and_by_number(planned):
    text = HEAD.replace("digits", "textures")
    by_name = planned(text, "dataset.classes=[gravel, brick]")
    by_number = planned(text, "dataset.classes=[2, 0]")
    assert by_name.classes == by_number.classes == ("gravel", "brick")
    assert [spec.trial_id for spec in by_name.specs] == [spec.trial_id for spec in by_number.specs]


def test_an_option_at_its_default_is_the_same_trial(planned):
    text = HEAD.replace("digits", "textures")
    ids = [planned(text, *extra).specs[0].trial_id for extra in ([], ["dataset.options.regions=reporting"])]
    assert ids[0] == ids[1] != planned(text, "dataset.options.regions=selection").specs[0].trial_id


@pytest.mark.skipif(find_spec("elpv_dataset") is None, reason="needs the extra [solar]")
def test_an_option_is_the_same_as_a_whole_number_or_a_fraction(planned):
    text = HEAD.replace("digits", "solar")
    ids = {planned(text, f"dataset.options.threshold={value}").specs[0].trial_id for value in ("0", "0.0")}
    assert len(ids) == 1


def test_a_protocol_that_the_folders_tell_is_the_same_trial_as_one_that_is_given(planned, tmp_path):
    trees.write_class_first(tmp_path / "data")
    text = HEAD.replace("digits", "folder") + f"dataset: {{root: {tmp_path / 'data'}}}\n"
    found, given = planned(text), planned(text, "dataset.protocol=defects")
    assert found.specs == given.specs
    assert found.specs[0].settings.dataset.protocol == "defects"


def test_rows_are_those_of_the_declared_table(planned):
    found = planned(HEAD + "variants: {a: {}, b: {anomalies.mode: unsupervised}}\n")
    table = table_from_rows(found.rows(), schemas.PLAN)
    assert table.num_rows == len(found.specs) == 40
    assert table.column("trial_id").to_pylist() == [spec.trial_id for spec in found.specs]
    assert table.column("parameters").to_pylist()[-1] == '{"variant": "b", "anomalies.mode": "unsupervised"}'
    assert table.column("leaf").to_pylist()[0] == "a/normal_0/it_0"


def test_planning_a_file_is_loading_and_planning(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(HEAD)
    experiment, found = plan_file(path, ["seeds=1"])
    assert experiment == load_experiment(path, ["seeds=1"])
    assert found == plan(experiment)


def test_an_experiment_made_in_python_is_answered_with_its_keys():
    experiment = Experiment.model_validate(
        {
            "schema": 2,
            "name": "x",
            "dataset": {"name": "digits", "classes": ["x"]},
            "images": {"load_size": 32, "size": 32},
            "network": {"name": "FCDD_CNN32_S"},
            "training": {"epochs": 1, "learning_rate": 0.1, "schedule": {"type": "exponential", "factor": 1.0}},
            "grid": {"network.name": ["FCDD_CNN28", "y"]},
        }
    )
    with pytest.raises(ExperimentError) as caught:
        plan(experiment)
    assert [problem.where for problem in caught.value.problems] == ["dataset.classes", "grid.network.name[1]"]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            (),
            "no decision: hold out at least 19 nominal images for a false-alarm rate of 5% "
            "(evaluation.validation.nominal_fraction)",
        ),
        (("evaluation.false_alarm_rate=0.01",), "no decision: hold out at least 99 nominal images for a false-alarm"),
        (("evaluation.calibration=cross",), "cross: 5 models a trial"),
        (("evaluation.validation.nominal_fraction=0.2",), "split: on the 20% of the nominal training images that are"),
        (("evaluation.calibration=none",), "none: images are scored and not decided about"),
    ],
)
def test_every_plan_says_what_decides_or_how_many_images_that_needs(planned, overrides, line):
    found = planned(HEAD, *overrides)
    (given,) = [text for text in describe(found, found.experiment).splitlines() if text.startswith("  decisions")]
    assert given.startswith(f"  decisions  {line}")


def test_modes_without_a_source_are_the_same_in_schema_and_registry():
    assert set(MODES_WITHOUT_SOURCE) == {name for name, mode in MODES.items() if not mode.needs_source}


def test_the_description_says_what_would_run(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        HEAD + f"output: {tmp_path}\ngrid: {{network.name: [FCDD_CNN28, FCDD_CNN32_S]}}\n"
        "images: {load_size: 32, size: 32}\nanomalies: {limit: 32}\n"
    )
    experiment, found = plan_file(path, ["training.epochs=7", "resources.cpus=0.5"])
    text = describe(found, experiment)
    for expected in (
        "x: 40 trials = 2 configs x 10 classes x 2 seeds",
        "network-FCDD_CNN28: network.name = 'FCDD_CNN28'",
        "0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "digits, one_vs_rest; 32 px (bilinear), seen at 32 px, gray",
        "FCDD_CNN28: receptive field 16 px, jump 4 px, anomaly map 8x8",
        "FCDD_CNN32_S: receptive field 18 px, jump 4 px, anomaly map 8x8",
        "other, 32 distinct ones, in place of 50% of the samples",
        "fcdd on labels",
        "7 epochs",
        "a trial reserves 0.5 CPU",
        str(tmp_path / "x"),
        "note: training.threads is 1",
    ):
        assert expected in text
    assert text.count("fcdd on labels") == 1


def test_the_description_of_many_configs_stays_short(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(HEAD + f"grid: {{training.epochs: {list(range(1, 41))}}}\n")
    experiment, found = plan_file(path)
    text = describe(found, experiment)
    assert text.count("and 20 more") == 2
    assert len(text.splitlines()) <= 61


@pytest.mark.parametrize(
    ("anomalies", "expected"),
    [
        ({"mode": "unsupervised"}, "none (unsupervised)"),
        ({"mode": "noise", "source": "solid"}, "noise from solid, in place"),
        ({"mode": "noise", "source": {"dataset": "textures"}, "limit": 8}, "noise from data set textures, 8 distinct"),
        ({"mode": "noise", "source": {"folder": "FOLDER"}}, "images, in place"),
    ],
)
def test_the_description_names_the_anomalies(tmp_path, anomalies, expected):
    trees.write_images(tmp_path / "images", 1)
    if anomalies.get("source") == {"folder": "FOLDER"}:
        anomalies = {**anomalies, "source": {"folder": str(tmp_path / "images")}}
    path = tmp_path / "x.yaml"
    path.write_text(HEAD + f"anomalies: {anomalies}\n")
    experiment, found = plan_file(path)
    assert expected in describe(found, experiment)


def test_masks_bring_the_loss_on_maps_by_themselves_and_what_is_written_wins(tmp_path):
    path, root = tmp_path / "x.yaml", trees.write_split_first(tmp_path / "data", maps=True)
    text = HEAD.replace("digits", "folder") + "anomalies: {mode: malformed_normal, source: confetti}\n"
    path.write_text(f"{text}dataset: {{root: {root}}}\n")

    def planned(*overrides):
        experiment, found = plan_file(path, ["seeds=1", *overrides])
        (config,) = found.configs
        return config, describe(found, experiment)

    by_itself, text = planned()
    assert by_itself.settings.training.supervision == "maps" and "loss       fcdd on maps" in text
    assert by_itself.config_id == planned("training.supervision=maps")[0].config_id
    by_labels, text = planned("training.supervision=labels")
    assert by_labels.settings.training.supervision == "labels" and "loss       fcdd on labels" in text
    assert by_labels.config_id != by_itself.config_id
    assert (
        "note: training.supervision is labels: the ground-truth maps of 'folder' measure heatmaps and are not" in text
    )
    baseline, _ = planned("method=hsc", "network.name=CNN32")
    assert baseline.settings.training.supervision == "labels"
    shutil.rmtree(root / "test_maps")
    without, text = planned()
    assert without.config_id == by_labels.config_id and "note: training" not in text
    assert planned("anomalies.mode=malformed_normal_gt")[0].settings.training.supervision == "maps"


def test_a_grid_of_what_auto_means_and_auto_is_the_same_config_twice(tmp_path):
    path, root = tmp_path / "x.yaml", trees.write_split_first(tmp_path / "data", maps=True)
    text = HEAD.replace("digits", "folder") + "anomalies: {mode: malformed_normal, source: confetti}\n"
    path.write_text(f"{text}dataset: {{root: {root}}}\n")
    assert len(plan_file(path, ["grid={training.supervision: [labels, maps]}"])[1].configs) == 2
    with pytest.raises(ExperimentError, match=r"are the same.*auto means labels or maps here"):
        plan_file(path, ["grid={training.supervision: [auto, maps]}"])


def test_the_description_states_what_maps_mark(tmp_path):
    path, root = tmp_path / "x.yaml", trees.write_split_first(tmp_path / "data", maps=True)
    path.write_text(HEAD.replace("digits", "folder"))
    for override, expected in (
        (
            "seeds=1",
            "Ground-truth maps mark all but the background (0, black) as anomalous, or, where some are lossy or",
        ),
        ("images.map_rule=half", "Ground-truth maps mark what is beyond half of the format's range as anomalous."),
        ("images.map_background=255", "Ground-truth maps mark all but value 255 as anomalous"),
    ):
        experiment, found = plan_file(path, [f"dataset.root={root}", override])
        assert f"maps       {expected}" in describe(found, experiment)
    experiment, found = plan_file(path, [f"dataset.root={trees.write_split_first(tmp_path / 'without')}"])
    assert "Ground-truth maps" not in describe(found, experiment)


@pytest.mark.parametrize(
    ("anomalies", "expected"),
    [
        ("{mode: noise, source: blob, online: false}", "noise from blob, one besides each nominal sample"),
        ("{mode: noise, source: mvtec_gt, limit: 2}", "noise from mvtec_gt, 2 of each defect type, in place of 50%"),
        ("{mode: noise, source: mvtec_gt, limit: 2}", "; 2 test images of each defect type are left out of the test"),
    ],
)
def test_the_description_names_offline_and_real_anomalies(tmp_path, anomalies, expected):
    path = tmp_path / "x.yaml"
    path.write_text(HEAD.replace("digits", "textures") + f"anomalies: {anomalies}\n")
    experiment, found = plan_file(path, ["anomalies.probability=0.5"])
    assert expected in describe(found, experiment)
    assert found.notes == ()


def test_all_configs_leave_the_images_of_the_largest_limit_out_of_the_test_set(planned):
    text = HEAD.replace("digits", "textures") + "anomalies: {mode: noise, source: mvtec, limit: 1}\n"

    def aside(found):
        return [spec.settings.evaluation.reserved_anomalies for spec in found.specs]

    one = planned(text)
    assert set(aside(one)) == {1}
    more = planned(text + "grid: {anomalies.limit: [1, 3]}\n")
    assert set(aside(more)) == {3} and len({spec.trial_id for spec in more.specs}) == 12
    assert not {spec.trial_id for spec in one.specs} & {spec.trial_id for spec in more.specs}
    beside = (
        "variants: {real: {}, none: {anomalies.mode: unsupervised, anomalies.source: null, anomalies.limit: all}}\n"
    )
    assert set(aside(planned(text + beside))) == {1}
    kept = planned(text, "evaluation.reserved_anomalies=3")
    assert {spec.trial_id for spec in kept.specs} < {spec.trial_id for spec in more.specs}
    assert set(aside(planned(HEAD.replace("digits", "textures")))) == {0}


def test_defect_types_with_few_images_are_noted(planned, tmp_path):
    trees.write_mvtec(tmp_path / "data", test=3, defects=("crack", "hole"))
    (tmp_path / "data" / "carpet" / "test" / "hole" / "002.png").unlink()
    (tmp_path / "data" / "carpet" / "ground_truth" / "hole" / "002_mask.png").unlink()
    text = HEAD.replace("digits", "mvtec") + f"dataset: {{root: {tmp_path / 'data'}, classes: [bottle, carpet]}}\n"
    found = planned(text + "anomalies: {mode: noise, source: mvtec_gt, limit: 2}\n", "network.weights=none")
    assert found.notes == (
        "class 'carpet': 2 test images per defect type were to be reserved, but one must stay: 1 of 2 'hole'",
    )


# The experiments that come with the project


@pytest.mark.parametrize(
    ("name", "classes", "seeds"),
    [
        ("digits", tuple("0123456789"), 3),
        ("textures", ("brick", "grass", "gravel"), 3),
        pytest.param(
            "solar", ("mono", "poly"), 3, marks=pytest.mark.skipif(find_spec("elpv_dataset") is None, reason="[solar]")
        ),
    ],
)
def test_experiments_on_built_in_data_can_be_planned(name, classes, seeds):
    experiment, found = plan_file(EXPERIMENTS / f"{name}.yaml")
    assert (experiment.name, experiment.preset) == (name, name)
    assert (found.classes, len(found.seeds)) == (classes, seeds)
    assert found.notes == ()


def test_the_demo_is_a_cut_of_the_textures():
    demo, textures = (load_experiment(EXPERIMENTS / f"{name}.yaml") for name in ("demo", "textures"))
    cut = {"name": "textures", "seeds": 3, "dataset": textures.dataset, "training": textures.training}
    assert demo.model_copy(update=cut) == textures
    assert demo.training.model_copy(update={"epochs": textures.training.epochs}) == textures.training
    assert len(plan(demo).specs) < len(plan(textures).specs)


def test_the_mvtec_experiment_has_the_papers_settings(tmp_path):
    trees.write_mvtec(tmp_path, classes=MVTEC_CLASSES, train=1, test=1, defects=("crack",))
    overrides = [f"dataset.root={tmp_path}", "network.weights=none"]
    experiment, found = plan_file(EXPERIMENTS / "mvtec.yaml", overrides)
    assert (found.classes, found.seeds) == (MVTEC_CLASSES, (0, 1, 2, 3, 4))
    training = experiment.training
    assert (training.epochs, training.passes_per_epoch, training.batch_size) == (200, 10, 128)
    assert (training.optimizer, training.momentum, training.learning_rate, training.weight_decay) == (
        "sgd", 0.9, 1e-3, 1e-4,
    )  # fmt: skip
    assert (training.supervision, training.schedule.factor) == ("maps", 0.985)
    assert (experiment.images.load_size, experiment.images.size, experiment.images.resize) == (240, 224, "nearest")
    assert (experiment.preprocessing, experiment.heatmaps.color_quantile) == ("lcnaug1", 0.99)
    assert experiment.heatmaps.kernel_std_px == 12


def test_the_folder_experiment_takes_both_layouts(tmp_path):
    trees.write_class_first(tmp_path / "defects")
    trees.write_one_vs_rest(tmp_path / "classes")
    for name, classes in (("defects", ("bolt", "nut")), ("classes", ("cat", "dog", "owl"))):
        _, found = plan_file(EXPERIMENTS / "folder.yaml", [f"dataset.root={tmp_path / name}"])
        assert found.classes == classes


@pytest.mark.parametrize(
    "more",
    [
        "",
        "grid: {training.epochs: [1, 2], training.batch_size: [8, 16]}\n",
        "dataset: {classes: [nut]}\nevaluation: {validation: {nominal_fraction: 0.3, anomalies: {from_test: 1}}}\n",
        "search: {budget: {configs: 5}, space: {training.learning_rate: {log: [0.001, 0.1]}}}\n",
    ],
    ids=["one config", "a grid", "test anomalies", "a search"],
)
def test_a_folder_is_discovered_once_and_scanned_once(planned, tmp_path, monkeypatch, more):
    trees.write_class_first(tmp_path / "data")
    calls = Counter()

    def counting(name):
        call = getattr(folder, name)
        monkeypatch.setattr(folder, name, lambda *given: calls.update([name]) or call(*given))

    counting("discover")
    counting("scan")
    text = HEAD.replace("digits", "folder") + more
    assert planned(text, f"dataset.root={tmp_path / 'data'}").specs
    assert calls == {"discover": 1, "scan": 1}


def test_a_data_set_is_scanned_once_however_many_configs_use_it(planned, monkeypatch):
    scanned = []
    monkeypatch.setattr(
        "fcdd_sweep.planning.sections.scan_dataset", lambda *data: scanned.append(data) or DatasetScan()
    )
    planned(HEAD + "grid: {training.epochs: [1, 2, 3], training.batch_size: [8, 16]}\n")
    assert len(scanned) == 1
