"""Training throughput against the bare network: what batches, anomalies and bookkeeping cost.

Both sides run alternately in one process on the same images on the device: an epoch of real training steps (order,
replaced samples, augmentation, local contrast normalization, loss, backward, optimizer, sums), then as many steps of
the bare network (forward, loss, backward, optimizer) on one fixed batch. The ratio is of images per second.

    python benchmarks/throughput.py [--rounds 7] [--device cpu] [--threads 1]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import numpy as np
import torch

from fcdd_sweep.config.schema import Settings
from fcdd_sweep.training.anomaly_pools import ResidentPool
from fcdd_sweep.training.batches import BatchMaker
from fcdd_sweep.training.device import device_name, numerics
from fcdd_sweep.training.models import make_network
from fcdd_sweep.training.network import DetectionNetwork
from fcdd_sweep.training.optimizers import Optimizer
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from fcdd_sweep.training.streams import Streams
from fcdd_sweep.training.trainer import begin, run_epoch, sample_losses

BATCH = 128
ANOMALIES = {
    "outlier exposure": {"mode": "noise", "source": {"dataset": "digits"}},
    "confetti": {"mode": "malformed_normal", "source": "confetti"},
}


def settings(network: str, anomalies: str, device: str, threads: int) -> Settings:
    """Return the settings of a benchmarked trial at 28 px."""
    return Settings.model_validate(
        {
            "dataset": {"name": "digits"},
            "images": {"load_size": 28, "size": 28, "color": "gray"},
            "anomalies": ANOMALIES[anomalies],
            "network": {"name": network},
            "preprocessing": "lcnaug1",
            "training": {
                "epochs": 1,
                "batch_size": BATCH,
                "learning_rate": 0.001,
                "schedule": {"type": "exponential", "factor": 0.98},
                "threads": threads,
            },
            "resources": {"device": device},
        }
    )


def batch_maker(chosen: Settings, steps: int, device: torch.device) -> BatchMaker:
    """Return batches of noise images for `steps` steps, on the device."""
    images = np.random.default_rng(0).integers(0, 256, (steps * BATCH, 1, 28, 28)).astype(np.uint8)
    nominal = torch.from_numpy(images).to(device)
    pool = ResidentPool(nominal[:512].clone()) if chosen.anomalies.mode == "noise" else None
    return BatchMaker(chosen, nominal, pool, Preprocessor.fit(Recipe.of(chosen), nominal), Streams(0, "bench"))


def run_bare_steps(network: DetectionNetwork, optimizer: Optimizer, batches: BatchMaker, steps: int) -> None:
    """Train on one fixed batch: forward, loss, backward, optimizer."""
    batch = batches.batch(np.arange(BATCH), 1, 0)
    for _ in range(steps):
        losses = sample_losses(network, batch, batches.settings)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()


def synchronized_time(device: torch.device) -> float:
    """Return the time in seconds once the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def ratios(chosen: Settings, rounds: int, steps: int, device: torch.device) -> tuple[list[float], list[float]]:
    """Return images per second of training, and their ratios to the bare network, one per round."""
    batches = batch_maker(chosen, steps, device)
    network = make_network(chosen, device, 0)
    network.train()
    state = begin(network, batches, time.perf_counter())
    speeds, relative = [], []
    for number in range(rounds + 1):
        start = synchronized_time(device)
        state.epoch, state.step = number + 1, 0
        run_epoch(state, batches)
        middle = synchronized_time(device)
        run_bare_steps(network, state.member.optimizer, batches, steps)
        end = synchronized_time(device)
        if number:  # the first round warms up
            speeds.append(steps * BATCH / (middle - start))
            relative.append((end - middle) / (middle - start))
    return speeds, relative


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    device = torch.device(options.device)
    print(f"{device_name(device)}, {platform.system()}, torch {torch.__version__}, {options.threads} thread(s)")
    print(f"{'network':14} {'anomalies':18} {'images/s':>9}  ratio to the bare network: median (least to most)")
    for network, steps in (("FCDD_CNN28", 20), ("FCDD_CNN28_W", 4)):
        for anomalies in ANOMALIES:
            chosen = settings(network, anomalies, options.device, options.threads)
            with numerics(chosen, device):
                speeds, relative = ratios(chosen, options.rounds, steps, device)
            median, least, most = statistics.median(relative), min(relative), max(relative)
            spread = f"{median:.2f} ({least:.2f} to {most:.2f}), {options.rounds} rounds"
            print(f"{network:14} {anomalies:18} {statistics.median(speeds):9.0f}  {spread}")


if __name__ == "__main__":
    main()
