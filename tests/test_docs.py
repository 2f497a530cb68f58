"""The documentation says what the code does."""

import re
from pathlib import Path

import pytest

from fcdd_sweep import cli
from fcdd_sweep.results import schemas

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SCHEMAS = {
    "HISTORY": schemas.HISTORY,
    "SCORES": schemas.SCORES,
    "CURVES": schemas.CURVES,
    "DEFECTS": schemas.DEFECTS,
    "METRICS": schemas.METRICS,
    "PLAN": schemas.PLAN,
    "INDEX": schemas.INDEX,
    "TRIALS": schemas.trials_schema({}),
    "PREDICTIONS": schemas.PREDICTIONS,
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_column_is_documented_with_its_meaning(name):
    text = (ROOT / "docs" / "results.md").read_text()
    for field in SCHEMAS[name]:
        assert f"| `{field.name}` |" in text
        assert field.metadata[b"meaning"].decode() in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_commands(page):
    parser = cli.make_parser()
    for line in re.findall(r"^python -m fcdd_sweep (.+)$", page.read_text(), flags=re.MULTILINE):
        arguments = line.split("#")[0].split()
        parser.parse_args(cli._with_command(arguments))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_experiment_files_that_are_named_exist(page):
    for name in re.findall(r"experiments/[\w.-]+\.yaml", page.read_text()):
        assert (ROOT / name).is_file(), name
