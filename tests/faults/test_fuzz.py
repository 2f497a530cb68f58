"""Made inputs of every kind end with exit code 0, 1 or 2: never with a traceback or a hang, and nothing is lost.

A short round is part of `make test`; `make test-fuzz` is the long one. `FCDD_FUZZ_SEED=N` draws other inputs; the seed
and number of a failing case are printed, and its input is kept in the folder that the message names.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import signal
import traceback
import warnings
from pathlib import Path

import pytest

from fcdd_sweep import cli
from fcdd_sweep.config.errors import InputError
from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.config.yaml_text import read_document
from fcdd_sweep.data.loading import load_corpus
from tests import trees
from tests.faults.mutations import command_line, experiment_text, image_bytes, image_tree
from tests.specs import small_experiment

SEED = int(os.environ.get("FCDD_FUZZ_SEED", "1"))
LONGEST_S = 30
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
LONG = pytest.mark.fuzz


def rounds(short, long):
    return pytest.mark.parametrize(
        "count", [pytest.param(short, id="short"), pytest.param(long, id="long", marks=LONG)]
    )


class Hang(BaseException):
    """A case took too long; no code catches it."""


@contextlib.contextmanager
def limited():
    """Raise `Hang` after `LONGEST_S` seconds."""

    def hang(signum, frame):
        raise Hang(f"no end after {LONGEST_S} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ended(arguments):
    """The exit code of a command and what it printed; a fault is the text of its traceback."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), limited(), warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would show the user lines of source
        try:
            code = cli.main(arguments)
        except SystemExit as leave:  # argparse's
            code = leave.code
        except BaseException:
            return None, traceback.format_exc()
    return code, out.getvalue() + err.getvalue()


def fault_of(arguments):
    """Why the end of a command is not one that a user should meet; empty when it is."""
    code, text = ended(arguments)
    if code is None:
        return text
    if code not in (0, 1, 2):
        return f"exit code {code}\n{text}"
    if "Traceback (most recent call last)" in text:
        return text
    return "" if code == 0 or text.strip() else f"exit code {code} without a word"


def content(folder):
    """A digest of all names and files below a folder; links and pipes count by their names."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=os.fsencode):
        found.update(os.fsencode(path))
        if path.is_file() and not path.is_symlink():
            found.update(path.read_bytes())
    return found.hexdigest()


def check(faults, count):
    kinds = {fault.strip().splitlines()[-1] for _, fault in faults}
    shown = "\n".join(f"case {case}: {fault[-1500:]}" for case, fault in faults[:5])
    assert not faults, f"seed {SEED}: {len(faults)} of {count} cases, {len(kinds)} kinds: {kinds}\n{shown}"


def bases():
    """Experiments on built-in data, as plain values."""
    return [
        read_document(EXPERIMENTS / f"{name}.yaml").tree for name in ("digits", "textures", "demo", "search_digits")
    ]


def keys_of(tree, above=()):
    for name, value in tree.items():
        yield (*above, str(name))
        if isinstance(value, dict) and name not in ("grid", "variants", "space"):
            yield from keys_of(value, (*above, str(name)))


@pytest.fixture(scope="module")
def keys():
    """Every key of an experiment, from the resolved file of each base."""
    found = {}
    for name in ("digits", "textures", "demo", "search_digits"):
        _, text = ended([str(EXPERIMENTS / f"{name}.yaml"), "--show-config"])
        path = Path(os.environ["FCDD_SWEEP_CACHE"]) / f"{name}.yaml"
        path.write_text(text)
        found |= dict.fromkeys(keys_of(read_document(path).tree))
    return list(found)


@pytest.mark.slow
@rounds(25, 2000)
def test_experiment_files(tmp_path, keys, count):
    faults = []
    for case in range(count):
        draw = random.Random(f"{SEED}/experiment/{case}")
        path = tmp_path / f"{case}.yaml"
        path.write_bytes(experiment_text(draw.choice(bases()), keys, draw))
        action = draw.choice([["--dry-run"], ["--dry-run"], ["--show-config"]])
        if fault := fault_of([str(path), "--output", str(tmp_path / "results"), *action]):
            faults.append((path, fault))
    assert not (tmp_path / "results").exists()
    check(faults, count)


@pytest.mark.slow
@rounds(40, 500)
def test_image_trees(tmp_path, count):
    faults = []
    for case in range(count):
        draw = random.Random(f"{SEED}/tree/{case}")
        folder = tmp_path / str(case)
        image_tree(folder / "data", draw)
        experiment = folder / "x.yaml"
        preset = draw.choice(["folder", "folder", "mvtec"])
        experiment.write_text(f"schema: 2\nname: x\npreset: {preset}\ndataset: {{root: {folder / 'data'}}}\n")
        before = content(folder / "data")
        weights = ["--set", "network.weights=none"]
        if fault := fault_of([str(experiment), "--output", str(folder / "results"), "--dry-run", *weights]):
            faults.append((folder, fault))
        if content(folder / "data") != before or (folder / "results").exists():
            faults.append((folder, "the tree was changed, or results were begun"))
    check(faults, count)


@pytest.mark.slow
@rounds(40, 500)
def test_image_files(tmp_path, count):
    faults = []
    for case in range(count):
        draw = random.Random(f"{SEED}/image/{case}")
        root = tmp_path / str(case)
        trees.write_split_first(root, ["bolt"], maps=True)
        path = draw.choice(sorted(each for each in root.rglob("*.png")))
        path.unlink()
        path.with_suffix(draw.choice([".png", ".png", ".jpg", ".tif"])).write_bytes(image_bytes(draw))
        images = Images(load_size=16, size=16, color=draw.choice(["gray", "rgb"]))
        with limited(), warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                corpus = load_corpus(Dataset(name="folder", root=root), images, root / "cache", say=len)
                assert corpus.images.shape[1:] == (images.channels, 16, 16)
            except InputError:
                pass  # the file and what is wrong with it are named
            except BaseException:
                faults.append((root, traceback.format_exc()))
        half_written = [each for each in (root / "cache").rglob("*") if each.name.startswith((".", "tmp"))]
        if any(each.is_file() and each.suffix != ".lock" for each in half_written):
            faults.append((root, f"half written: {half_written}"))
    check(faults, count)


@pytest.mark.slow
@rounds(40, 300)
def test_command_lines(tmp_path, keys, count, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(
        small_experiment("training: {epochs: 1, passes_per_epoch: 1}\nseeds: 1\n", classes='["3"]')
    )
    assert cli.main(["small.yaml", "--local"]) == 0
    run = tmp_path / "results" / "small"
    leaf = run / "normal_3" / "it_0"
    for place in ("parts/good/1.png", "parts/good/2.png", "parts/bad/3.png"):
        trees.write_image(tmp_path / place, (9, 9), "L")
    (tmp_path / "labels.csv").write_text("path,label\nparts/good/1.png,good\nparts/bad/3.png,bad\n")
    files = ["small.yaml", str(run), str(leaf), str(leaf / "snapshot.pt"), str(run / "plan.parquet"), str(tmp_path)]
    files += ["parts", "parts/good/1.png", "labels.csv"]
    before = content(leaf)
    faults = []
    for case in range(count):
        draw = random.Random(f"{SEED}/command/{case}")
        given = command_line(files, keys, draw)
        if fault := fault_of(given):
            faults.append((given, fault))
    assert content(leaf) == before
    code, text = ended(["status", str(run)])
    assert code == 0 and "1 finished trial" in text, text
    check(faults, count)
