"""What `doctor` finds, on machines that lack something."""

from __future__ import annotations

import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from fcdd_sweep import cli, doctor
from fcdd_sweep.doctor import Severity, findings
from fcdd_sweep.runners import ray_check, ray_session
from fcdd_sweep.runners.ray_check import ray_problem

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def a_large_disk(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 0, 50e9))


def by_subject(tmp_path):
    return {finding.subject: finding for finding in findings(tmp_path / "results", ray=False)}


def test_a_sound_machine_has_no_problem_and_every_finding_is_one_line(tmp_path, capsys):
    assert cli.main(["doctor", "--no-ray", "--output", str(tmp_path / "results")]) == 0
    lines = capsys.readouterr().out.splitlines()
    subjects = [line[8:].partition(":")[0] for line in lines]
    assert {"packages", "cpu", "results", "cache", "TMPDIR", "Ray"} <= set(subjects)
    assert all(line[:8] in ("ok      ", "warning ") for line in lines)
    assert not (tmp_path / "results").exists()
    assert not any(tmp_path.iterdir())


def test_a_problem_gives_1_and_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 0, 0.2e9))
    assert cli.main(["doctor", "--no-ray", "--output", str(tmp_path / "results")]) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if "results" in line)
    assert line.startswith("problem results: ") and "0.2 GB are free. Free some space, or: Name another" in line


@pytest.mark.parametrize(("free", "severity"), [(0.9e9, "PROBLEM"), (5e9, "WARNING"), (20e9, "OK")])
def test_little_space_is_a_warning_and_hardly_any_a_problem(tmp_path, monkeypatch, free, severity):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 0, free))
    assert by_subject(tmp_path)["results"].severity == Severity[severity]


def test_versions_outside_of_their_range_are_named(monkeypatch, tmp_path):
    wanted = ["numpy>=999", "no_such_package>=1", "ruff<0.1; extra == 'dev'", "no_such_extra; extra == 'dev'"]
    monkeypatch.setattr(doctor, "requires", lambda name: wanted)
    found = by_subject(tmp_path)
    assert found["numpy"].severity == found["no_such_package"].severity == Severity.PROBLEM
    assert "wanted numpy>=999. Upgrade it: pip install 'numpy>=999'" in str(found["numpy"])
    assert found["ruff"].severity == Severity.WARNING
    assert "no_such_extra" not in found and "packages" not in found


def test_a_device_that_computes_wrongly_or_not_at_all_is_a_problem(tmp_path, monkeypatch):
    true = torch.nn.functional.conv2d
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda *given: true(*given) + 1)
    found = by_subject(tmp_path)["cpu"]
    assert found.severity == Severity.PROBLEM and "wrong by 1, " in found.text

    def fails(*given):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(torch.nn.functional, "conv2d", fails)
    found = by_subject(tmp_path)["cpu"]
    assert found.severity == Severity.PROBLEM and "no kernel image is available" in found.text


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_a_problem(tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert by_subject(tmp_path)["results"].severity == Severity.PROBLEM
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_folder_is_a_problem(tmp_path):
    (tmp_path / "file").write_text("x")
    found = {finding.subject: finding for finding in findings(tmp_path / "file" / "results", ray=False)}
    assert found["results"].severity == Severity.PROBLEM and "cannot be written to" in found["results"].text


def test_a_temporary_folder_with_a_long_or_foreign_path_is_a_warning(tmp_path, monkeypatch):
    for name in ("x" * 90, "временный"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(ray_session.tempfile, "tempdir", str(tmp_path / name))
        found = by_subject(tmp_path)["TMPDIR"]
        assert found.severity == Severity.WARNING and "Ray uses /tmp instead of" in found.text


def test_little_shared_memory_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_SHM", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 0, 64e6 if Path(path) == tmp_path else 50e9))
    (found,) = doctor._shared_memory()
    assert found.severity == Severity.WARNING and "0.06 GB free" in found.text and "--shm-size" in found.step


def test_a_ray_that_hangs_is_ended_in_time_with_its_children(monkeypatch, tmp_path):
    other = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    monkeypatch.setattr(ray_check, "_PROGRAM", f"import subprocess, sys, time; {other}; time.sleep(60)")
    reason, seconds = ray_problem(1.0)
    assert reason == "it did not answer within 1 s" and seconds < 20


def test_a_ray_that_fails_is_a_problem_with_its_last_words(monkeypatch):
    monkeypatch.setattr(ray_check, "_PROGRAM", "raise SystemExit('no room for sockets')")
    assert ray_problem(60.0)[0] == "it ended with code 1: no room for sockets"
    assert doctor._ray().severity == Severity.PROBLEM and "--local" in doctor._ray().step


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_that_starts_is_told():
    assert sys.executable and doctor._ray().severity == Severity.OK
