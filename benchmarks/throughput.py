"""A training step against the bare network's, for every network, in both layouts and precisions.

Both sides run in turns in one process on the same images on the device, a round after the other: an epoch of real
training steps (order, anomalies, augmentation, local contrast normalization, loss, backward, optimizer, sums), then as
many steps of the bare network (forward, loss, backward, optimizer) on one fixed batch of the same layout and precision.
The ratio is of their times, bare to real: 1 where a step costs nothing but its network. All variants of a network take
their turns in each round, so that layouts and precisions are compared under the same load. On a CPU times are CPU
seconds of the process, which other programs disturb less than the clock; on a GPU the clock's, once its work is done.

    python benchmarks/throughput.py                               # the paper's networks, small batches: about 10 min
    python benchmarks/throughput.py FCDD_CNN28 --variants auto --batch 0 --rounds 15
    python benchmarks/throughput.py --all --json throughput.json  # every network of the registry
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fcdd_sweep.config.presets import PRESETS
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.networks.execution import computed
from fcdd_sweep.networks.registry import NETWORKS
from fcdd_sweep.training.anomaly_pools import ResidentPool
from fcdd_sweep.training.batches import BatchMaker
from fcdd_sweep.training.device import device_name, numerics
from fcdd_sweep.training.models import make_network
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from fcdd_sweep.training.state import TrainingState
from fcdd_sweep.training.streams import Streams
from fcdd_sweep.training.trainer import begin, run_epoch, sample_losses

PAPER = ("FCDD_CNN28", "FCDD_CNN28_W", "FCDD_CNN32_S", "FCDD_CNN32_LW3K", "FCDD_CNN224", "FCDD_CNN224_VGG_F")
VARIANTS = {
    "contiguous": {"layout": "contiguous", "precision": "fp32"},
    "channels_last": {"layout": "channels_last", "precision": "fp32"},
    "contiguous-bf16": {"layout": "contiguous", "precision": "bf16"},
    "channels_last-bf16": {"layout": "channels_last", "precision": "bf16"},
    "auto": {"layout": "auto", "precision": "fp32"},
}
"""What is measured by default, but for `auto`: the layout of the table, and the default precision."""
_PRESET_OF_SIDE = {28: "fmnist", 32: "cifar10", 224: "mvtec"}
_SMALL_BATCH = {28: 64, 32: 32, 224: 4}
"""Images of a step on a CPU unless `--batch` says so: a round stays short."""


def merged(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return nested plain values with others in their place."""
    both = (name for name in changes if isinstance(tree.get(name), dict) and isinstance(changes[name], dict))
    return tree | changes | {name: merged(tree[name], changes[name]) for name in both if name != "source"}


def settings_of(network: str, variant: str, options: argparse.Namespace) -> Settings:
    """Return the settings of the preset that a network is made for, without pretrained weights."""
    info = NETWORKS[network]
    preset = options.preset or _PRESET_OF_SIDE[info.input_size]
    supervised = {} if info.method == "fcdd" else {"supervision": "labels"}
    batch = options.batch
    if batch is None and options.device == "cpu":
        batch = _SMALL_BATCH[info.input_size]
    training = {
        **supervised,
        **VARIANTS[variant],
        "threads": options.threads,
        **({"batch_size": batch} if batch else {}),
    }
    changes: dict[str, Any] = {
        "method": info.method,
        "network": {"name": network, "weights": "none"},
        "training": training,
        "resources": {"device": options.device},
    }
    if info.method == "ae":
        changes["anomalies"] = {"mode": "unsupervised", "source": None}
    return Settings.model_validate(merged(PRESETS[preset].tree, changes))


def batch_maker(chosen: Settings, steps: int, device: torch.device) -> BatchMaker:
    """Return batches of noise images for `steps` steps, on the device."""
    images = chosen.images
    shape = (steps * chosen.training.batch_size, images.channels, images.load_size, images.load_size)
    nominal = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8)).to(device)
    pool = None
    if chosen.anomalies.mode in ("noise", "other") and not isinstance(chosen.anomalies.source, str):
        pool = ResidentPool(nominal[:512].clone())
    return BatchMaker(chosen, nominal, pool, Preprocessor.fit(Recipe.of(chosen), nominal), Streams(0, "bench"))


def now(device: torch.device) -> float:
    """Return the time in seconds: of this process on a CPU, of the clock once a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


@dataclass
class Side:
    """A variant of a network, with what was measured of it.

    Attributes:
        settings: of its trial.
        batches: of its training.
        state: of its training.
        steps: of a round.
        trained, bare: seconds per step, one per round.
    """

    settings: Settings
    batches: BatchMaker
    state: TrainingState
    steps: int
    trained: list[float]
    bare: list[float]

    @classmethod
    def of(cls, settings: Settings, steps: int, device: torch.device) -> Side:
        batches = batch_maker(settings, steps, device)
        state = begin(make_network(settings, device, 0), batches, time.perf_counter())
        return cls(settings, batches, state, steps, [], [])

    def run(self, number: int, device: torch.device) -> None:
        """Run both sides once; the first round warms up and is not counted."""
        with numerics(self.settings, device):
            start = now(device)
            passes = self.settings.training.passes_over(self.steps * self.settings.training.batch_size)
            self.state.epoch, self.state.step = number + 1, self.steps * (passes - 1)
            run_epoch(self.state, self.batches)
            middle = now(device)
            self._run_bare()
            end = now(device)
        if number:
            self.trained.append((middle - start) / self.steps)
            self.bare.append((end - middle) / self.steps)

    def _run_bare(self) -> None:
        """Train on one fixed batch: forward, loss, backward, optimizer."""
        network, optimizer = self.state.member.network, self.state.member.optimizer
        batch = self.batches.batch(np.arange(self.settings.training.batch_size), 1, 0)
        for _ in range(self.steps):
            losses = sample_losses(network, batch, self.settings)
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()

    def figures(self) -> dict[str, Any]:
        """Return what was measured, for JSON."""
        ratios = [bare / trained for bare, trained in zip(self.bare, self.trained, strict=True)]
        return {
            **computed(self.settings),
            "batch_size": self.settings.training.batch_size,
            "step_ms": 1000 * statistics.median(self.trained),
            "bare_ms": 1000 * statistics.median(self.bare),
            "images_per_s": self.settings.training.batch_size / statistics.median(self.trained),
            "ratio": {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)},
            "rounds": len(ratios),
        }


def measured(network: str, options: argparse.Namespace, device: torch.device) -> dict[str, dict[str, Any]]:
    """Return the figures of a network by variant; all variants run in turns in every round."""
    sides = {}
    for variant in options.variants:
        chosen = settings_of(network, variant, options)
        sides[variant] = Side.of(chosen, options.steps, device)
    for number in range(options.rounds + 1):
        for side in sides.values():
            side.run(number, device)
    found = {variant: side.figures() for variant, side in sides.items()}
    first = sides[options.variants[0]]
    for variant, side in sides.items():
        speeds = [one / other for one, other in zip(first.bare, side.bare, strict=True)]
        found[variant]["bare_speed"] = {
            "of": options.variants[0],
            "median": statistics.median(speeds),
            "least": min(speeds),
            "most": max(speeds),
        }
    return found


def lines_of(network: str, found: dict[str, dict[str, Any]]) -> Sequence[str]:
    """Return a line of a table for each variant."""
    return [
        f"| {network} | {variant} | {each['batch_size']} | {each['step_ms']:.2f} | {each['bare_ms']:.2f} "
        f"| {_spread(each['ratio'])} | {_spread(each['bare_speed'])} |"
        for variant, each in found.items()
    ]


def _spread(figure: dict[str, float]) -> str:
    return f"{figure['median']:.2f} ({figure['least']:.2f} to {figure['most']:.2f})"


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", choices=[*NETWORKS, []], metavar="NETWORK")
    parser.add_argument("--all", action="store_true", help="every network of the registry")
    parser.add_argument("--preset", choices=PRESETS, help="instead of the one for the network's size of images")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[v for v in VARIANTS if v != "auto"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="training steps of a round")
    parser.add_argument("--batch", type=int, help="images of a step; 0: the preset's (default on a GPU)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures as they come")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = options_of(arguments)
    device = torch.device(options.device)
    name = device_name(device)
    print(
        f"{name}, {platform.system()}, torch {torch.__version__}, {options.threads} thread(s), {options.rounds} rounds"
    )
    print(f"| network | variant | batch | step ms | bare ms | ratio | bare against {options.variants[0]} |")
    print("|---|---|---|---|---|---|---|")
    made: dict[str, Any] = {"device": name, "torch": torch.__version__, "threads": options.threads, "networks": {}}
    for network in NETWORKS if options.all else options.networks or PAPER:
        made["networks"][network] = found = measured(network, options, device)
        made["load"] = os.getloadavg()
        print("\n".join(lines_of(network, found)), flush=True)
        if options.json:
            options.json.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
