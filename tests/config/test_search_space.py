"""The search of an experiment file: what it may say, what is wrong with it, which configs its values make."""

from __future__ import annotations

import pytest

from fcdd_sweep.config.errors import ExperimentError
from fcdd_sweep.config.loading import dump_experiment
from fcdd_sweep.config.search_schema import ORACLE_METRICS, SEARCH_METRICS, SearchAxis
from fcdd_sweep.config.search_space import space_of
from fcdd_sweep.config.trial_spec import config_id
from tests.broken import HEAD

SPACE = """\
    training.learning_rate: {log: [0.0001, 0.1]}
    anomalies.limit: {choices: [1, 8, all]}
"""
SEARCH = f"search:\n  budget: {{configs: 5}}\n  space:\n{SPACE}"


def search_of(*lines, space=SPACE, budget="{configs: 5}"):
    return HEAD + f"search:\n  budget: {budget}\n" + "".join(f"  {line}\n" for line in lines) + f"  space:\n{space}"


def axis(key, text):
    return f"    {key}: {text}\n"


def problems(load, text, *overrides):
    with pytest.raises(ExperimentError) as caught:
        load(text, *overrides)
    return [str(problem) for problem in caught.value.problems]


def test_a_search_needs_a_space_and_a_budget_alone(load):
    search = load(HEAD + SEARCH).search
    assert (search.algorithm, search.metrics, search.directions) == ("tpe", ["validation_image_auroc"], ["maximize"])
    assert (search.seeds, search.classes, search.test, search.prune) == ("all", "all", False, None)


def test_a_file_with_a_search_is_written_and_read_again(load):
    space = axis("training.epochs", "{int: [1, 9], step: 2}") + axis(
        "training.momentum", "{float: [0, 0.9], step: 0.3, when: {training.optimizer: [sgd]}}"
    )
    text = search_of("prune: null", space=SPACE + space + axis("training.optimizer", "{choices: [sgd, adam]}"))
    experiment = load(text)
    assert load(dump_experiment(experiment)) == experiment


def test_a_search_changes_no_trials_id(load):
    assert config_id(load(HEAD + SEARCH)) == config_id(load(HEAD))


def test_overrides_reach_the_search_and_replace_an_axis_whole(load):
    experiment = load(
        HEAD + SEARCH,
        "search.budget.configs=50",
        "search.space.training.learning_rate={choices: [0.1, 0.2]}",
        "search.algorithm=random",
    )
    assert experiment.search.budget.configs == 50
    assert experiment.search.space["training.learning_rate"].values() == [0.1, 0.2]
    assert experiment.search.space["anomalies.limit"].values() == [1, 8, "all"]
    assert load(HEAD + SEARCH, "search=null").search is None


BROKEN_AXES = {
    "{}": "none of them",
    "{log: [1, 2], choices: [3]}": "has log and choices",
    "{float: [2, 1]}": "the low end 2 is not below the high end 1",
    "{log: [0, 1]}": "must be above 0",
    "{log: [1]}": "found the list",
    "{int: [1, 2], step: 0.5}": "must be a whole number",
    "{float: [0, 1], step: 3}": "step 3 must be above 0, at most the range's width",
    "{float: [1, 2], log: true}": "log: true belongs to int",
    "{choices: []}": "the list of choices is empty",
    "{choices: [1, 2, 1]}": "the choice 1 is given twice",
    "{choices: [1], step: 1}": "step belongs to a range",
    "{range: [1, 2]}": "there is no such key",
}


@pytest.mark.parametrize("text", BROKEN_AXES)
def test_an_axis_that_makes_no_sense_is_reported_with_its_line(load, text):
    found = problems(load, search_of(space=axis("training.learning_rate", text)))
    assert len(found) == 1 and BROKEN_AXES[text] in found[0]
    assert "x.yaml:7: search.space.training.learning_rate" in found[0]


WRONG_SPACES = {
    axis("training.learnin_rate", "{log: [1e-4, 1]}"): "Closest: 'training.learning_rate'",
    axis("training.learning_rate", "{float: [-1, 1]}"): "float[0]: found -1.0. Allowed: a number, above 0",
    axis("training.momentum", "{float: [0.5, 1]}"): "float[1]: found 1.0. Allowed: a number, at least 0 and below 1",
    axis("training.batch_size", "{log: [2.5, 8]}"): "log[0]: found 2.5. Allowed: a whole number",
    axis("training.batch_size", "{float: [0, 8]}"): "float[0]: found 0.0. Allowed: a whole number, at least 2",
    axis("anomalies.limit", "{choices: [1, none]}"): "choices[1]: found the text 'none'",
    axis("dataset.name", "{choices: [digits, cifar10]}"): "dataset.name is the same for all configs",
    axis("resources.cpus", "{int: [1, 2]}"): "resources.cpus is the same for all configs",
    axis("evaluation.validation.nominal_fraction", "{float: [0.1, 0.2]}"): "decides how configs are evaluated",
    axis("training", "{choices: [{epochs: 3}]}") + axis("training.epochs", "{int: [1, 3]}"): "sets again",
    axis("training.momentum", "{float: [0, 0.5], when: {training.optimizer: sgd}}"): "training.optimizer is not a key",
    axis("training.epochs", "{int: [1, 2], when: {training.epochs: 1}}"): "depends on itself",
    axis("training.epochs", "{int: [1, 2], when: {network.bias: true}}")
    + axis("network.bias", "{choices: [true, false], when: {training.epochs: 1}}"): "depends on a key that depends on",
    axis("training.epochs", "{int: [1, 2], when: {network.bias: 3}}")
    + axis("network.bias", "{choices: [true]}"): "3 is not a value of network.bias in the space",
}


@pytest.mark.parametrize("space", WRONG_SPACES)
def test_a_space_that_the_schema_forbids_is_reported(load, space):
    found = problems(load, search_of(space=space))
    assert any(WRONG_SPACES[space] in problem for problem in found), found
    assert all("search.space." in problem for problem in found)


WRONG_SEARCHES = {
    "metric: image_auroc": "measured on the test set, which is for reporting",
    "metric: validation_auroc": "there is no metric 'validation_auroc'",
    "metric: [final_loss, train_time_s]": "'tpe' searches for one metric, found 2",
    "metric: []": "the list of metrics is empty",
    "confirm_seeds: [1, 7]": "1 evaluated configs",
    "confirm_seeds: [7, 7]": "holds one twice",
    "algorithm: grid": "a range without steps has no grid",
    "algorithm: bayes": "Allowed: 'tpe', 'random'",
    "prune: {at: [3, 2]}": "the epochs must increase",
    "prune: {at: [1000]}": "is not before the last",
    "parallel: 0": "at least 1",
}


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("{log: [1, 5]}", "{int: [1, 5], log: true}"),
        ("{float: [1, 5], step: 2}", "{int: [1, 5], step: 2}"),
        ("{float: [1, 5], when: {anomalies.limit: 8}}", "{int: [1, 5], when: {anomalies.limit: 8}}"),
    ],
)
def test_a_range_of_whole_numbers_is_proposed_where_the_key_takes_no_others(load, text, whole):
    (found,) = problems(load, search_of(space=SPACE + axis("training.epochs", text)))
    what = "training.epochs takes whole numbers alone, and this range has others between its ends"
    assert f"search.space.training.epochs.{text[1:].partition(':')[0]}: {what}" in found
    assert found.endswith(f"Allowed: a range of whole numbers. Write {whole}.")
    assert load(search_of(space=SPACE + axis("training.epochs", whole))).search is not None


@pytest.mark.parametrize("line", WRONG_SEARCHES)
def test_a_search_that_cannot_be_done_is_reported(load, line):
    found = problems(load, search_of(line))
    assert len(found) == 1 and WRONG_SEARCHES[line] in found[0], found


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["metric: final_loss", "failed_trials: worst"], "would be the best final_loss"),
        (["metric: final_loss", "prune: {at: [1]}"], "by validation_image_auroc only"),
        (["algorithm: nsga2", "metric: [final_loss, train_time_s]", "direction: [minimize]"], "and 1 directions"),
    ],
)
def test_settings_of_a_search_that_contradict_each_other_are_reported(load, lines, what):
    (found,) = problems(load, search_of(*lines))
    assert what in found


def test_an_empty_budget_and_everything_else_are_reported_at_once(load):
    space = axis("training.epoch", "{int: [1, 2]}") + axis("network.bias", "{choices: []}")
    text = search_of("metric: image_auroc", space=space, budget="{}") + "grid: {training.epochs: [1]}\n"
    found = problems(load, text)
    assert len(found) == 5
    for what in ("the budget is empty", "no key training.epoch", "choices is empty", "test set", "exclude each other"):
        assert any(what in problem for problem in found), what


def test_oracle_metrics_are_allowed_by_their_full_name_alone(load):
    assert load(search_of("metric: oracle/image_auroc")).search.oracle
    assert not load(HEAD + SEARCH).search.oracle
    assert not set(SEARCH_METRICS) & set(ORACLE_METRICS)


def test_axes_know_their_values():
    assert SearchAxis.model_validate({"int": [1, 6], "step": 2}).values() == [1, 3, 5]
    assert SearchAxis.model_validate({"float": [0.1, 0.9], "step": 0.4}).values() == [0.1, 0.5, 0.9]
    assert SearchAxis.model_validate({"log": [0.1, 0.9]}).values() is None
    limits = SearchAxis.model_validate({"choices": [1, True, "all"]})
    assert limits.contains(1) and limits.contains("all") and not limits.contains(2)
    whole = SearchAxis.model_validate({"int": [1, 6], "step": 2})
    assert [value for value in (0, 1, 2, 3, 5, 6, 7, 1.0, True) if whole.contains(value)] == [1, 3, 5]


def test_configs_have_readable_folders_and_the_exact_values(load):
    space = space_of(load(HEAD + SEARCH))
    config = space.config(7, {"training.learning_rate": 0.012345678, "anomalies.limit": "all"})
    assert config.name == "007_learning_rate-0.01235_limit-all"
    assert (config.settings.training.learning_rate, config.settings.anomalies.limit) == (0.012345678, "all")
    own = space.config(0, {})
    assert own.name == "default" and own.settings.training == load(HEAD).training


def test_a_key_is_searched_only_where_its_condition_holds(load):
    space = space_of(
        load(
            search_of(
                space=axis("training.momentum", "{choices: [0.0, 0.5], when: {training.optimizer: sgd}}")
                + axis("training.optimizer", "{choices: [adam, sgd]}")
            )
        )
    )
    assert list(space.axes) == ["training.optimizer", "training.momentum"]
    assert space.default() == {"training.optimizer": "sgd", "training.momentum": 0.9}
    assert space.grid() == [
        {"training.optimizer": "adam"},
        {"training.optimizer": "sgd", "training.momentum": 0.0},
        {"training.optimizer": "sgd", "training.momentum": 0.5},
    ]
    assert len(space.extremes()) == 5


def test_values_that_contradict_each_other_are_reported_when_they_meet(load):
    text = axis("images.load_size", "{choices: [32, 40]}") + axis("images.size", "{choices: [28, 32]}")
    space = space_of(load(search_of(space=text), "images.load_size=40"))
    with pytest.raises(ExperimentError, match="images.size 36 must not be larger"):
        space.config(1, {"images.load_size": 32, "images.size": 36})


def test_a_range_of_many_values_is_counted_and_not_listed():
    whole = SearchAxis.model_validate({"int": [1, 10**15], "step": 3})
    assert (whole.size, whole.value(2)) == (333_333_333_333_334, 7)
    fine = SearchAxis.model_validate({"float": [0.0, 1.0], "step": 1e-12})
    assert fine.size == 10**12 + 1 and fine.value(3) == pytest.approx(3e-12)
    assert SearchAxis.model_validate({"float": [0.0, 1.0]}).size is None
