"""Which leaves of a class decide, and what is said of those that do not; leaves have the files that are looked at."""

import shutil
from pathlib import Path

import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.prediction.seeds import seeds_of_class
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.tree import LEAF_TABLES, alternative_leaf
from fcdd_sweep.sweep.trial_rows import key_of
from tests.prediction.runs import write_plan
from tests.specs import spec

OTHER = {"training": {"learning_rate": 0.5}}
"""Settings of another config."""


def write_leaf(folder, trial):
    folder.mkdir(parents=True)
    for name in ("snapshot.pt", *LEAF_TABLES):
        (folder / name).touch()
    write_scores(folder, trial, 3)
    row = dict.fromkeys(schemas.METRICS.names) | key_of(trial) | {"n_validation": 3}
    files.write_rows(folder / "metrics.parquet", [row], schemas.METRICS)
    return folder


def write_scores(folder, trial, count):
    held_out = {"trial_id": trial.trial_id, "split": "validation", "label": 0, "defect": "", "path": "good/0.png"}
    rows = [dict.fromkeys(schemas.SCORES.names) | held_out] * count
    files.write_rows(folder / "scores.parquet", rows, schemas.SCORES)


@pytest.fixture
def folder(tmp_path):
    """A class of a run with two planned seeds."""
    for seed in (0, 1):
        write_leaf(tmp_path / "run" / "normal_plain" / f"it_{seed}", spec(seed))
    write_plan(tmp_path / "run", spec(0), spec(1))
    return tmp_path / "run" / "normal_plain"


def found(folder):
    """The names of the leaves that decide, and the notes without the folder."""
    leaves, notes = seeds_of_class(folder)
    assert all(leaf.parent == folder for leaf in leaves)
    return [leaf.name for leaf in leaves], [note.replace(str(folder), "FOLDER") for note in notes]


def test_all_planned_seeds_decide_without_a_word(folder, tmp_path, monkeypatch):
    assert found(folder) == (["it_0", "it_1"], [])
    (tmp_path / "link").symlink_to(folder)
    assert found(tmp_path / "link") == (["it_0", "it_1"], [])
    monkeypatch.chdir(folder)
    assert found(Path()) == (["it_0", "it_1"], [])


def test_a_class_that_was_copied_away_from_its_run_has_no_plan_to_ask(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "mine")
    (tmp_path / "mine" / "it_1").rename(tmp_path / "mine" / "it_7")
    write_leaf(tmp_path / "mine" / "it_10", spec(10))
    shutil.copytree(folder / "it_0", tmp_path / "mine" / "it_0 (copy)")
    left = "it_7 (holds seed 1), it_0 (copy) (is not named it_SEED)"
    assert found(tmp_path / "mine") == (["it_0", "it_10"], [f"2 of 4 seeds decide, for FOLDER; left out: {left}."])


def cut_off(leaf):
    (leaf / "scores.parquet").write_bytes((leaf / "scores.parquet").read_bytes()[:100])


def of_class_5(leaf):
    shutil.rmtree(leaf)
    write_leaf(leaf, spec(0, "5"))


def of_earlier_settings(leaf):
    shutil.rmtree(leaf)
    write_leaf(leaf, spec(0, **OTHER))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda leaf: (leaf / "snapshot.pt").unlink(), "lacks snapshot.pt"),
        (shutil.rmtree, "is missing or empty"),
        (lambda leaf: (leaf / "metrics.parquet").unlink(), "lacks metrics.parquet"),
        (lambda leaf: (leaf / "metrics.parquet").write_bytes(b""), "metrics.parquet is damaged: it is not Parquet"),
        (lambda leaf: (leaf / "scores.parquet").unlink(), "lacks scores.parquet"),
        (cut_off, "scores.parquet is damaged: it is not Parquet"),
        (lambda leaf: write_scores(leaf, spec(0), 0), "scores.parquet is damaged: it has 0 of 3 held-out images"),
        (lambda leaf: write_scores(leaf, spec(0, "5"), 3), "scores.parquet is of another trial"),
        (
            lambda leaf: shutil.copy(leaf / "metrics.parquet", leaf / "scores.parquet"),
            "scores.parquet lacks the",
        ),
        (of_class_5, "holds a trial of class 5, seed 0"),
        (of_earlier_settings, "holds a trial of other settings"),
    ],
)
def test_a_planned_seed_that_cannot_decide_is_left_out_by_name_with_the_reason(change, fault, folder):
    change(folder / "it_0")
    names, (note,) = found(folder)
    assert names == ["it_1"]
    decides = "1 of 2 planned seeds decides, by its own threshold and plain scores, for FOLDER"
    assert note.startswith(f"{decides}; left out: it_0 ({fault}")


def test_what_is_not_planned_does_not_vote(folder):
    shutil.copytree(folder / "it_0", folder / "it_0 (copy)")
    write_leaf(folder / "it_2", spec(2))
    left = "it_2 (is not in the run's plan), it_0 (copy) (is not in the run's plan)"
    note = f"2 of 2 planned seeds decide, for FOLDER; left out: {left}."
    assert found(folder) == (["it_0", "it_1"], [note])


def test_after_an_edit_the_planned_seeds_decide_wherever_in_the_run_they_are(folder):
    run, edited = folder.parent, [spec(seed, **OTHER) for seed in (0, 2)]
    write_plan(run, *edited)
    other = run / alternative_leaf(edited[0].leaf, edited[0].config_id)
    write_leaf(other, edited[0])
    write_leaf(folder / "it_2", edited[1])
    for place in (folder, other.parent):
        leaves, (*left_out, elsewhere) = seeds_of_class(place)
        assert leaves == [other, folder / "it_2"]
        assert elsewhere.startswith(f"Of the seeds that decide for {place}, the plan has in other folders: ")
        assert [note.split("left out: ")[1] for note in left_out] == (
            ["it_0 (holds a trial of other settings), it_1 (is not in the run's plan)."]
            if place == folder
            else [f"{folder / 'it_0'} (holds a trial of other settings)."]
        )


def test_without_a_plan_that_knows_the_class_all_whole_seeds_decide_and_a_note_says_so(folder):
    write_plan(folder.parent, spec(0, "5"))
    names, (note,) = found(folder)
    run = folder.parent.resolve()
    assert (names, note) == (
        ["it_0", "it_1"],
        f"No seed of FOLDER is in the plan of its run {run}: all whole ones decide.",
    )
    (folder.parent / "plan.parquet").write_bytes(b"")
    names, (note,) = found(folder)
    assert names == ["it_0", "it_1"] and note.startswith("Which seeds were planned is not known: ")
    assert note.endswith("plan.parquet is damaged: it is not Parquet; all whole ones decide.")


def test_seeds_of_several_classes_or_configs_do_not_vote_together(folder):
    (folder.parent / "plan.parquet").unlink()
    for change, kind in ((of_class_5, "class 5, config"), (of_earlier_settings, "class plain, config")):
        change(folder / "it_0")
        with pytest.raises(
            InputError, match="of several classes or configs, and no plan says which of them count"
        ) as bad:
            seeds_of_class(folder)
        assert f"it_0 ({kind}" in str(bad.value) and "it_1 (class plain, config" in str(bad.value)
    write_plan(folder.parent, spec(0, **OTHER), spec(1))
    with pytest.raises(InputError, match="has trials of 2 configs of the run's plan"):
        seeds_of_class(folder)


def test_where_no_seed_can_decide_each_one_says_why(folder):
    for name in ("it_0", "it_1"):
        (folder / name / "snapshot.pt").unlink()
    with pytest.raises(
        InputError, match=r"no seed that can predict: it_0 \(lacks snapshot.pt\), it_1 \(lacks snapshot.pt\)"
    ):
        seeds_of_class(folder)
