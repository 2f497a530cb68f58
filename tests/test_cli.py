"""The command line as a user sees it: output, exit codes, no tracebacks."""

import io
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from fcdd_sweep import cli
from fcdd_sweep.config.locations import StorageError
from tests import works
from tests.trees import write_class_first, write_habits, write_images

TEXT = """
schema: 2
name: quick
preset: digits
dataset: {name: digits, classes: ["3"]}
images: {load_size: 28, size: 28, color: gray}
network: {name: FCDD_CNN28}
training: {epochs: 1, passes_per_epoch: 1}
seeds: 2
"""


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run a command in a folder of its own; gives exit code, output and error output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.yaml").write_text(TEXT)

    def run(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        reported = capsys.readouterr()
        assert "Traceback" not in reported.err
        return code, reported.out, reported.err

    return run


@pytest.mark.slow
def test_a_run_in_process_reports_each_trial_and_the_page(call, tmp_path):
    code, out, _ = call("quick.yaml", "--local")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("trials run on the CPU: torch sees no GPU") or torch.cuda.is_available()
    assert lines[1] == "2 trials; running 2"
    assert lines[2].startswith("done  class 3, seed 0: image AUROC 0.")
    assert lines[-2] == f"report: {tmp_path}/results/quick/report.html"
    assert lines[-1] == "2 of 2 trials done, 0 failed, 0 missing"


def test_dry_run_and_show_config_start_nothing(call, tmp_path):
    code, out, _ = call("quick.yaml", "--dry-run", "--set", "seeds=5")
    assert code == 0 and "5 trials" in out and "FCDD_CNN28" in out
    code, shown, _ = call("quick.yaml", "--show-config", "--set", "training.learning_rate=0.25")
    assert code == 0 and "learning_rate: 0.25" in shown
    assert not (tmp_path / "results").exists()
    (tmp_path / "resolved.yaml").write_text(shown)
    assert call("resolved.yaml", "--show-config")[1] == shown


@pytest.mark.parametrize(
    "command", [["validate", "quick.yaml"], ["quick.yaml", "--dry-run"], ["quick.yaml", "--local"]]
)
def test_an_output_that_cannot_be_written_is_refused_whether_or_not_anything_is_started(call, command):
    code, out, err = call(*command, "--output", "quick.yaml")
    assert (code, out) == (2, "") and "quick: results cannot be written to this folder" in err
    code, out, err = call(*command, "--output", "")
    assert (code, out, err) == (2, "", "error: --set output=: the path is empty; write . for the current folder.\n")


def test_validate_counts_the_trials(call):
    assert call("validate", "quick.yaml") == (0, "quick.yaml: valid, 2 trials\n", "")
    assert call("validate", "quick.yaml", "--set", "seeds=1") == (0, "quick.yaml: valid, 1 trial\n", "")


def test_all_problems_are_reported_with_their_lines_and_nothing_starts(call, tmp_path):
    (tmp_path / "bad.yaml").write_text(TEXT.replace("FCDD_CNN28", "FCDD_CN28").replace("epochs: 1", "epoch: 1"))
    code, out, err = call("bad.yaml")
    assert code == 2 and out == ""
    assert "bad.yaml:7" in err and "FCDD_CN28" in err and "Closest: 'FCDD_CNN28'" in err
    assert "bad.yaml:8" in err and "epoch" in err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "nowhere.yaml"),
        (["validat", "quick.yaml"], "is neither an experiment file nor a command"),
        (["agregate", "results/x", "--redraw"], "Closest: 'aggregate'"),
        (["nowhere", "quick.yaml"], "unrecognized arguments"),
        (["statu"], "Closest: 'status'"),
        (["aggregate", "nowhere"], "is not a run directory"),
        (["status", "nowhere"], "is not a run directory"),
        (["predict", "nowhere.pt", "x.png", "--output", "out"], "there is no such file"),
        (["quick.yaml", "--set", "training.epochs"], "--set training.epochs"),
        (["quick.yaml", "--set", "training.epochs=many"], "--set training.epochs=many"),
        (["quick.yaml", "--frobnicate"], "unrecognized arguments"),
    ],
)
def test_bad_input_ends_with_2_and_says_why(call, arguments, message):
    code, _, err = call(*arguments)
    assert code == 2 and message in err


@pytest.mark.slow
def test_a_failed_trial_gives_1_and_status_shows_it(call, monkeypatch):
    from fcdd_sweep.sweep import trial

    real = trial.train

    def broken(spec, *rest, **more):
        if spec.seed == 1:
            raise RuntimeError("the lamp went out")
        return real(spec, *rest, **more)

    monkeypatch.setattr(trial, "train", broken)
    code, out, _ = call("quick.yaml", "--local")
    assert code == 1
    assert "FAILED  class 3, seed 1: RuntimeError: the lamp went out" in out
    assert out.splitlines()[-1] == "1 of 2 trials done, 1 failed, 0 missing"
    (path,) = [line.removeprefix("traceback: ") for line in out.splitlines() if line.startswith("traceback: ")]
    assert "the lamp went out" in Path(path).read_text() and "lost" not in out
    (log,) = [line for line in out.splitlines() if line.startswith("every failed attempt: ")]
    assert Path(log.removeprefix("every failed attempt: ")).is_file()
    code, out, _ = call("status", "results/quick")
    assert code == 0
    assert out.splitlines()[1].split() == ["-", "3", "2", "1", "1", "0"]
    found = re.search(r"RuntimeError: the lamp went out \((.+)\)", out)
    assert found and Path(found[1]).is_file()
    monkeypatch.undo()


@pytest.mark.slow
def test_a_lost_worker_is_named_where_there_was_one(call, monkeypatch):
    from fcdd_sweep.sweep import session

    monkeypatch.setattr(session, "attempt_trial", works.losing_all)
    code, out, _ = call("quick.yaml", "--local", "--set", "faults.retries=0")
    assert code == 1 and "traceback: " not in out
    assert "every failed attempt, 2 lost workers without a traceback included: " in out
    assert call("status", "results/quick")[1].count("worker process has died (no traceback, see failures.parquet)") == 2


def test_a_dry_run_tells_of_finished_trials_that_the_report_will_lack(call, tmp_path):
    call("quick.yaml", "--local", "--set", "seeds=1")
    assert "not in the plan" not in call("quick.yaml", "--dry-run")[1]
    reported = call("quick.yaml", "--dry-run", "--set", "training.momentum=0.5")[1]
    assert "note: 1 finished trial of earlier settings (training.momentum=0.9) is not in the plan" in reported
    assert "no estimate" not in reported  # a momentum costs no time


@pytest.mark.slow
def test_aggregate_and_predict_work_on_a_finished_run(call, tmp_path):
    call("quick.yaml", "--local", "--set", "seeds=1")
    (tmp_path / "results" / "quick" / "report.html").unlink()
    code, out, _ = call("aggregate", "results/quick", "--redraw")
    assert code == 0 and (tmp_path / "results" / "quick" / "report.html").is_file()
    images = write_habits(tmp_path / "images")
    code, out, _ = call("predict", "results/quick/normal_3/it_0/snapshot.pt", images, "--output", "out")
    assert code == 0 and "0 skipped" in out and (tmp_path / "out" / "predictions.csv").is_file()


def test_list_shows_what_there_is(call):
    code, out, _ = call("list")
    assert code == 0
    for name in ("digits", "mvtec", "FCDD_CNN224", "confetti", "malformed_normal_gt", "presets"):
        assert name in out


def test_no_arguments_show_the_help(call):
    code, out, _ = call()
    assert code == 0 and "python -m fcdd_sweep experiments/digits.yaml" in out


@pytest.mark.slow
def test_a_damaged_index_is_reported_without_a_traceback(call, tmp_path):
    call("quick.yaml", "--local", "--set", "seeds=1")
    (tmp_path / "results" / "quick" / "index.parquet").write_bytes(b"PAR1 damaged")
    code, out, _ = call("status", "results/quick")
    assert code == 0 and "index.parquet cannot be read" in out


def test_exit_codes_are_those_of_the_documentation():
    assert {code.name: int(code) for code in cli.ExitCode} == {
        "DONE": 0, "SOME_FAILED": 1, "BAD_INPUT": 2, "HUNG_UP": 129, "INTERRUPTED": 130,
    }  # fmt: skip


def test_an_unreachable_store_gives_1_and_says_what_to_do(call, monkeypatch):
    def unreachable(options):
        raise StorageError("s3://bucket/x: no answer")

    monkeypatch.setitem(cli.COMMANDS, "status", cli.COMMANDS["status"]._replace(run=unreachable))
    code, out, err = call("status", "results/quick")
    assert (code, out) == (1, "")
    step = "Finished trials are kept: rerun the same command once storage is reachable."
    assert err == f"error: s3://bucket/x: no answer. {step}\n"


def test_ctrl_c_gives_130(call, monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "list", cli.COMMANDS["list"]._replace(run=interrupted))
    assert call("list") == (130, "", "interrupted\n")


def test_a_probe_without_a_dry_run_is_refused(call):
    code, _, err = call("quick.yaml", "--probe-cost")
    assert code == 2 and err == "error: --probe-cost: works with --dry-run only. Use --dry-run --probe-cost.\n"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_its_help(call, command):
    code, out, _ = call(command, "--help")
    assert code == 0 and out.startswith(f"usage: python -m fcdd_sweep {command} ")
    summary = cli.COMMANDS[command].summary
    assert f"{summary[0].upper()}{summary[1:]}." in " ".join(out.split())


def test_the_list_is_aligned_and_not_wrapped_in_a_pipe(call):
    lines = call("list")[1].splitlines()
    (mnist,) = [line for line in lines if line.startswith("  mnist ")]
    (network,) = [line for line in lines if line.startswith("  FCDD_CNN28 ")]
    assert mnist.index("MNIST,") == network.index("two convolutions")
    assert max(map(len, lines)) > 120


def test_names_that_the_terminal_cannot_show_are_escaped(call, tmp_path, monkeypatch):
    write_class_first(tmp_path / "data", ("零件", "groß"))
    (tmp_path / "own.yaml").write_text("schema: 2\nname: own\npreset: folder\ndataset: {name: folder, root: data}\n")
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    assert cli.main(["own.yaml", "--dry-run"]) == 0
    sys.stdout.flush()
    assert rb"classes    gro\xdf, \u96f6\u4ef6" in shown.getvalue()


def test_a_setting_that_is_no_text_is_an_error(call, tmp_path):
    code, _, err = call("quick.yaml", "--output", os.fsdecode(b"gr\xfcn"))
    assert code == 2
    assert r"error: --set output=gr\xfcn: this is not UTF-8 text. Rename the file or folder, or name it" in err


def test_a_tree_with_broken_links_ends_with_exit_code_2_and_starts_nothing(call, tmp_path):
    root = write_class_first(tmp_path / "data")
    (root / "nut" / "train" / "normal" / "lost.png").symlink_to("/nowhere")
    (tmp_path / "own.yaml").write_text("schema: 2\nname: own\npreset: folder\ndataset: {name: folder, root: data}\n")
    code, out, err = call("own.yaml", "--local")
    assert (code, out) == (2, "") and "lost.png: is a link that leads nowhere (to /nowhere)" in err
    assert not (tmp_path / "results").exists()


def test_layout_and_group_set_the_options_of_the_data_set(call, tmp_path):
    write_images(tmp_path / "parts" / "OK", 12)
    write_images(tmp_path / "parts" / "NG", 2, seed=3)
    text = "schema: 2\nname: own\npreset: folder\n"
    (tmp_path / "own.yaml").write_text(f"{text}dataset: {{root: {tmp_path / 'parts'}}}\n")
    given = ("--layout", "good_bad", "--group", "[0-9]*([02468])$|^(x: #)")
    code, out, _ = call("own.yaml", *given, "--show-config")
    options = YAML(typ="safe").load(out)["dataset"]["options"]
    assert code == 0 and options == {"layout": given[1], "group": given[3]}
    code, out, _ = call("own.yaml", "--layout", "classes", "--dry-run", "--set", "anomalies={mode: other}")
    assert code == 0 and out.count("layout     ") == 1 and "classes    NG, OK" in out
    code, _, err = call("validate", "own.yaml", "--layout", "god_bad")
    assert code == 2 and "dataset.options.layout" in err and "found 'god_bad'" in err and "Closest: 'good_bad'" in err
    code, _, err = call("quick.yaml", "--layout", "flat", "--dry-run")
    assert code == 2 and "'digits' has no such option" in err


@pytest.mark.parametrize(
    ("words", "local"),
    [(["x.yaml"], 0), (["x.yaml", "--local"], 1), (["--local", "x.yaml"], 1), (["x.yaml", "--local", "3"], 3)],
)
def test_local_takes_a_number_of_processes_and_leaves_the_file_alone(words, local):
    options = cli.make_parser().parse_args(cli._with_command(words))
    assert (options.local, str(options.experiment)) == (local, "x.yaml")
