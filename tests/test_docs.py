"""The documentation says what the code does."""

import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import duckdb
import pytest
import torch

import fcdd_sweep
from fcdd_sweep import cli, load_experiment, run_sweep
from fcdd_sweep.anomalies import registry, render, synthetic
from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.text import annotation_of, key_names, sections_in
from fcdd_sweep.data.registry import DATA_SETS, DataSetInfo
from fcdd_sweep.planning.plan import plan_file
from fcdd_sweep.results import comparison_schemas, files, prediction_schemas, schemas, search_schemas
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners.failures import POLICIES
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.ledger import FailureLog
from tests.specs import spec
from tests.trees import write_class_first

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SCHEMAS = {
    "HISTORY": schemas.HISTORY,
    "SCORES": schemas.SCORES,
    "CURVES": schemas.CURVES,
    "COMPARISONS": comparison_schemas.COMPARISONS,
    "PUBLISHED": comparison_schemas.PUBLISHED,
    "IMAGE_SCORES": schemas.IMAGE_SCORES,
    "DEFECTS": schemas.DEFECTS,
    "METRICS": schemas.METRICS,
    "IMAGE_LIST": schemas.IMAGE_LIST,
    "PLAN": schemas.PLAN,
    "INDEX": schemas.INDEX,
    "FAILURES": schemas.FAILURES,
    "TRIALS": schemas.trials_schema({}),
    "PREDICTIONS": prediction_schemas.PREDICTIONS,
    "EVALUATION": prediction_schemas.EVALUATION,
    "ROC_POINTS": prediction_schemas.ROC_POINTS,
    "SEARCH_CONFIGS": search_schemas.search_configs_schema({}),
    "IMPORTANCE": search_schemas.IMPORTANCE,
    "CONFIRMATION": search_schemas.CONFIRMATION,
    "RUNGS": search_schemas.RUNGS,
    "OPTIMIZATION": search_schemas.OPTIMIZATION,
    "LEVELS": search_schemas.LEVELS,
    "CELLS": search_schemas.CELLS,
    "DIFFERENCES": search_schemas.DIFFERENCES,
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_column_is_documented_with_its_meaning(name):
    text = (ROOT / "docs" / "results.md").read_text()
    for field in SCHEMAS[name]:
        assert f"| `{field.name}` |" in text
        assert field.metadata[b"meaning"].decode() in text


def settings_of(section, above=""):
    """Keys and meanings that the schema declares."""
    for name, field in key_names(section).items():
        yield above + name, " ".join((field.description or "").split())
        for inner in sections_in(annotation_of(field)):
            yield from settings_of(inner, f"{above}{name}.")


def test_every_setting_is_documented_with_its_meaning():
    text = (ROOT / "docs" / "settings.md").read_text()
    settings = list(settings_of(Experiment))
    sections = {key.rpartition(".")[0] for key, _ in settings}
    for key, meaning in settings:
        assert key in sections or (meaning and f"| `{key}` |" in text), key
        assert meaning.replace("|", "\\|") in text, key


def anchors_of(page):
    """The anchors that a page's headings have where it is shown."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        if not target.startswith("http"):
            place = page.parent / target if target else page
            assert place.exists(), target
            assert not anchor or anchor in anchors_of(place), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_commands(page):
    parser = cli.make_parser()
    for line in re.findall(r"^(?:python -m fcdd_sweep|fcdd-sweep) (.+)$", page.read_text(), flags=re.MULTILINE):
        arguments = line.split("  #")[0].split()
        if arguments[0] not in {"init", "doctor"} - cli.COMMANDS.keys():  # this program may not have them yet
            parser.parse_args(cli._with_command(arguments))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_experiment_files_that_are_named_exist(page):
    for name in re.findall(r"experiments/[\w.-]+\.yaml", page.read_text()):
        assert (ROOT / name).is_file(), name


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """A folder in which `results/digits` is a finished run."""
    folder = tmp_path_factory.mktemp("readme")
    experiment = load_experiment(
        ROOT / "experiments" / "digits.yaml",
        [f"output={folder / 'results'}", "dataset.classes=['3', '8']", "seeds=1", "training.epochs=1"],
    )
    assert run_sweep(experiment, local=True).done == 2
    return folder


def code_blocks(language, page="README.md"):
    return re.findall(rf"```{language}\n(.+?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def test_the_readme_tells_first_what_it_is_then_how_to_begin_then_how_far_it_is():
    text = (ROOT / "README.md").read_text()
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert headings == [
        *("When to use it", "Install", "Your own images", "A first sweep", "A first search", "The report", "State"),
        *("Sizes and hardware", "Citation", "More"),
    ]
    before = text.partition("\n## ")[0]
    assert "\nmake demo " in before and "\nmake test " in before and "![" in before


def test_the_extras_that_pages_name_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for page in PAGES for name in re.findall(r"'\.\[(\w+)\]'", page.read_text())}
    assert {"export", "solar", "tensorboard", "mlflow", "wandb"} <= named <= set(extras)


def test_the_search_of_a_guide_is_valid(tmp_path):
    (text,) = code_blocks("yaml", "docs/choose_settings.md")
    (tmp_path / "rates.yaml").write_text(text)
    parts = write_class_first(tmp_path / "parts")
    _, planned = plan_file(tmp_path / "rates.yaml", [f"dataset.root={parts}"])
    assert planned.space is not None


@pytest.mark.slow
def test_the_query_of_the_readme_runs(digits_run, monkeypatch):
    monkeypatch.chdir(digits_run)
    rows = [duckdb.sql(query).fetchall() for query in code_blocks("sql")]
    assert [sorted(row[0] for row in answer) for answer in rows] == [["3", "8"]]


def test_the_query_on_failures_runs(tmp_path, monkeypatch):
    log = FailureLog(tmp_path / "results" / "digits")
    for number, kind in enumerate(["worker_lost", "storage", "worker_lost"], start=1):
        log.add(spec(), TrialResult(spec().trial_id, "failed", number, f"words {number}", kind=kind), "retrying")
    monkeypatch.chdir(tmp_path)
    (query,) = code_blocks("sql", "docs/faults.md")
    assert duckdb.sql(query).fetchall() == [("worker_lost", 2, 1, "words 3"), ("storage", 1, 1, "words 2")]


def test_what_follows_each_kind_of_failure_is_documented():
    text = (ROOT / "docs" / "faults.md").read_text()
    for kind, policy in POLICIES.items():
        (row,) = [line.split("|") for line in text.splitlines() if line.startswith(f"| `{kind}` |")]
        assert row[3].split()[0].strip(":,") == ("yes" if policy.retry else "no")
        assert row[4].strip() == (f"{policy.wait_s:g} s" if policy.wait_s else "none" if policy.retry else "")
        assert ("does not count" in row[3]) == (not policy.counts)
        assert ("twice" in row[3]) == policy.more_resources


@pytest.mark.slow
def test_the_python_of_the_readme_runs(digits_run, monkeypatch, capsys):
    monkeypatch.chdir(digits_run)
    blocks = [block for block in code_blocks("python") if "run_experiment" not in block]
    blocks += code_blocks("python", "docs/python.md")
    assert len(blocks) == 4
    for block in blocks:
        exec(block, {})
    printed = capsys.readouterr().out
    assert "count" in printed and "trial_id" in printed and "image_auroc_mean" in printed


def test_the_names_of_the_readme_are_there():
    (block,) = [block for block in code_blocks("python") if "run_experiment" in block]
    (names,) = re.findall(r"^from fcdd_sweep import (.+)$", block, flags=re.MULTILINE)
    assert set(names.split(", ")) <= set(fcdd_sweep.__all__)
    exec("from fcdd_sweep.networks import build_network; from fcdd_sweep.anomalies import render", {})


def test_the_experiment_of_the_readme_is_valid(tmp_path):
    (text,) = code_blocks("yaml")
    (tmp_path / "my-parts.yaml").write_text(text)
    parts = write_class_first(tmp_path / "parts")
    _, planned = plan_file(tmp_path / "my-parts.yaml", [f"dataset.root={parts}"])
    assert len(planned.configs) == 2


@pytest.mark.slow
def test_the_data_set_of_the_documentation_can_be_added(tmp_path, monkeypatch):
    module_text, entry_text = code_blocks("python", "docs/data.md")
    entry = eval(entry_text, {"DataSetInfo": DataSetInfo})
    module = ModuleType(entry.module)
    exec(module_text, module.__dict__)
    monkeypatch.setitem(sys.modules, entry.module, module)
    monkeypatch.setitem(DATA_SETS, entry.name, entry)
    experiment = load_experiment(
        ROOT / "experiments" / "digits.yaml",
        [
            f"output={tmp_path}",
            "dataset.name=stripes",
            "dataset.classes=all",
            "anomalies={mode: noise, source: solid, limit: all}",
            "seeds=1",
            "training.epochs=1",
        ],
    )
    assert run_sweep(experiment, local=True).done == 1
    (row,) = files.read_table(RunPaths(experiment.run_dir).trials).to_pylist()
    assert (row["normal_class"], row["n_test_nominal"], row["n_test_anomalous"]) == ("stripes", 10, 10)


@pytest.fixture
def documented_source():
    """Runs the example of a new anomaly source, and takes it out of the tables again."""
    before = dict(registry.SOURCES), dict(synthetic.RENDERERS)
    (block,) = code_blocks("python", "docs/anomalies.md")
    exec(block, {})
    yield
    for table, entries in zip((registry.SOURCES, synthetic.RENDERERS), before, strict=True):
        table.clear()
        table.update(entries)


@pytest.mark.usefixtures("documented_source")
@pytest.mark.parametrize("online", ["true", pytest.param("false", marks=pytest.mark.long)])
@pytest.mark.slow
def test_the_documented_anomaly_source_trains(tmp_path, online):
    noise = render("stripes", 50, (3, 40, 30), torch.Generator().manual_seed(0))
    assert noise.shape == (50, 3, 40, 30) and set(noise.unique().tolist()) == {-120, 0}
    experiment = load_experiment(
        ROOT / "experiments" / "digits.yaml",
        [
            f"output={tmp_path}",
            "dataset.classes=['3']",
            "seeds=1",
            "training.epochs=1",
            "anomalies={mode: malformed_normal, source: stripes}",
            f"anomalies.online={online}",
        ],
    )
    assert run_sweep(experiment, local=True).done == 1


def test_every_mode_and_source_is_documented():
    text = (ROOT / "docs" / "anomalies.md").read_text()
    for name in [*registry.MODES, *registry.SOURCES, *registry.REAL_SOURCES]:
        assert f"`{name}`" in text


def test_the_documented_real_anomalies_can_be_planned(tmp_path):
    (text,) = code_blocks("yaml", "docs/anomalies.md")
    (tmp_path / "x.yaml").write_text(f"schema: 2\nname: x\npreset: textures\nseeds: 1\n{text}")
    _, planned = plan_file(tmp_path / "x.yaml")
    assert planned.specs[0].settings.evaluation.reserved_anomalies == 4


def test_no_page_or_message_sends_to_a_package_index_that_lacks_the_project():
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/*"), *ROOT.glob("fcdd_sweep/**/*.py")]
    wrong = re.compile(r"pip install[^`\n]*fcdd[_-]sweep(\[|\b(?!/))")
    assert [file.name for file in files if wrong.search(file.read_text())] == []


def test_readme_and_demo_activate_the_environment_before_the_first_command():
    activate, makefile = ". .venv/bin/activate", (ROOT / "Makefile").read_text()
    commands = (ROOT / "README.md").read_text().partition("## Install\n")[2]
    assert 0 < commands.index(activate) < commands.index("\nfcdd-sweep ") < commands.index("\npython -m fcdd_sweep ")
    demo = makefile.partition("\ndemo: ")[2].partition("\n\n")[0]
    assert f"next: {activate.replace('.venv/bin', '$(BIN)')} && fcdd-sweep " in demo.splitlines()[-1]
    assert "\nBIN := .venv/bin\n" in makefile
