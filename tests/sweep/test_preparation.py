"""Data before the first trial: each data set is scanned and opened once."""

from __future__ import annotations

import pytest

from fcdd_sweep.config.loading import load_experiment
from fcdd_sweep.data import loading
from fcdd_sweep.planning.plan import plan
from fcdd_sweep.runners.trial_data import corpus_of, forget_data
from fcdd_sweep.sweep.preparation import prepare_data
from tests.specs import small_experiment

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
