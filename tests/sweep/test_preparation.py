"""Data before the first trial: each data set is scanned and opened once."""

from __future__ import annotations

import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.data import loading
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.runners.trial_data import corpus_of, forget_data
from fcdd_sweep.sweep.preparation import prepare_data
from fcdd_sweep.sweep.sweep import run_sweep
from tests.events import Recorder
from tests.specs import small_experiment
from tests.trees import write_class_first, write_image

EXPERIMENT = small_experiment("""
seeds: 2
anomalies: {limit: 4}
evaluation: {validation: {nominal_fraction: 0.2, anomalies: training}}
grid: {training.learning_rate: [0.1, 0.01]}
""")


@pytest.fixture
def specs(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT)
    yield plan(load_experiment(path, [f"output={tmp_path}"])).specs
    forget_data()


def counted(monkeypatch):
    scanned, scan = [], loading.scan_dataset

    def count(dataset, images):
        scanned.append(dataset.name)
        return scan(dataset, images)

    monkeypatch.setattr(loading, "scan_dataset", count)
    return scanned


def test_data_is_scanned_once_for_preparation_fingerprints_and_the_trials_of_this_process(specs, monkeypatch):
    scanned = counted(monkeypatch)
    said = []
    fingerprints, _ = prepare_data(specs, said.append)
    assert fingerprints.keys() == {spec.trial_id for spec in specs} and len(specs) == 8
    assert {corpus_of(spec.settings).name for spec in specs} == {"digits"}
    assert scanned == ["digits"]


def test_a_new_start_in_the_same_process_scans_again(specs, monkeypatch):
    prepare_data(specs, print)
    scanned = counted(monkeypatch)
    prepare_data(specs, print)
    assert scanned == ["digits"]


@pytest.mark.slow
def test_data_that_changes_within_one_process_is_noticed(tmp_path):
    root = write_class_first(tmp_path / "parts")
    text = f"""
schema: 2
name: parts
preset: folder
dataset: {{name: folder, root: {root}, classes: [bolt]}}
images: {{load_size: 32, size: 32}}
network: {{name: FCDD_CNN32_S}}
training: {{epochs: 1, batch_size: 4, min_steps: 0}}
seeds: 1
"""
    (tmp_path / "parts.yaml").write_text(text)
    loaded = load_experiment(tmp_path / "parts.yaml", [f"output={tmp_path / 'results'}"])
    assert run_sweep(loaded, local=True, progress=Recorder()).done == 1
    image = sorted((root / "bolt" / "train").rglob("*.png"))[0]
    write_image(image, seed=99)
    with pytest.raises(InputError, match="data of class bolt has changed"):
        run_sweep(loaded, local=True, progress=Recorder())
