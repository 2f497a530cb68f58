"""What a plan costs: from finished trials, or from a probe."""

import re
import shutil
from dataclasses import replace

import pytest

from fcdd_sweep import cli
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.planning.plan import plan_file
from fcdd_sweep.report.trial_costs import work_of_settings
from fcdd_sweep.results import files, schemas, tree
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from fcdd_sweep.sweep import cost
from fcdd_sweep.sweep.cost import Probe, cost_class, measured_lines, probe_cost, probed_lines
from fcdd_sweep.sweep.trial_rows import config_text, key_of
from tests.broken import HEAD
from tests.specs import settings
from tests.test_architecture import blocked

TEXT = (
    HEAD + "dataset: {classes: ['3', '8']}\nseeds: 2\ntraining: {epochs: 4, passes_per_epoch: 1}\n"
    "grid: {training.learning_rate: [0.1, 0.01], network.bias: [true, false]}\n"
)


@pytest.fixture
def planned(tmp_path):
    (tmp_path / "x.yaml").write_text(TEXT)
    experiment, found = plan_file(tmp_path / "x.yaml", [f"output={tmp_path}"])
    return found, experiment


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    monkeypatch.setattr(cost, "this_machine", lambda: cost_machine)


class cost_machine:
    cores, gpu = 4, False


def test_configs_that_differ_in_rates_and_epochs_cost_the_same_a_pass():
    plain = cost_class(settings())
    assert plain == cost_class(settings(training={"learning_rate": 0.5, "epochs": 9, "passes_per_epoch": 3}))
    others = [{"training": {"batch_size": 8}}, {"images": {"size": 30}}, {"method": "hsc"}, {"preprocessing": "none"}]
    assert len({plain, *(cost_class(settings(**other)) for other in others)}) == 5


def test_a_trial_is_its_passes_its_scoring_and_the_rest():
    probe = Probe(3.0, 0.5, 0.01, 2.0, 100, 1000, "x86_64", 120)
    probed: Settings = settings(training={"epochs": 10, "passes_per_epoch": 4})
    assert probe.trial_s(probed) == pytest.approx(3 + 10 * 4 * 0.5 + 2)
    steady: Settings = settings(training={"epochs": 10, "batch_size": 16, "min_steps": 30})  # 4 passes of 120 images
    assert probe.trial_s(steady) == pytest.approx(3 + 10 * 4 * 0.5 + 2)


def test_the_models_of_folds_cost_a_training_each():
    one = settings(training={"epochs": 10, "passes_per_epoch": 4})
    five = settings(training={"epochs": 10, "passes_per_epoch": 4}, evaluation={"calibration": "cross", "folds": 5})
    probe = Probe(3.0, 0.5, 0.01, 2.0, 100, 1000, "x86_64", 120, model_bytes=400)
    assert probe.trial_s(five) == pytest.approx(3 + 5 * (10 * 4 * 0.5 + 2))
    assert (probe.leaf_size(one), probe.leaf_size(five)) == (1000, 1000 + 4 * 400)
    assert work_of_settings("", five).passes == 5 * work_of_settings("", one).passes == 200
    assert cost_class(five) != cost_class(one)


def test_an_estimate_from_probes_counts_trials_hours_slots_and_disk(planned):
    found, _ = planned
    keys = list(dict.fromkeys(cost_class(spec.settings) for spec in found.specs))
    assert len(keys) == 2
    probes = {keys[0]: Probe(6.0, 1.0, 0.01, 2.0, 100, 2**20, "x86_64", 120),
              keys[1]: Probe(16.0, 1.0, 0.01, 4.0, 100, 2**20, "x86_64", 120)}  # fmt: skip
    text = "\n".join(probed_lines(found, probes))
    assert "10.0 ms per step, 1.00 s per pass, scoring 20.00 ms per image, 6.0 s for the rest" in text
    assert ": 8 trials of about 0:12 each" in text and ": 8 trials of about 0:24 each" in text
    assert "16 trials: 0.08 CPU-hours, about 1:12 on this machine, 4 at once" in text  # 8 * 12 + 8 * 24 = 288 s
    assert "results: about 16 MiB" in text


@pytest.mark.parametrize(("card_mib", "hours", "at_once"), [(81559, 4.0, 4), (2048, 8.0, 2), (None, 16.0, 1)])
def test_on_a_gpu_trials_count_with_their_share(planned, monkeypatch, card_mib, hours, at_once):
    monkeypatch.setattr(cost, "card_memory", lambda: card_mib)
    found, _ = planned
    probes = {cost_class(spec.settings): Probe(0.0, 900.0, 1.0, 0.0, 1, 1, "NVIDIA H100", 120) for spec in found.specs}
    line = f"16 trials: {hours:.2f} GPU-hours, about {hours:.0f}:00:00 on one GPU, {at_once} at once"
    assert line in "\n".join(probed_lines(found, probes))


def finished(experiment, specs, seconds, attempt=1, train_s=None):
    """Enter finished trials into a run, with a leaf of `metrics.parquet` and `config.yaml`."""
    rows = []
    for spec, wall in zip(specs, seconds, strict=True):
        leaf = TrialPaths(experiment.run_dir / "old" / spec.trial_id)
        metrics = dict.fromkeys(schemas.METRICS.names) | key_of(spec) | {"train_time_s": train_s}
        files.write_rows(leaf.metrics, [metrics], schemas.METRICS)
        for name in tree.LEAF_TABLES[:-1]:
            (leaf.root / name).touch()
        files.write_text(leaf.config, config_text(spec))
        row = dict.fromkeys(schemas.INDEX.names) | key_of(spec) | {"status": "done", "leaf": f"old/{spec.trial_id}"}
        rows.append(row | {"wall_time_s": wall, "attempt": attempt})
    files.write_rows(RunPaths(experiment.run_dir).index, rows, schemas.INDEX)


def test_a_run_that_exists_is_estimated_from_its_finished_trials(planned):
    found, experiment = planned
    assert measured_lines(found, experiment) == []
    finished(experiment, [found.specs[0], found.specs[1], found.specs[-1]], [30.0, 30.0, 50.0])
    head, line = measured_lines(found, experiment)
    assert head == "estimate from finished trials of this run (median 50.0 s per trial):"
    # left: 2 of the first config and 4 of its other rate at 30 s, 3 of the last and 4 of its other rate at 50 s
    assert line == "  13 trials: 0.15 CPU-hours, about 2:12 on this machine, 4 at once"


def test_a_trial_whose_leaf_is_gone_is_left_to_run(planned):
    found, experiment = planned
    finished(experiment, found.specs, [30.0] * len(found.specs))
    assert measured_lines(found, experiment)[1:] == ["  no trials are left to run"]
    shutil.rmtree(experiment.run_dir / "old" / found.specs[3].trial_id)
    assert measured_lines(found, experiment)[1].startswith("  1 trial: ")


def test_the_first_config_of_a_search_that_is_done_says_nothing_of_the_others(tmp_path):
    search = (
        "search: {metric: final_loss, budget: {configs: 3}, space: {training.learning_rate: {choices: [0.1, 0.01]}}}\n"
    )
    (tmp_path / "x.yaml").write_text(HEAD + "seeds: 2\n" + search)
    experiment, found = plan_file(tmp_path / "x.yaml", [f"output={tmp_path}"])
    finished(experiment, found.specs, [30.0] * len(found.specs))
    (line,) = measured_lines(found, experiment)
    assert line.startswith("no estimate: it covers the search's first config alone") and "which is done" in line


def with_epochs(specs, epochs):
    """The same trials as an earlier file had them, with another number of epochs."""
    training = specs[0].settings.training.model_copy(update={"epochs": epochs})
    return [replace(spec, settings=spec.settings.model_copy(update={"training": training})) for spec in specs]


def test_times_of_trials_with_other_epochs_are_scaled_or_not_used(planned):
    found, experiment = planned
    earlier = with_epochs(found.specs[:2], 1)
    finished(experiment, earlier, [30.0, 30.0])
    (line,) = measured_lines(found, experiment)
    assert line.startswith("no estimate: none of 2 finished trials of this run is comparable.")
    finished(experiment, earlier, [30.0, 30.0], train_s=10.0)
    head, line, others = measured_lines(found, experiment)
    assert "training time scaled to the number of epochs, median 60.0 s per trial" in head  # 20 + 4 * 10
    assert line == "  8 trials: 0.13 CPU-hours, about 2:00 on this machine, 4 at once"
    assert others.startswith("  8 trials more, like none that has finished.")


def test_a_trial_that_resumed_says_nothing_about_the_time_of_others(planned):
    found, experiment = planned
    finished(experiment, found.specs[:1], [1.0], attempt=2)
    assert measured_lines(found, experiment)[0].startswith("no estimate")


def test_a_step_of_a_batch_that_is_not_full_takes_no_longer_than_the_pass(planned):
    found, _ = planned
    wide = found.specs[0].settings.training.model_copy(update={"batch_size": 4096})
    spec = replace(found.specs[0], settings=found.specs[0].settings.model_copy(update={"training": wide}))
    probe = probe_cost(replace(found, specs=(spec,)), lambda sentence: None)[cost_class(spec.settings)]
    assert probe.step_s == pytest.approx(probe.pass_s)


@pytest.mark.slow
def test_a_dry_run_needs_neither_torch_nor_ray(tmp_path):
    (tmp_path / "x.yaml").write_text(TEXT)
    command = f"import fcdd_sweep.cli as cli; cli.main([{str(tmp_path / 'x.yaml')!r}, '--dry-run'])"
    result = blocked(command, "torch", "ray")
    assert result.returncode == 0 and "16 trials" in result.stdout, result.stderr


@pytest.mark.slow
def test_probing_leaves_nothing_in_the_run_and_says_what_it_measured(tmp_path, capsys):
    (tmp_path / "x.yaml").write_text(TEXT)
    options = ["--output", str(tmp_path / "r"), "--set", "grid={}"]
    assert cli.main([str(tmp_path / "x.yaml"), "--probe-cost"]) == 2
    assert cli.main([str(tmp_path / "x.yaml"), "--dry-run", "--probe-cost", *options]) == 0
    text = capsys.readouterr().out
    assert re.search(r"\d ms per step, [\d.]+ s per pass, scoring [\d.]+ ms per image", text)
    assert re.search(r"  4 trials: [\d.]+ CPU-hours, about [\d:]+ on this machine, 4 at once", text)
    assert not (tmp_path / "r").exists()
