"""Everything that only a GPU can tell, in one command of at most 12 minutes: correctness first, then speed.

    python benchmarks/gpu.py [--json gpu.json] [--limit 700]     # needs torch, numpy, pyarrow, pydantic; no Ray
    python benchmarks/gpu.py --null                              # the same on a device that does nothing (see below)

Each part is a process with its own time limit, so that one that hangs or breaks the device costs the others nothing;
the file has what each found as soon as it ended.

    tests      python -m pytest -m gpu
    peak       what this card does at best: products of matrices in bfloat16 and float32 (TF32 off), copies
    G1 G2 G3   training steps of the paper's networks at their batch size, in both layouts and precisions, as a share
               of the floor: the time that the card's peak needs for the step's products and then for its traffic
    packs      G5: how many times as fast as one after another trials are in packs
    front      the same for configs of one seed, whose pack computes the frozen VGG front of G3 once
    G7         the share of a step that composes its batch: what is not the bare network's step
    confetti   a batch of rendered anomalies, on the card and on one core

`--null` runs all of it on the null device of `tests/nullcuda`: whether it would run, not how fast, and with wrong
numbers, so the test of a threshold is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]
STEPS = {"G1": "FCDD_CNN28_W", "G2": "FCDD_CNN32_LW3K", "G3": "FCDD_CNN224_VGG_F"}
GOALS = {"G1": 0.60, "G2": 0.60, "G3": 0.55, "G7": 0.10}
"""Least share of the floor, and of G7 the largest share of a step; see CONTRIBUTING for how goals are set."""
LIMITS = {"tests": 240, "peak": 40, "G1": 60, "G2": 60, "G3": 120, "packs": 60, "front": 90, "confetti": 60}
"""Parts in their order, and their time limits in seconds."""
BYTES = {"fp32": 4, "bf16": 2}
NULL = "FCDD_NULL_DEVICE"
OF_NUMBERS = "tests/test_gpu.py::test_predictions_are_the_scores_of_the_trial"
"""The test of a threshold, which is not a number where the device computes none: left out there."""


def peak() -> dict[str, Any]:
    """Return FLOP/s of products of matrices and bytes per second of copies, the best of several."""
    import torch

    def best(work: Callable[[], object], amount: float) -> float:
        seconds = []
        for _ in range(3 if os.environ.get(NULL) else 12):
            torch.cuda.synchronize()
            start = time.perf_counter()
            work()
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return amount / min(seconds[1:])

    torch.backends.cuda.matmul.allow_tf32 = False
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(0), "torch": torch.__version__}
    found["total_gib"] = torch.cuda.get_device_properties(0).total_memory / 2**30
    for name, kind, side in (("bf16", torch.bfloat16, 8192), ("fp32", torch.float32, 8192)):
        one, other = (torch.ones(side, side, dtype=kind, device="cuda") for _ in range(2))
        found[f"{name}_flop_per_s"] = best(lambda one=one, other=other: one @ other, 2 * side**3)
    source = torch.ones(2**28, device="cuda")
    target = torch.empty_like(source)
    found["bytes_per_s"] = best(lambda: target.copy_(source), 2 * source.nbytes)
    return found


def step(network: str) -> dict[str, Any]:
    """Return times of training steps and of the bare network's, and the work of a step for each image."""
    import torch
    from throughput import measured, options_of, settings_of

    counts = ["--rounds", "5", "--steps", "10" if network == STEPS["G3"] else "20"]
    if os.environ.get(NULL):  # torch's own convolutions launch a kernel for each image
        counts = ["--rounds", "1", "--steps", "2", "--batch", "8"]
    options = options_of([network, "--device", "cuda", *counts])
    variants = measured(network, options, torch.device("cuda"))
    return {"network": network, "variants": variants, **work_of(settings_of(network, "auto", options))}


def work_of(settings: Any) -> dict[str, Any]:
    """Return floating-point operations of a step for each image, and values that it moves at least.

    Values: each convolution reads its input and writes its output; normalization, activation and pool read it, once
    more for batch statistics; backward, trained layers read outputs again as often, write their gradient, read it for
    both products and the input for one, and write the input's gradient, which the first layer needs not.
    """
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    from fcdd_sweep.training.models import make_network

    network, images = make_network(settings, torch.device("cpu"), 0), settings.images
    modules = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.BatchNorm2d)]  # type: ignore[attr-defined]
    moved = []

    def seen(module: Any, inputs: Any, output: Any) -> None:
        place = modules.index(module)
        normalized = place + 1 < len(modules) and isinstance(modules[place + 1], nn.BatchNorm2d)
        taken, made, reads = inputs[0][0].numel(), output[0].numel(), 2 if normalized else 1
        moved.append(taken + made * (1 + reads))
        if module.weight.requires_grad:
            first = not inputs[0].requires_grad
            moved.append(made * (reads + 1 + (1 if first else 2)) + taken * (1 if first else 2))

    for module in modules:
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(seen)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, images.channels, images.size, images.size)).square().sum().backward()
    return {"flop_per_image": counter.get_total_flops(), "values_per_image": sum(moved)}


def confetti() -> dict[str, Any]:
    """Return milliseconds an image on the card and on one core."""
    import torch
    from confetti import figures, measure

    rounds, images = (1, 4) if os.environ.get(NULL) else (9, 64)
    torch.set_num_threads(1)
    found = {name: figures(measure(images, rounds, torch.device(name)), images) for name in ("cuda", "cpu")}
    medians = {name: each["confetti"]["ms_an_image"]["median"] for name, each in found.items()}
    return found | {"us_an_image": 1000 * medians["cuda"], "times_as_fast_as_a_core": medians["cpu"] / medians["cuda"]}


def packs() -> dict[str, Any]:
    """Return how many times as fast as one after another trials are in packs, by size of a pack."""
    return _packed(STEPS["G1"], (2, 5, 10), 100, one_seed=False)


def front() -> dict[str, Any]:
    """Return the same for configs of one seed, whose frozen front a pack computes once."""
    return _packed(STEPS["G3"], (5,), 10, one_seed=True)


def _packed(network: str, sizes: Sequence[int], steps: int, *, one_seed: bool) -> dict[str, Any]:
    import torch
    from packs import ratios
    from throughput import options_of, settings_of

    null = bool(os.environ.get(NULL))
    options = options_of([network, "--device", "cuda", *(["--batch", "8"] if null else [])])
    settings = settings_of(network, "auto", options)
    sizes, steps, rounds = ((2,), 2, 1) if null else (sizes, steps, 3)
    found = ratios(settings, sizes, steps, rounds, torch.device("cuda"), one_seed=one_seed)
    return {"times_as_fast_as_alone": {size: statistics.median(values) for size, values in found.items()}, "all": found}


def run_part(name: str) -> dict[str, Any]:
    """Return what a part found, in its own process."""
    if os.environ.get(NULL):
        import torch

        torch.backends.cudnn.enabled = False  # the null device has no engines
    if name in STEPS:
        return step(STEPS[name])
    return {"peak": peak, "packs": packs, "front": front, "confetti": confetti}[name]()


_PYTEST = f"""
import os, sys, pytest, torch
torch.backends.cudnn.enabled = "{NULL}" not in os.environ
code = pytest.main(sys.argv[1:])
sys.stdout.flush()
os._exit(code)
"""
"""Ends even where the device is broken and torch's threads do not."""


def tested(limit: float, environment: dict[str, str]) -> dict[str, Any]:
    """Run the tests that are marked `gpu`; return how they ended."""
    # a single test that hangs ends after a minute where pytest-timeout is there
    chosen = ["-v", "-o", "timeout=60", "-p", "no:cacheprovider", "-m", "gpu", "tests/test_gpu.py"]
    chosen += ["--deselect", OF_NUMBERS] if NULL in environment else []
    ended = run([sys.executable, "-u", "-c", _PYTEST, *chosen], limit, environment)
    lines = [line for line in ended["output"].splitlines() if line.strip()]
    return {key: ended[key] for key in ("status", "seconds")} | {"summary": lines[-1:], "last_lines": lines[-40:-1]}


def run(command: list[str], limit: float, environment: dict[str, str]) -> dict[str, Any]:
    """Run a command for at most `limit` seconds; return status, seconds and output. Its processes end with it."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = process.wait(limit)
            status = "done" if code == 0 else f"failed ({code})"
        except subprocess.TimeoutExpired:
            status = "took too long"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return {"status": status, "seconds": round(time.monotonic() - start, 1), "output": output.read()}


def part(name: str, limit: float, environment: dict[str, str]) -> dict[str, Any]:
    """Run a part in a process of its own; return what it found, or the end of what it printed."""
    if name == "tests":
        return tested(limit, environment)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "part.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--part", name, "--json", str(target)]
        ended = run(command, limit, environment)
        found = json.loads(target.read_text()) if target.exists() else {"output": ended["output"][-2000:]}
    return {"status": ended["status"], "seconds": ended["seconds"], **found}


def floors(found: dict[str, Any]) -> dict[str, Any]:
    """Return by goal what was reached: the share of the floor, and of G7 the share of a step, of the best variant."""
    best, reached = found.get("peak", {}), {}
    for name in STEPS:
        variants = found.get(name, {}).get("variants", {})
        if not variants:
            continue
        if "bytes_per_s" in best:
            shares = {}
            for variant, each in variants.items():
                kind = each["precision"]
                seconds = found[name]["flop_per_image"] / best[f"{kind}_flop_per_s"]
                seconds += found[name]["values_per_image"] * BYTES[kind] / best["bytes_per_s"]
                shares[variant] = {"floor_images_per_s": 1 / seconds, "share": each["images_per_s"] * seconds}
            half = {
                variant: each["share"] for variant, each in shares.items() if variants[variant]["precision"] == "bf16"
            }
            share = max(half.values())
            reached[name] = {"variants": shares, "best_bf16": share, "goal": GOALS[name], "met": share >= GOALS[name]}
        fastest = max(variants.values(), key=lambda each: each["images_per_s"])
        rest = 1 - fastest["ratio"]["median"]
        reached[f"G7 {name}"] = {"share_of_step": rest, "goal": GOALS["G7"], "met": rest <= GOALS["G7"]}
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), metavar="FILE")
    parser.add_argument("--limit", type=float, default=700.0, help="seconds of all parts together (default: 700)")
    parser.add_argument("--parts", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--null", action="store_true", help="on the null device, to see that all of it runs")
    parser.add_argument("--part", choices=[name for name in LIMITS if name != "tests"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        options.json.write_text(json.dumps(run_part(options.part)))
        os._exit(0)  # torch's threads do not end on a device that finishes nothing
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        if options.null:
            from tests.nullcuda.build import build

            environment |= build(Path(folder)) | {NULL: "1"}
        return all_parts(options, environment)


def all_parts(options: argparse.Namespace, environment: dict[str, str]) -> int:
    """Run the parts, and write the file after each; the exit code is 1 where one did not end well."""
    found: dict[str, Any] = {}
    end = time.monotonic() + options.limit
    for name in options.parts:
        left = end - time.monotonic()
        found[name] = part(name, min(LIMITS[name], left), environment) if left > 1 else {"status": "no time left"}
        reached = floors(found)
        options.json.write_text(json.dumps(found | {"reached": reached}, indent=1) + "\n")
        about = found[name].get("device") or found[name].get("skipped") or "".join(found[name].get("summary", []))
        print(f"{name}: {found[name]['status']} {about}".rstrip(), flush=True)
    for goal, each in floors(found).items():
        value = each.get("best_bf16", each.get("share_of_step"))
        print(f"{goal}: {value:.2f}, goal {each['goal']:.2f}: {'met' if each['met'] else 'not met'}")
    return int(any(each["status"] != "done" for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
