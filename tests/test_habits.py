"""The documents for contributors agree with the code, and the tools of the repository work."""

import ast
import datetime as dt
import re
import shutil
import tomllib
from importlib import import_module, util
from pathlib import Path

import pytest
import yaml

from fcdd_sweep.results import schemas, search_schemas, tree
from tests.test_architecture import MAY_IMPORT
from tests.test_old_names import Experiment, schema_keys, tables

ROOT = Path(__file__).parent.parent
DATE = dt.date(2031, 2, 3)
GUIDES = (
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/index.md",
    "docs/glossary.md",
    "docs/objects.md",
    "docs/architecture.md",
)


def text_of(page):
    return (ROOT / page).read_text()


def table_rows(text, head):
    """Return the cells of the table whose header line begins with `head`."""
    lines = text[text.index(head) :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def load_tool():
    spec = util.spec_from_file_location("bump_version", ROOT / "tools" / "bump_version.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path):
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def version_in(project):
    return tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"]


def test_a_new_version_takes_over_the_unreleased_changes(project):
    tool = load_tool()
    before = tool.unreleased((project / "CHANGELOG.md").read_text())
    tool.bump(project, "7.1.0", DATE)
    assert version_in(project) == "7.1.0"
    changes = (project / "CHANGELOG.md").read_text()
    assert tool.unreleased(changes) == ""
    assert changes.partition("## 7.1.0 (2031-02-03)\n")[2].strip().startswith(before)
    assert changes.index("## Unreleased") < changes.index("## 7.1.0")


@pytest.mark.parametrize(
    ("version", "problem"),
    [("7.1", "three numbers"), ("v7.1.0", "three numbers"), ("0.0.1", "lower than the current version")],
)
def test_a_wrong_version_changes_nothing(project, version, problem):
    before = [path.read_text() for path in sorted(project.iterdir())]
    with pytest.raises(ValueError, match=problem):
        load_tool().bump(project, version, DATE)
    assert [path.read_text() for path in sorted(project.iterdir())] == before


def test_a_version_without_changes_is_refused(project):
    tool = load_tool()
    tool.bump(project, "7.1.0", DATE)
    with pytest.raises(ValueError, match="no changes"):
        tool.bump(project, "7.2.0", DATE)
    assert version_in(project) == "7.1.0"


def test_the_changelog_ends_up_with_the_current_version():
    changes = text_of("CHANGELOG.md")
    assert load_tool().unreleased(changes) or f"## {version_in(ROOT)} (" in changes


def test_hooks_run_what_make_runs():
    config = yaml.safe_load(text_of(".pre-commit-config.yaml"))
    (source,) = config["repos"]
    assert source["repo"] == "local" and {hook["language"] for hook in source["hooks"]} == {"system"}
    for hook in source["hooks"]:
        command = " ".join(word for word in hook["entry"].split() if not word.startswith("-"))
        assert re.search(rf"\$\(BIN\)/{command}\b", text_of("Makefile")), command


@pytest.mark.parametrize("page", GUIDES)
def test_files_that_guides_name_exist(page):
    for name in re.findall(r"`((?:fcdd_sweep|tests|tools)/[\w./]+)`", text_of(page).replace("ROOM", "report")):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", GUIDES)
def test_links_of_guides_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text_of(page)):
        assert target.startswith("http") or (ROOT / page).parent.joinpath(target).exists(), target


def test_modules_that_the_architecture_names_exist():
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", text_of("docs/architecture.md")):
        assert (ROOT / name).exists() or (ROOT / "fcdd_sweep" / name).exists(), name


def test_tables_that_recipes_name_are_in_the_files_that_they_name():
    pairs = re.findall(r"`([A-Z_]{4,})` (?:of|in)\s+`(fcdd_sweep/[\w/]+\.py)`", text_of("CONTRIBUTING.md"))
    assert len(pairs) >= 6
    for name, path in pairs:
        assert re.search(rf"^{name}\b", (ROOT / path).read_text(), flags=re.MULTILINE), (name, path)


def test_the_architecture_has_the_table_of_directions_that_is_checked():
    rows = table_rows(text_of("docs/architecture.md"), "| room | may import |")
    stated = {room.strip("`"): set(re.findall(r"`(\w+)`", rooms)) for room, rooms in rows}
    assert stated == MAY_IMPORT


def test_the_architecture_describes_every_room():
    rows = table_rows(text_of("docs/architecture.md"), "| room | purpose |")
    described = {name for row in rows for name in re.findall(r"`(\w+)(?:/|\.py)`", row[0])}
    package = ROOT / "fcdd_sweep"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    assert described == rooms | {path.stem for path in package.glob("[a-z]*.py")}


def test_the_index_leads_to_every_page():
    linked = re.findall(r"\]\(([\w./]+\.md)\)", text_of("docs/index.md"))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert set(linked) == pages | {"../README.md", "../CONTRIBUTING.md", "../CHANGELOG.md"}
    assert len(set(linked)) == len(linked)


def test_the_readme_leads_to_the_guides():
    for page in ("CONTRIBUTING.md", "CHANGELOG.md", "docs/index.md", "docs/glossary.md"):
        assert f"]({page})" in text_of("README.md")


def test_objects_exist_where_the_page_says():
    names = [row[0].strip("`") for row in table_rows(text_of("docs/objects.md"), "| object |")]
    assert len(names) >= 8
    for name in names:
        module, _, own = name.rpartition(".")
        assert hasattr(import_module(f"fcdd_sweep.{module}"), own), name


GLOSSARY = table_rows(text_of("docs/glossary.md"), "| term |")


def test_the_glossary_is_alphabetical_and_has_each_term_once():
    terms = [re.sub(r"[ -]", "", row[0]).lower() for row in GLOSSARY]
    assert terms == sorted(terms) and len(set(terms)) == len(terms) and all(len(row) == 2 for row in GLOSSARY)


def test_keys_tables_and_columns_of_the_glossary_exist():
    keys = schema_keys(Experiment)
    file_names = {value for value in vars(tree).values() if isinstance(value, str)}
    columns = {column for names in tables().values() for column in names}
    values = {str(value) for accepted in keys.values() for value in accepted}
    for term, meaning in GLOSSARY:
        for name in re.findall(r"`([^`]+)`", meaning):
            if name.endswith((".parquet", ".json", ".html", ".pt")):
                assert name in file_names, (term, name)
            elif name.startswith("_"):
                assert any(column.endswith(name) for column in columns), (term, name)
            elif re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", name):
                assert name in keys or name in columns or name in values or name == "gt_map", (term, name)


def test_the_glossary_names_every_table_and_every_section():
    text = text_of("docs/glossary.md")
    for name in (
        "HISTORY",
        "CURVES",
        "DEFECTS",
        "METRICS",
        "PLAN",
        "INDEX",
        "CONFIRMATION",
        "RUNGS",
        "LEVELS",
        "CELLS",
    ):
        assert hasattr(schemas, name) or hasattr(search_schemas, name), name
        assert f"`{getattr(tree, name)}`" in text
    for section in {key.split(".")[0] for key in schema_keys(Experiment) if "." in key} - {"images", "resources"}:
        assert re.search(rf"`{section}[`.]", text), section


@pytest.mark.parametrize("program", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_import_what_the_package_has(program):
    """Programs that are rarely run are forgotten when a name moves."""
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fcdd_sweep"):
            module = import_module(node.module)
            for name in (alias.name for alias in node.names):
                assert hasattr(module, name) or util.find_spec(f"{node.module}.{name}"), (node.module, name)
