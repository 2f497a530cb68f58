"""Baselines of a finished run: the same classes and seeds under the other methods, then all of them side by side."""

import pytest

from fcdd_sweep import cli
from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.prediction.predict import predict
from fcdd_sweep.prediction.targets import HowToPredict
from fcdd_sweep.results import files
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.sweep import baselines
from fcdd_sweep.sweep.baselines import baselines_of, run_baselines
from fcdd_sweep.sweep.session import write_plan
from fcdd_sweep.sweep.sweep import run_sweep
from tests.trees import write_images

pytestmark = pytest.mark.slow

EXPERIMENT = """
schema: 2
name: small
preset: digits
dataset: {classes: ["3", "8"]}
images: {load_size: 28, size: 28, color: gray}
network: {name: FCDD_CNN28}
training: {epochs: 1, passes_per_epoch: 1, learning_rate: 0.001}
keep: {pictures: none}
seeds: [0, 4]
"""


def load(folder, text=EXPERIMENT, *overrides):
    path = folder / "small.yaml"
    path.write_text(text)
    return load_experiment(path, [f"output={folder / 'results'}", *overrides])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, with its baselines."""
    experiment = load(tmp_path_factory.mktemp("baselines"))
    assert run_sweep(experiment, local=True).done == 4
    assert run_baselines(experiment.run_dir, local=True).sweep.done == 8
    return experiment.run_dir


def planned(experiment):
    """A run's own files without any trial."""
    experiment.run_dir.mkdir(parents=True)
    write_plan(experiment, plan(experiment), [])
    return experiment.run_dir


def test_baselines_run_on_the_run_s_classes_and_seeds(finished):
    rows = files.read_table(RunPaths(finished / "baselines").trials).to_pylist()
    assert {(row["param.method"], row["normal_class"], row["seed"]) for row in rows} == {
        (method, name, seed) for method in ("hsc", "ae") for name in "38" for seed in (0, 4)
    }
    assert all(row["status"] == "done" and row["image_auroc"] is not None for row in rows)


def test_all_methods_stand_in_one_picture_a_seed_and_a_class(finished):
    folder = finished / "baselines" / "combined" / "normal_8"
    assert {path.name for path in folder.iterdir()} == {"it_0.png", "it_4.png", "heatmaps.png"}
    page = (finished / "baselines" / "comparison.html").read_text()
    assert '<th class="num">AE</th>' in page and "image AUROC" in page and "<code>AE28" in page


def test_the_same_command_again_runs_nothing(finished):
    result = run_baselines(finished, local=True)
    assert (result.sweep.kept, result.sweep.done) == (8, 8)


@pytest.mark.parametrize("method", ["hsc", "ae"])
def test_snapshots_of_baselines_predict(finished, method, tmp_path):
    write_images(tmp_path / "new", 3)
    snapshot = TrialPaths(finished / "baselines" / method / "normal_3" / "it_0").snapshot
    result = predict(snapshot, [tmp_path / "new"], tmp_path / "out", HowToPredict(batch_size=2))
    scores = files.read_table(result.scores)["score"].to_pylist()
    assert len(set(scores)) == 3 and all(score > 0 for score in scores)
    again = predict(snapshot, [tmp_path / "new"], tmp_path / "again", HowToPredict(batch_size=3))
    assert files.read_table(again.scores)["score"].to_pylist() == pytest.approx(scores, rel=1e-5)


def test_every_config_of_a_grid_gets_its_baselines(tmp_path):
    text = EXPERIMENT + "grid: {training.learning_rate: [0.1, 0.01], network.name: [FCDD_CNN28, FCDD_CNN28_W]}\n"
    run_dir = planned(load(tmp_path, text))
    configs = plan(baselines_of(run_dir)[0]).configs
    found = {
        (config.settings.method, config.settings.network.name, config.settings.training.learning_rate)
        for config in configs
    }
    assert found == {
        *(("hsc", name, rate) for name in ("CNN28", "CNN28_W") for rate in (0.1, 0.01)),
        *(("ae", name, 0.001) for name in ("AE28", "AE28_W")),  # with a rate of its own, shared by both
    }
    assert {config.settings.training.optimizer for config in configs if config.settings.method == "ae"} == {"adam"}
    assert all(config.settings.heatmaps.blur for config in configs)


def test_anomalies_of_fcdd_serve_hsc_from_labels_and_the_autoencoder_sees_none(tmp_path):
    text = EXPERIMENT.replace("preset: digits\n", "preset: textures\n").replace('["3", "8"]', "[brick]")
    text += "anomalies: {mode: malformed_normal_gt, source: confetti}\n"
    run_dir = planned(load(tmp_path, text))
    hsc, ae = (config.settings for config in plan(baselines_of(run_dir)[0]).configs)
    assert (hsc.anomalies.mode, hsc.anomalies.source) == ("malformed_normal", "confetti")
    assert (ae.anomalies.mode, ae.anomalies.source) == ("unsupervised", None)
    assert hsc.training.supervision == ae.training.supervision == "labels"


def test_one_baseline_or_both_can_be_set_otherwise(tmp_path):
    run_dir = planned(load(tmp_path))
    overrides = ["training.epochs=2", "ae.training.learning_rate=0.005"]
    hsc, ae = (config.settings.training for config in plan(baselines_of(run_dir, overrides)[0]).configs)
    assert (hsc.epochs, hsc.learning_rate) == (2, 0.001)
    assert (ae.epochs, ae.learning_rate) == (2, 0.005)
    for wrong in ("training.epoch=3", "ae.epochs", "dataset.root=x", "images.size=16", "method=fcdd"):
        with pytest.raises(InputError, match="a baseline must not differ from the run in this"):
            baselines_of(run_dir, [wrong])


def test_baselines_of_a_run_that_cannot_be_written_are_refused_by_name(tmp_path, capsys):
    run_dir = planned(load(tmp_path))
    (run_dir / "baselines").write_text("a file, not a folder")
    assert cli.main(["baselines", str(run_dir), "--local"]) == 2
    error = capsys.readouterr().err
    assert "baselines: results cannot be written to this folder" in error and "Make it writable" in error


def test_configs_with_the_same_baseline_share_it(tmp_path):
    text = EXPERIMENT + "grid: {anomalies.limit: [1, 8], network.name: [FCDD_CNN32_S, FCDD_CNN32]}\n"
    experiment, counterparts = baselines_of(planned(load(tmp_path, text.replace("28", "32"))))
    found = [config.settings for config in plan(experiment).configs]
    assert [settings.method for settings in found].count("ae") == 1
    assert sorted(s.anomalies.limit for s in found if s.method == "hsc") == [1, 8]
    assert len(counterparts) == 4 and len({names["ae"] for names in counterparts.values()}) == 1
    assert len({names["hsc"] for names in counterparts.values()}) == 2


def test_networks_and_anomalies_of_a_baseline_can_be_set_key_by_key(tmp_path):
    overrides = [
        "hsc.anomalies.limit=2",
        "ae.network.name=AE28_W",
        "hsc.network.bias=false",
        "ae.training.optimizer=adam",
    ]
    experiment, _ = baselines_of(planned(load(tmp_path)), overrides)
    hsc, ae = (config.settings for config in plan(experiment).configs)
    assert (hsc.anomalies.limit, hsc.network.name, hsc.network.bias) == (2, "CNN28", False)
    assert (ae.network.name, ae.training.optimizer, ae.anomalies.mode) == ("AE28_W", "adam", "unsupervised")


def test_baselines_keep_biases_and_take_images_of_any_size(tmp_path):
    text = EXPERIMENT.replace("preset: digits\n", "preset: textures\n").replace('["3", "8"]', "[brick]")
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("images", "network"))) + "\n"
    for config in plan(baselines_of(planned(load(tmp_path, text)))[0]).configs:
        assert (config.settings.images.size, config.settings.network.bias) == (72, False)


def test_all_methods_are_tested_on_the_same_images(tmp_path):
    text = EXPERIMENT.replace("preset: digits\n", "preset: textures\n").replace('["3", "8"]', "[brick]")
    text += "anomalies: {mode: noise, source: mvtec, limit: 3}\n"
    experiment, _ = baselines_of(planned(load(tmp_path, text)), ["hsc.anomalies.limit=1"])
    aside = [config.settings.evaluation.reserved_anomalies for config in plan(experiment).configs]
    assert aside == [3, 3]


def test_the_autoencoder_is_left_out_where_the_normal_class_is_pushed_away(tmp_path):
    text = EXPERIMENT.replace("color: gray}", "color: gray, nominal_label: 1}")
    experiment, counterparts = baselines_of(planned(load(tmp_path, text)))
    assert [config.settings.method for config in plan(experiment).configs] == ["hsc"]
    assert counterparts == {"": {"hsc": "hsc"}}


def test_a_run_of_baselines_has_none_of_its_own(finished):
    with pytest.raises(InputError, match="baselines are made for runs of fcdd only"):
        baselines_of(finished / "baselines")


def test_a_folder_that_is_no_run_is_reported(tmp_path, capsys):
    assert cli.main(["baselines", str(tmp_path), "--dry-run"]) == 2
    assert "is not a run directory" in capsys.readouterr().err


def test_what_would_run_is_reported(tmp_path, capsys):
    assert cli.main(["baselines", str(planned(load(tmp_path))), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "baselines: 8 trials = 2 configs x 2 classes x 2 seeds" in out and "AE28" in out


def test_baselines_run_on_the_cluster_that_is_named(finished, monkeypatch):
    asked = {}

    def run_elsewhere(planned, **how):
        asked.update(how, run_dir=planned.experiment.run_dir)
        raise KeyboardInterrupt

    monkeypatch.setattr(baselines, "run_sweep", run_elsewhere)
    assert cli.main(["baselines", str(finished), "--address", "10.0.0.1:6379"]) == cli.ExitCode.INTERRUPTED
    assert (asked["address"], asked["run_dir"]) == ("10.0.0.1:6379", finished / "baselines")
