"""Before trials start on a cluster: has every machine the same code, the results' folder, and the data?"""

from __future__ import annotations

import platform
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.results import files
from fcdd_sweep.results.place import Place, is_file, remove_tree
from fcdd_sweep.sweep.trial import fingerprint_of, versions

_MARKS = ".machines"
_SAME = ("fcdd_sweep", "source", "python", "torch", "numpy")
"""What must not differ between machines; of Python the first two numbers."""
_NOTICED_S = 30.0
"""Ray calls a machine dead after 15 s without an answer."""
_MOST_S = 3600.0
"""Decoding a big data set takes its time."""


@dataclass
class Machine:
    """What a machine of the cluster says of itself.

    Attributes:
        host: its name.
        versions: see `sweep.trial.versions`.
        sees: whether it can read what the driver wrote into the run.
        unwritable: why it cannot write into the run; empty when it can.
        data: fingerprints of the data by trial id, of one trial for each data set and class.
        data_error: why the data cannot be had; empty when it can.
    """

    host: str
    versions: dict[str, str]
    sees: bool = True
    unwritable: str = ""
    data: dict[str, str] = field(default_factory=dict)
    data_error: str = ""


def check_machines(run_dir: Place, specs: Sequence[TrialSpec]) -> list[str]:
    """Ask every machine that trials may run on, all at once; data is decoded there, once, while we wait.

    Gives the names of the machines.

    Raises:
        InputError: what is wrong with which machine, all of it.
    """
    token = secrets.token_hex(8)
    marks = run_dir / _MARKS
    files.write_text(marks / token, token)
    representatives = tuple({_data_key(spec): spec for spec in specs}.values())
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
    asked = {
        node["NodeID"]: _look.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(run_dir, token, representatives)
        for node in nodes
    }
    own = Machine(platform.node(), versions(), data={spec.trial_id: fingerprint_of(spec) for spec in representatives})
    problems: list[Problem] = []
    hosts = {node["NodeID"]: node["NodeManagerHostname"] for node in nodes}
    for node_id, answer in asked.items():
        try:
            problems += _problems(ray.get(answer, timeout=_MOST_S), own, marks, token)
        except (ray.exceptions.RayError, TimeoutError) as error:
            host = hosts.pop(node_id)
            if not _gone(node_id):
                what = f"the machine did not answer ({_brief(error)})"
                problems.append(Problem(host, what, "", "See docs/clusters.md"))
    remove_tree(marks)
    if problems:
        raise InputError(problems)
    return sorted(set(hosts.values()))


def _gone(node_id: str) -> bool:
    """Whether a machine has died, which Ray may take a while to see: then it is as if it had never been there."""
    until = time.monotonic() + _NOTICED_S
    while any(node["NodeID"] == node_id and node["Alive"] for node in ray.nodes()):
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


def _data_key(spec: TrialSpec) -> tuple[str, str]:
    """Equal for trials that are given the same data and weights."""
    read: Any = {"dataset": True, "images": True, "anomalies": {"source"}, "network": {"name", "backbone", "weights"}}
    return spec.normal_class, spec.settings.model_dump_json(include=read)


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[-300:]


@ray.remote(max_retries=0)
def _look(run_dir: Place, token: str, specs: tuple[TrialSpec, ...]) -> Machine:
    """Runs on the machine that is asked."""
    machine = Machine(platform.node(), versions())
    marks = run_dir / _MARKS
    machine.sees = is_file(marks / token)
    try:
        files.write_text(marks / f"{token}-{machine.host}", machine.host)
    except OSError as error:
        machine.unwritable = error.strerror or str(error)
    try:
        machine.data = {spec.trial_id: fingerprint_of(spec) for spec in specs}
    except (InputError, OSError) as error:
        machine.data_error = _brief(error)
    return machine


def _problems(machine: Machine, own: Machine, marks: Place, token: str) -> list[Problem]:
    host = machine.host
    problems = [
        Problem(
            host,
            f"{name} is {machine.versions[name]} there and {own.versions[name]} here",
            "",
            "Install the same on all machines: see docs/clusters.md",
        )
        for name in _SAME
        if _release(name, machine.versions) != _release(name, own.versions)
    ]
    if machine.unwritable:
        problems.append(
            Problem(host, f"{marks.parent} cannot be written there ({machine.unwritable})", "", _SHARED_STEP)
        )
    elif not machine.sees or not is_file(marks / f"{token}-{host}"):
        problems.append(Problem(host, f"{marks.parent} is another folder there than here", "", _SHARED_STEP))
    if machine.data_error:
        problems.append(
            Problem(host, f"the data cannot be had there: {machine.data_error}", "", "Put it on storage that all see")
        )
    elif machine.data != own.data:
        what = "the data there is not the data here: files have other content"
        problems.append(Problem(host, what, "", "Put the same data, or the same shared folder, on all machines"))
    return problems


_SHARED_STEP = "Choose an --output that all machines share, such as NFS or s3://BUCKET/PREFIX"


def _release(name: str, of: dict[str, str]) -> str:
    return of[name].rpartition(".")[0] if name == "python" else of[name]
