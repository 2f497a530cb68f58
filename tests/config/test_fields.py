"""Durations in an experiment file: what is understood, what is not, and what is said then."""

import pytest

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.config.fields import Every, seconds
from fcdd_sweep.config.grid import configs_of
from fcdd_sweep.config.loading import dump_experiment, load_experiment
from fcdd_sweep.config.schema import Faults

HEAD = "schema: 2\nname: x\npreset: digits\n"


@pytest.fixture
def load(tmp_path):
    def load(text, *overrides):
        path = tmp_path / "x.yaml"
        path.write_text(HEAD + text)
        return load_experiment(path, overrides)

    return load


@pytest.mark.parametrize(("text", "expected"), [("1s", 1), ("90s", 90), ("5m", 300), ("2h", 7200), ("30 m", 1800)])
def test_a_duration_is_seconds(text, expected):
    assert seconds(text) == expected
    assert Every.of(text) == Every(seconds=expected)
    assert Faults(progress_timeout=text, checkpoint_every=text).progress_timeout == text


@pytest.mark.parametrize(("text", "expected"), [("1 epoch", 1), ("10 epochs", 10)])
def test_epochs_are_counted(text, expected):
    assert Every.of(text) == Every(epochs=expected)
    assert Faults(checkpoint_every=text).checkpoint_every == text


WRONG = ["", "5", "m", "0s", "-5m", "1.5h", "5 minutes", "5M", "1d", "5m\n", "1e3s", "5m 30s", "9" * 5000 + "s"]


@pytest.mark.parametrize("text", [*WRONG, "0 epochs", "epochs", "3epochs", "3 epochs."])
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="is neither a duration"):
        Every.of(text)
    with pytest.raises(ValueError, match="checkpoint_every"):
        Faults(checkpoint_every=text)


@pytest.mark.parametrize("text", [*WRONG, "10 epochs"])
def test_a_timeout_is_a_duration_alone(text):
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(text)
    with pytest.raises(ValueError, match="progress_timeout"):
        Faults(progress_timeout=text)


def test_mistakes_are_reported_with_what_is_allowed(load):
    with pytest.raises(ExperimentError) as caught:
        load("faults:\n  checkpoint_every: 5 minutes\n  progress_timeout: 30\n")
    reported = [str(problem) for problem in caught.value.problems]
    assert len(reported) == 2
    assert (
        "x.yaml:5: faults.checkpoint_every: found the text '5 minutes'. Allowed: a duration such as '90s'"
        in reported[0]
    )
    assert "or a number of epochs such as '10 epochs'" in reported[0]
    assert "x.yaml:6: faults.progress_timeout: found 30. Allowed: a duration such as '90s', '5m' or '2h'" in reported[1]


def test_they_are_settable_dumped_and_no_part_of_a_config_s_id(load, tmp_path):
    plain, other = load(""), load("faults: {progress_timeout: 90s}\n", "faults.checkpoint_every=10 epochs")
    assert (plain.faults.checkpoint_every, plain.faults.progress_timeout) == ("5m", "30m")
    assert (other.faults.checkpoint_every, other.faults.progress_timeout) == ("10 epochs", "90s")
    (tmp_path / "dumped.yaml").write_text(dump_experiment(other))
    assert load_experiment(tmp_path / "dumped.yaml").faults == other.faults
    assert [c.config_id for c in configs_of(plain)] == [c.config_id for c in configs_of(other)]
