"""docs/networks.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from fcdd_sweep.config.schema import Network
from fcdd_sweep.networks.build import network_of
from fcdd_sweep.networks.registry import NETWORKS
from fcdd_sweep.planning.sections import problems_of_network

TEXT = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
STUDY = re.compile(r"(FCDD_CNN\d+)_\d+K")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.+?)```", TEXT, flags=re.DOTALL)


def figures(name: str) -> tuple[str, str, str]:
    """Input, parameters and field, as the table writes them."""
    info = NETWORKS[name]
    in_shape = (1 if info.input_size == 28 else 3, info.input_size, info.input_size)
    with torch.device("meta"):
        network = network_of(Network(name=name), info.method, in_shape, None, pretrained=False)
    field = network.receptive_field
    parameters = sum(p.numel() for p in network.parameters())
    return "x".join(map(str, in_shape)), f"{parameters:,}", f"{field.size}, {field.jump}, {field.shift:g}"


@pytest.mark.parametrize("name", [name for name in NETWORKS if not STUDY.fullmatch(name)])
def test_the_table_has_every_network(name: str) -> None:
    assert f"| `{name}` | {NETWORKS[name].method} | {' | '.join(figures(name))} |" in TEXT


@pytest.mark.parametrize("family", ["FCDD_CNN32", "FCDD_CNN224"])
def test_the_table_has_the_ends_of_every_study(family: str) -> None:
    names = [name for name in NETWORKS if (found := STUDY.fullmatch(name)) and found[1] == family]
    (image, fewest, narrow), (_, most, wide) = figures(names[0]), figures(names[-1])
    size, rest = narrow.split(",", 1)
    assert f"| `{names[0]}`, `_5K`, ... `{names[-1].removeprefix(family)}` | fcdd | {image} |" in TEXT
    assert f"| {fewest} to {most} | {size} to {wide.split(',')[0]},{rest} |" in TEXT


def test_the_networks_that_are_shown_exist() -> None:
    for line in blocks("yaml")[0].splitlines():
        network = Network.model_validate(YAML(typ="safe").load(line)["network"])
        assert list(problems_of_network(network, "fcdd", 3, 224)) == []


def test_the_example_makes_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        exec(blocks("python")[0], {})
    finally:
        NETWORKS.pop("FCDD_MINE", None)
    assert "size=8, jump=2, shift=0.5, width=32" in capsys.readouterr().out
