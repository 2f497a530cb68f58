"""What a start says where it differs from the run that it continues."""

import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.results.tree import RunPaths
from tests.sweep.test_sweep import go, loader_in
from tests.trees import write_class_first

pytestmark = pytest.mark.slow


def test_a_run_of_another_folder_says_which_it_was(tmp_path):
    text = "schema: 2\nname: parts\npreset: folder\nseeds: 1\ntraining: {epochs: 1, min_steps: 1}\n"
    load = loader_in(tmp_path)
    for place, classes in (("a", ("bolt",)), ("b", ("nut", "bolt"))):  # bolt's images are others there
        write_class_first(tmp_path / place / "parts", classes=classes)
    text += "dataset: {classes: [bolt]}\n"
    go(load(f"dataset.root={tmp_path / 'a' / 'parts'}", text=text))
    with pytest.raises(InputError, match=rf"The run used {tmp_path}/a/parts: to have both, name this one otherwise"):
        go(load(f"dataset.root={tmp_path / 'b' / 'parts'}", text=text))


def test_a_start_that_decides_otherwise_than_the_run_says_so(tmp_path):
    experiment = loader_in(tmp_path)
    held_out = "evaluation.validation.nominal_fraction=0.33"
    result, recorder = go(experiment("seeds=1", held_out))
    assert not [message for message in recorder.messages if "decisions" in message]
    file = RunPaths(result.run_dir).experiment
    file.write_text(file.read_text().replace("false_alarm_rate: 0.05", "false_alarm_rate: 0.2"))
    _, recorder = go(experiment("seeds=1", held_out))
    (message,) = [message for message in recorder.messages if "decisions" in message]
    assert message.startswith("evaluation.false_alarm_rate is 0.05 here and was 0.2 in the run's experiment.yaml")
    assert message.endswith("To keep 0.2, write it into the file that you start.")
