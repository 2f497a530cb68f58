"""What a captured training step costs the host: decisions, copy, launch and the trainer's loop, in CPU seconds.

Everything runs on the null device of `tests/nullcuda`, where the device's work takes no time and what is left is the
host's. Steps are those of whole epochs by `run_epoch`, of whole batches alone; the first epochs, in which the step is
captured, are not counted. Other checkouts are measured in turns with this one, a process for each round.

    python benchmarks/host_time.py [--rounds 9] [--against CHECKOUT] [--json host_time.json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CASES = {"FCDD_CNN28_W": "fmnist", "FCDD_CNN224_VGG_F": "mvtec"}
"""Networks, and the presets that they are trained by."""
STEPS = 40
"""Steps of an epoch: about as many as one class of Fashion-MNIST has."""
EPOCHS = 10
"""Epochs of a round; the least of their times counts, as other programs only add to one."""


def microseconds(preset: str) -> float:
    """Return CPU microseconds of the host for a step of a preset, on the null device of this process."""
    import torch

    from fcdd_sweep.config.presets import PRESETS
    from fcdd_sweep.config.schema import Settings
    from fcdd_sweep.training.anomaly_pools import ResidentPool
    from fcdd_sweep.training.batches import BatchMaker
    from fcdd_sweep.training.device import numerics
    from fcdd_sweep.training.models import make_network
    from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
    from fcdd_sweep.training.streams import Streams
    from fcdd_sweep.training.trainer import begin, run_epoch

    torch.backends.cudnn.enabled = False  # the null device has no engines
    tree, gpu = PRESETS[preset].tree, torch.device("cuda")
    network = {**tree["network"], "weights": "none"}
    settings = Settings.model_validate({**tree, "network": network, "resources": {"device": "cuda"}})
    images, training = settings.images, settings.training
    count = training.batch_size * STEPS // training.passes_per_epoch
    nominal = torch.zeros(count, images.channels, images.load_size, images.load_size, dtype=torch.uint8, device=gpu)
    pool = None if isinstance(settings.anomalies.source, str) else ResidentPool(nominal[:512].clone())
    batches = BatchMaker(settings, nominal, pool, Preprocessor.fit(Recipe.of(settings), nominal), Streams(0, "x"))
    with numerics(settings, gpu):
        state, times = begin(make_network(settings, gpu, 0), batches, 0.0), []
        for _ in range(2 + EPOCHS):
            start = time.process_time()
            run_epoch(state, batches)
            times.append((time.process_time() - start) / state.step)
            state.epoch, state.step = state.epoch + 1, 0
        if not state.program.captures:  # type: ignore[attr-defined]
            raise RuntimeError("the step cannot be captured")
    return min(times[2:]) * 1e6


def measured(checkout: Path, environment: dict[str, str]) -> dict[str, float]:
    """Return CPU microseconds of a step by network, of the code in a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "round.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--round", "--json", str(target)]
        code = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment | code, cwd=checkout, check=True)
        found: dict[str, float] = json.loads(target.read_text())
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--against", type=Path, action="append", default=[], metavar="CHECKOUT")
    parser.add_argument("--json", type=Path, default=Path("host_time.json"), metavar="FILE")
    parser.add_argument("--round", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.round:
        options.json.write_text(json.dumps({network: microseconds(preset) for network, preset in CASES.items()}))
        os._exit(0)  # torch's threads do not end on a device that finishes nothing
    sys.path.insert(0, str(ROOT))
    from tests.nullcuda.build import build, missing

    if reason := missing():
        print(f"no null device: {reason}", file=sys.stderr)
        return 1
    checkouts = [checkout.resolve() for checkout in options.against] + [ROOT]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | build(Path(folder))
        rounds = [[measured(each, environment) for each in checkouts] for _ in range(options.rounds)]
    found = {
        str(checkout): {network: [each[place][network] for each in rounds] for network in CASES}
        for place, checkout in enumerate(checkouts)
    }
    options.json.write_text(json.dumps(found, indent=1) + "\n")
    for checkout, figures in found.items():
        for network, times in figures.items():
            spread = f"{min(times):.0f} to {max(times):.0f}, {len(times)} rounds"
            print(f"{checkout} {network}: {statistics.median(times):.0f} µs a step ({spread})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
