"""GPU memory that a trial reserves, for every network: what `fcdd_sweep/planning/gpu_memory.py` holds.

Each network is trained for two steps and scores a batch of images, at the batch size and the images of the preset that
it is made for and at a quarter of that batch; torch's caching allocator says what it has reserved at most. The two give
what does not depend on the batch (weights, gradients, moments) and what an image takes. A process has a CUDA context
and libraries besides, which no allocator sees.

    python benchmarks/gpu_memory.py [NETWORK ...] [--json FILE]

Runs on a GPU, or on a null device (see `tests/nullcuda`), on which the same allocator serves the same requests.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from throughput import batch_maker, settings_of

from fcdd_sweep.config.presets import PRESETS
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.networks.registry import NETWORKS
from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.device import numerics
from fcdd_sweep.training.models import make_network
from fcdd_sweep.training.trainer import begin, sample_losses

MIB = 2**20


def reserved(settings: Settings) -> int:
    """Return the bytes that the allocator has reserved at most while a trial trains and scores."""
    device = torch.device("cuda")
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with numerics(settings, device):
        batches = batch_maker(settings, 1, device)
        state = begin(make_network(settings, device, 0), batches, time.perf_counter())
        state.member.network.train()
        for step in range(2):
            batch = batches.batch(np.arange(settings.training.batch_size), 1, step)
            losses = sample_losses(state.member.network, batch, settings)
            state.member.optimizer.zero_grad()
            losses.mean().backward()
            state.member.optimizer.step()
        del batch, losses
        detector = Detector(settings, "any", state.member.network, batches.preprocessor)
        images = settings.images
        raw = np.zeros((min(64, settings.training.batch_size), images.channels, images.load_size, images.load_size))
        detector.detect(raw.astype(np.uint8))
    return torch.cuda.max_memory_reserved()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--preset", choices=PRESETS, help="instead of the one for the network's size of images")
    parser.add_argument("--batch", type=int, help="images of a step, instead of the preset's")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    options.device, options.threads = "cuda", 1
    found = {}
    print(f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}")
    for network in options.networks or NETWORKS:
        whole = settings_of(network, "auto", options)
        quarter = max(2, whole.training.batch_size // 4)
        less = whole.model_copy(update={"training": whole.training.model_copy(update={"batch_size": quarter})})
        most, least = reserved(whole), reserved(less)
        image = (most - least) / (whole.training.batch_size - quarter)
        fixed = max(0.0, most - image * whole.training.batch_size)
        found[network] = [round(fixed / MIB), round(image / MIB, 2)]
        row = f'    "{network}": Memory({found[network][0]}, {found[network][1]}),'
        size = f"{whole.training.batch_size} of {whole.images.size} px"
        print(f"{row}  # {size}: {most / MIB:.0f}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.flush()
    os._exit(0)  # torch's threads do not end on a device that finishes nothing


if __name__ == "__main__":
    main()
