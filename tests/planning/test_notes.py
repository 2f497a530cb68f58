"""What a plan notes: settings that are allowed and yet unlikely to be meant."""

from __future__ import annotations

import pytest

from tests import trees

HEAD = "schema: 2\nname: x\npreset: digits\nseeds: 2\n"


@pytest.mark.parametrize(
    ("override", "note"),
    [
        ("anomalies.probability=0", "anomalies.probability is 0: mode 'other' never makes an anomaly."),
        ("anomalies.probability=1", "anomalies.probability is 1: no nominal image is ever trained on."),
        ("anomalies.online=false", "anomalies.probability has no meaning where anomalies.online is false"),
        ("training.threads=4096", "training.threads is 4096, but this machine has"),
        ("resources.cpus=0.5", "training.threads is 1, but a trial reserves 0.5 CPUs"),
        ("training.schedule={type: milestones, milestones: [2000]}", "training.schedule.milestones: those from"),
    ],
)
def test_what_is_unlikely_to_be_meant_is_noted_once(planned, override, note):
    text = HEAD + "anomalies: {probability: 0.3}\ngrid: {anomalies.limit: [8, 16]}\n"
    assert [note in one for one in planned(text, override).notes] == [True]


def test_whole_photographs_that_are_shrunk_twice_are_noted(planned, tmp_path):
    trees.write_one_vs_rest(tmp_path / "data")
    text = HEAD.replace("digits", "folder") + f"dataset: {{root: {tmp_path / 'data'}}}\n"
    sizes = "images={load_size: 248, size: 224}", "evaluation.image_score=max"

    def noted(*overrides):
        notes = planned(text, *sizes, *overrides).notes
        return [note for note in notes if not note.startswith("no decision")]

    assert noted("preprocessing=aug1") == []
    (note,) = noted("preprocessing=none")
    assert "reduced from 248 to 224 px by nearest neighbor. Set images.load_size to 224" in note
    assert noted("preprocessing=none", "images.load_size=224") == []


def test_an_override_of_what_every_config_sets_is_noted(planned):
    text = HEAD + "training: {epochs: 9}\ngrid: {training.epochs: [1, 2]}\n"
    text += "variants: {a: {training.learning_rate: 0.1, anomalies.limit: 8}, b: {training.learning_rate: 0.2}}\n"
    assert planned(text, "anomalies.limit=16").notes == ()
    assert planned(text, "training.epochs=3", "training.learning_rate=0.3").notes == (
        "--set training.learning_rate=0.3 is not used, since every variant sets this key.",
        "--set training.epochs=3 is not used, since the grid sets this key.",
    )


def test_an_ordinary_experiment_has_no_notes(planned):
    assert planned(HEAD).notes == ()
