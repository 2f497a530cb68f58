"""States are text in tables and messages, and know which of them are final."""

from fcdd_sweep.results.states import ConfigState, TrialStatus


def test_states_are_the_words_of_tables():
    assert TrialStatus("done") is TrialStatus.DONE and f"{TrialStatus.MISSING}" == "missing"
    assert ConfigState.PRUNED == "pruned"


def test_a_trial_is_finished_when_it_is_done_or_failed():
    assert [status for status in TrialStatus if status.is_finished] == ["done", "failed"]


def test_a_config_is_finished_when_the_study_has_its_end():
    assert [state for state in ConfigState if state.is_finished] == ["done", "failed", "pruned"]
