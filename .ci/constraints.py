"""Prints the constraints for `make`: the tested versions, but for a torch that is already installed, which stays."""

from importlib import metadata
from pathlib import Path

TORCH = ("torch", "torchvision", "triton")
installed = {each.name.lower(): each.version for each in metadata.distributions()}
tested = (Path(__file__).parent.parent / "constraints.txt").read_text().splitlines()

if "torch" in installed:
    tested = [line for line in tested if line.split("==")[0] not in TORCH]
    tested += [f"{name}=={installed[name]}" for name in TORCH if name in installed]
print("\n".join(tested))
