"""Experiment files whose names and combinations are broken; expectations as in `tests/config/test_bad_files.py`."""

from __future__ import annotations

import pytest

from fcdd_sweep.planning.plan import plan_file
from tests import trees
from tests.broken import HEAD, TEXTURES, assert_reported, problems_in

FILES = {
    # Data sets and classes
    "an unknown data set": (
        HEAD + "dataset: {name: digit}\n",
        ["x.yaml:4: dataset.name: there is no data set 'digit'|digits, textures, solar|Closest: 'digits'"],
    ),
    "a missing root": (
        HEAD.replace("digits", "mvtec"),
        ["x.yaml: dataset.root: 'mvtec' needs a folder|Download MVTec-AD from https"],
    ),
    "a root that is not there": (
        HEAD.replace("digits", "mvtec") + "dataset:\n  root: /no/such/folder\n",
        ["x.yaml:5: dataset.root: there is no folder /no/such/folder|Download MVTec-AD"],
    ),
    "a root for nothing": (
        HEAD + "dataset: {root: /tmp}\n",
        ["x.yaml:4: dataset.root: 'digits' needs no folder|Remove"],
    ),
    "a protocol for nothing": (
        HEAD + "dataset: {protocol: defects}\n",
        ["x.yaml:4: dataset.protocol: 'digits' is always one_vs_rest, found defects|Remove the key"],
    ),
    "an unknown option": (
        TEXTURES + "dataset:\n  options: {region: selection}\n",
        ["x.yaml:5: dataset.options.region: 'textures' has no such option|regions|Closest: 'regions'"],
    ),
    "an option's value": (
        TEXTURES + "dataset:\n  options: {regions: selected}\n",
        ["x.yaml:5: dataset.options.regions: found 'selected'|reporting, selection|Closest: 'selection'"],
    ),
    "a class, not a list": (
        HEAD + "dataset: {classes: brick}\n",
        ["dataset.classes: found the text|Write a list: [brick]"],
    ),
    "unknown classes": (
        TEXTURES + "dataset:\n  classes: [gras, 3, brick, 0]\n",
        [
            "x.yaml:5: dataset.classes: 'textures' has no class 'gras'|brick, grass, gravel|Closest: 'grass'",
            "x.yaml:5: dataset.classes: 'textures' has no class number 3|0 to 2, or names: brick",
            "x.yaml:5: dataset.classes: class 'brick' is listed 2 times",
        ],
    ),
    "no classes": (HEAD + "dataset: {classes: []}\n", ["dataset.classes: the list of classes is empty"]),
    # Networks, anomalies, supervision
    "an unknown network": (
        HEAD + "network: {name: FCDD_CNN32_X}\n",
        ["x.yaml:4: network.name: there is no network 'FCDD_CNN32_X'|FCDD_CNN28_W|Closest: 'FCDD_CNN32"],
    ),
    "a network that does not fit": (
        HEAD + "images: {load_size: 6, size: 6}\nnetwork: {name: FCDD_CNN32_S}\n",
        ["x.yaml:4: images.size: the anomaly map of FCDD_CNN32_S would|the smallest size that fits is 8 px"],
    ),
    "a source that is missing": (
        HEAD + "anomalies: {mode: noise}\n",
        ["x.yaml:4: anomalies.source: mode 'noise' needs a source|confetti|{folder: PATH}"],
    ),
    "confetti in place of images": (
        HEAD + "anomalies: {mode: noise, source: confetti}\n",
        ["x.yaml:4: anomalies.source: 'confetti' only darkens|malformed_normal"],
    ),
    "a source for nothing": (
        HEAD + "anomalies: {source: confetti}\n",
        ["x.yaml:4: anomalies.source: mode 'other' takes no source|malformed_normal"],
    ),
    "cropped images with maps": (
        TEXTURES + "images: {aspect: crop}\n",
        ["x.yaml:4: images.aspect: 'textures' has ground-truth maps|Allowed: stretch"],
    ),
    "a variant in the place of the baselines": (
        HEAD + "variants: {Baselines: {training.epochs: 3}}\n",
        ["x.yaml:4: variants.Baselines: the folder `baselines` of a run is reserved for the command `baselines`"],
    ),
    "an autoencoder that would be read backwards": (
        HEAD + "method: ae\nnetwork: {name: AE32}\nanomalies: {mode: unsupervised}\nimages: {nominal_label: 1}\n",
        ["x.yaml:7: images.nominal_label: method 'ae' rebuilds the normal class|Allowed: 0"],
    ),
    "a baseline that would be trained on maps": (
        TEXTURES + "method: hsc\nnetwork: {name: CNN32}\n",
        ["x.yaml:3: preset 'textures': training.supervision: method 'hsc' trains from labels alone|Allowed: labels"],
    ),
    "an autoencoder that would learn anomalies": (
        HEAD + "method: ae\nnetwork: {name: AE32}\n",
        ["x.yaml:3: preset 'digits': anomalies.mode: method 'ae' rebuilds whatever it is trained on|unsupervised"],
    ),
    "a network of another method": (
        HEAD + "method: hsc\n",
        ["x.yaml:3: preset 'digits': network.name: |'FCDD_CNN32_S'|CNN32"],
    ),
    "an unknown source": (
        TEXTURES + "anomalies: {source: confeti}\n",
        ["x.yaml:4: anomalies.source: there is no synthetic source 'confeti'|solid|Closest: 'confetti'"],
    ),
    "a data set as a source's name": (
        HEAD + "anomalies: {mode: noise, source: textures}\n",
        ["x.yaml:4: anomalies.source: there is no|Images of a data set are written as {dataset: textures}"],
    ),
    "exposure where noise is added": (
        TEXTURES + "anomalies: {source: {dataset: digits}}\n",
        ["x.yaml:4: anomalies.source: mode 'malformed_normal' adds a synthetic source|choose anomalies.mode: noise"],
    ),
    "exposure to an unknown data set": (
        HEAD + "anomalies: {mode: noise, source: {dataset: texture}}\n",
        ["x.yaml:4: anomalies.source.dataset: there is no data set 'texture'|Closest: 'textures'"],
    ),
    "exposure to the data set itself": (
        HEAD + "anomalies: {mode: noise, source: {dataset: digits}}\n",
        ["x.yaml:4: anomalies.source.dataset: 'digits' is the data set itself"],
    ),
    "exposure without a root": (
        HEAD + "anomalies: {mode: noise, source: {dataset: mvtec}}\n",
        ["x.yaml:4: anomalies.source.root: 'mvtec' needs a folder"],
    ),
    "exposure to a folder that is not there": (
        HEAD + "anomalies:\n  mode: noise\n  source: {folder: /no/such/folder}\n",
        ["x.yaml:6: anomalies.source.folder: there is no folder /no/such/folder"],
    ),
    "a misspelled key of a source": (
        HEAD + "anomalies: {mode: noise, source: {dataset: textures, rot: x}}\n",
        ["x.yaml:4: anomalies.source.rot: there is no such key|dataset, root|Closest: 'root'"],
    ),
    "a source that is no source": (
        TEXTURES + "anomalies: {source: 3}\n",
        ["x.yaml:4: anomalies.source: found 3|the name of a synthetic source, {dataset: NAME} or {folder: PATH}"],
    ),
    "a limit of a synthetic source": (
        TEXTURES + "anomalies: {limit: 8}\n",
        ["x.yaml:4: anomalies.limit: a limit of 8 has no meaning here: a synthetic source is unlimited|all"],
    ),
    "a limit of nothing": (
        HEAD + "anomalies: {mode: unsupervised, limit: 8}\n",
        ["x.yaml:4: anomalies.limit: a limit of 8 has no meaning here: mode 'unsupervised' uses no anomalies"],
    ),
    "real anomalies where there are none": (
        TEXTURES + "anomalies: {mode: other}\n",
        ["x.yaml:4: anomalies.mode: mode 'other' needs anomalies in the training split, and 'textures' has none"],
    ),
    "offline without anomalies": (
        HEAD + "anomalies: {mode: unsupervised, online: false}\n",
        ["x.yaml:4: anomalies.online: mode 'unsupervised' makes no anomalies|Remove the key, or choose another"],
    ),
    "test anomalies of other classes": (
        HEAD + "anomalies: {mode: noise, source: mvtec, limit: 1}\n",
        [
            "x.yaml:4: anomalies.source: 'mvtec' takes test anomalies by defect type, but those of 'digits'"
            "|For images of that data set write {dataset: mvtec}"
        ],
    ),
    "test anomalies of other classes, set aside": (
        HEAD + "evaluation: {reserved_anomalies: 2}\n",
        ["x.yaml:4: evaluation.reserved_anomalies: 2 takes test anomalies by defect type"],
    ),
    "all test anomalies": (
        TEXTURES + "anomalies: {mode: noise, source: mvtec_gt}\n",
        ["x.yaml:4: anomalies.limit: 'mvtec_gt' takes its images out of the test set|a whole number, how many of each"],
    ),
    "test anomalies where noise is added": (
        TEXTURES + "anomalies: {source: mvtec, limit: 1}\n",
        ["x.yaml:4: anomalies.source: mode 'malformed_normal' adds a|For real anomalies choose anomalies.mode"],
    ),
    "a source that is nearly a real one": (
        TEXTURES + "anomalies: {mode: noise, source: mvtec_gd, limit: 1}\n",
        [
            "x.yaml:4: anomalies.source: there is no source 'mvtec_gd'|mvtec_gt, {dataset: NAME}|Closest: 'mvtec_gt'",
            "x.yaml:4: anomalies.limit: a limit of 1 has no meaning here",
        ],
    ),
    "set aside in the grid": (
        TEXTURES + "grid:\n  evaluation.reserved_anomalies: [1, 2]\n",
        ["x.yaml:5: grid.evaluation.reserved_anomalies: |is the same for all configs|Set it once"],
    ),
    "maps where there are none": (
        HEAD + "training: {supervision: maps}\n",
        ["x.yaml:4: training.supervision: 'digits' has no ground-truth maps, and mode 'other' makes none|labels"],
    ),
    "labels where the mode makes maps": (
        HEAD + "anomalies: {mode: malformed_normal_gt, source: confetti}\ntraining: {supervision: labels}\n",
        ["x.yaml:5: training.supervision: mode 'malformed_normal_gt' trains on the maps|Remove the key"],
    ),
    # Grid and variants
    "an unknown grid key": (
        HEAD + "grid:\n  training.learning_rat: [1]\n",
        ["x.yaml:5: grid.training.learning_rat: there is no key|Closest: 'training.learning_rate'"],
    ),
    "grid keys that may not vary": (
        HEAD + "grid:\n  dataset.name: [digits, textures]\n  seeds: [1, 2]\n  resources.cpus: [1, 2]\n"
        "  heatmaps.color_quantile: [0.9, 0.8]\n",
        [
            "x.yaml:5: grid.dataset.name: dataset.name is the same for all configs|one experiment file per data set",
            "x.yaml:6: grid.seeds: seeds is the same for all configs|Every config is trained with all of `seeds`",
            "x.yaml:7: grid.resources.cpus: resources.cpus is the same for all configs|training",
            "x.yaml:8: grid.heatmaps.color_quantile: heatmaps.color_quantile is the same for all configs",
        ],
    ),
    "grid values": (
        HEAD + "grid:\n  training.epochs: [3, x, 0]\n  training.momentum: []\n  training.threads: 2\n"
        "  network.bias: [true, true]\n",
        [
            "x.yaml:5: grid.training.epochs[1]: found the text 'x'|a whole number, at least 1",
            "x.yaml:5: grid.training.epochs[2]: found 0|a whole number, at least 1",
            "x.yaml:6: grid.training.momentum: the list of values is empty",
            "x.yaml:7: grid.training.threads: found 2|a list of values",
            "x.yaml:8: grid.network.bias[1]: the value true is given twice",
        ],
    ),
    "a list as a grid": (HEAD + "grid: [training.epochs]\n", ["x.yaml:4: grid: found the list|a list of values"]),
    "the same config twice": (
        HEAD + "grid:\n  training.learning_rate: [1, 1.0]\n",
        ["x.yaml:4: grid: the configs learning_rate-1 and learning_rate-1.0 are the same|trained twice"],
    ),
    "variants that are the same": (
        HEAD + "variants:\n  a: {}\n  b: {network.bias: true}\n",
        ["x.yaml:4: variants: the configs a and b are the same"],
    ),
    "a network of the grid": (
        HEAD + "grid:\n  network.name: [FCDD_CNN28, FCDD_CNN29]\n",
        ["x.yaml:5: grid.network.name[1]: there is no network 'FCDD_CNN29'|Closest"],
    ),
    "a combination in the grid": (
        HEAD + "grid:\n  images.load_size: [28, 32]\n  images.size: [28, 32]\n",
        ["images: images.size 32 must not be larger than images.load_size 28 (config load_size-28_size-32)"],
    ),
    "too many configs": (
        HEAD + f"grid:\n  training.epochs: {list(range(1, 102))}\n  training.batch_size: {list(range(2, 102))}\n",
        ["x.yaml:4: grid: it gives 10,100 configs|at most 10,000"],
    ),
    "names of variants": (
        HEAD + "variants:\n  a b: {network.bias: false}\n  Slow: {training.epochs: 50}\n  slow: {training.epochs: 60}\n"
        "  normal_x: {training.epochs: 70}\n",
        [
            "x.yaml:5: variants.a b: 'a b' cannot name a variant's folder|letters, digits|Closest: 'a-b'",
            "x.yaml:7: variants.slow: 'Slow' and 'slow' are the same folder|Rename",
            "x.yaml:8: variants.normal_x: 'normal_x' cannot name a variant's folder|Closest: 'x'",
        ],
    ),
    "a variant that is no mapping": (HEAD + "variants: {a: 3}\n", ["x.yaml:4: variants.a: found 3|dotted keys"]),
    "a variant's value": (
        HEAD + "variants:\n  a: {network.bias: 3}\n",
        ["x.yaml:5: variants.a.network.bias: found 3|true or false"],
    ),
    "a key in a variant and in the grid": (
        HEAD
        + "variants:\n  a: {training.schedule.factor: 0.5}\n  b: {}\ngrid:\n  training.schedule.factor: [0.9, 0.8]\n",
        ["x.yaml:8: grid.training.schedule.factor: it sets again what variants.a.training.schedule.factor sets"],
    ),
    "a section and its key in the grid": (
        HEAD + "grid:\n  training.schedule: [{type: exponential, factor: 1.0}]\n  training.schedule.factor: [0.9]\n",
        ["x.yaml:6: grid.training.schedule.factor: it sets again what grid.training.schedule sets"],
    ),
    # Everything at once, also across rooms
    "faults of all kinds": (
        "schema: 2\nname: x y\npreset: textures\ndataset: {name: textures, class: brick}\nimages: {color: grey}\n"
        "network: {name: FCDD_CNN}\ntraining:\n  epochs: many\n  epoch: 3\nanomalies: {source: confeti}\n"
        "grid: {training.epoch: [1]}\nseeds: 0\n",
        [
            "x.yaml:2: name: found the text 'x y'",
            "x.yaml:4: dataset.class: there is no such key|Closest: 'classes'",
            "x.yaml:5: images.color: found the text 'grey'|Write gray",
            "x.yaml:6: network.name: there is no network 'FCDD_CNN'",
            "x.yaml:8: training.epochs: found the text 'many'",
            "x.yaml:9: training.epoch: there is no such key|Closest: 'epochs'",
            "x.yaml:10: anomalies.source: there is no synthetic source 'confeti'",
            "x.yaml:11: grid.training.epoch: there is no key training.epoch",
            "x.yaml:12: seeds: found 0|how many seeds",
        ],
    ),
}


@pytest.mark.parametrize(("text", "expected"), FILES.values(), ids=FILES.keys())
def test_a_file_of_broken_names_is_answered_with_all_its_problems(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert_reported(problems_in("x.yaml"), expected)


def folder_experiment(tmp_path, root, more=""):
    path = tmp_path / "x.yaml"
    path.write_text(HEAD.replace("digits", "folder") + f"dataset:\n  root: {root}\n{more}")
    return path


def test_a_number_that_is_also_a_class_name_must_be_made_clear(tmp_path):
    trees.write_one_vs_rest(tmp_path / "data", classes=("1", "2", "3"))
    path = folder_experiment(tmp_path, tmp_path / "data", "  classes: [1]\n")
    assert_reported(
        problems_in(path),
        ["x.yaml:6: dataset.classes: 1 may mean class number 1, which is '2', or the class named '1'"],
    )
    assert plan_file(path, ["dataset.classes=['1']"])[1].classes == ("1",)


def test_classes_that_would_share_a_folder_are_a_problem(tmp_path):
    trees.write_one_vs_rest(tmp_path / "data", classes=("Nut", "bolt", "nut"))
    path = folder_experiment(tmp_path, tmp_path / "data")
    expected = "dataset.classes: the results of classes 'Nut' and 'nut' would share the folder normal_nut"
    assert_reported(problems_in(path), [expected])
    assert plan_file(path, ["dataset.classes=[bolt, nut]"])[1].classes == ("bolt", "nut")


def test_a_folder_of_outlier_exposure_must_hold_images(tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "x.yaml").write_text(HEAD + f"anomalies:\n  mode: noise\n  source:\n    folder: {tmp_path / 'none'}\n")
    assert_reported(problems_in(tmp_path / "x.yaml"), ["x.yaml:7: anomalies.source.folder: there is no image below"])


def test_real_anomalies_need_maps_for_mvtec_gt_and_two_images_of_a_type(tmp_path):
    trees.write_class_first(tmp_path / "data")
    (tmp_path / "x.yaml").write_text(
        HEAD.replace("digits", "folder") + f"dataset: {{root: {tmp_path / 'data'}}}\n"
        "anomalies: {mode: noise, source: mvtec_gt, limit: 1}\n"
    )
    reported = problems_in(tmp_path / "x.yaml")
    assert_reported(
        reported, ["x.yaml:5: anomalies.source: 'mvtec_gt' trains on ground-truth maps, and 'folder' has none|mvtec"]
    )
    for image in [*(tmp_path / "data" / "nut" / "test" / "anomalous" / "bent").iterdir()][1:]:
        image.unlink()
    reported = problems_in(tmp_path / "x.yaml", ["anomalies.source=mvtec"])
    assert_reported(
        reported, ["--set anomalies.source=mvtec: class 'nut' has no defect type with two test images|dataset.classes"]
    )


def test_configs_that_differ_in_what_all_share_are_the_same(tmp_path):
    values = "[{reserved_anomalies: 1}, {reserved_anomalies: 2}]"
    (tmp_path / "x.yaml").write_text(TEXTURES + f"grid:\n  evaluation: {values}\n")
    reported = problems_in(tmp_path / "x.yaml")
    assert_reported(
        reported, ["x.yaml:5: grid.evaluation|are the same and would be trained twice|set it outside of grid"]
    )
