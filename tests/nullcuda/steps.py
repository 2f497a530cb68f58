"""Steps of training on the null device, call by call; prints JSON that `test_steps.py` checks.

python -m tests.nullcuda.steps [presets] [in_flight] [packs] [fronts] [networks] [combinations] [failures]

`failures` is last: it breaks the device.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import sys
import threading

import numpy as np
import torch

from fcdd_sweep.anomalies.registry import SOURCES
from fcdd_sweep.config.presets import PRESETS
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.networks.registry import NETWORKS
from fcdd_sweep.training.anomaly_pools import ResidentPool, StreamedPool
from fcdd_sweep.training.batches import BatchMaker
from fcdd_sweep.training.device import numerics
from fcdd_sweep.training.graph_program import WARM_UP, GraphProgram
from fcdd_sweep.training.models import make_network
from fcdd_sweep.training.pack import Pack
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from fcdd_sweep.training.streams import Streams
from fcdd_sweep.training.trainer import begin
from tests.nullcuda import device
from tests.prepared import Patchy
from tests.specs import SETTINGS

torch.backends.cudnn.enabled = False  # the null device has no engines; torch's own convolutions are launched instead
GPU = torch.device("cuda")


def merged(one, other):
    """Nested dicts in one; what is no dict, and the source of anomalies, is replaced."""
    both = {**one, **other}
    for key, value in other.items():
        if key != "source" and isinstance(value, dict) and isinstance(one.get(key), dict):
            both[key] = merged(one[key], value)
    return both


def preset(name, **sections):
    root = {"dataset": {"root": "x"}} if name in ("folder", "coco") else {}
    tree = merged(merged(PRESETS[name].tree, root), sections)
    return Settings.model_validate(merged(tree, {"resources": {"device": "cuda"}, "network": {"weights": "none"}}))


def batch_maker(chosen, *, streamed=False, seed=0):
    """Data of two whole batches and three samples more: nothing is computed, so all pixels are 0."""
    images, count = chosen.images, 2 * chosen.training.batch_size + 3
    shape = (images.channels, images.load_size, images.load_size)
    nominal = torch.zeros(count, *shape, dtype=torch.uint8, device=GPU)
    pool, appended = None, 0
    if streamed:
        pool = StreamedPool(Patchy(np.zeros((9, *shape), np.uint8)), np.arange(9), 9)
    elif chosen.anomalies.mode == "other" or not isinstance(chosen.anomalies.source, str | None):
        gt_maps = nominal.new_zeros(9, 1, *shape[1:]) if chosen.training.supervision == "maps" else None
        pool = ResidentPool(nominal[:9].clone(), gt_maps)
    return BatchMaker(chosen, nominal, pool, Preprocessor.fit(Recipe.of(chosen), nominal), Streams(seed, "x"), appended)


def counted(calls):
    kinds = [call.kind for call in calls]
    copies = [call for call in calls if call.kind == "COPY"]
    return {
        "launches": kinds.count("KERNEL") + kinds.count("MEMSET") + sum(call.name == "on device" for call in copies),
        "graphs": sum(call.name == "graph" for call in calls),
        "captured": kinds.count("CAPTURED"),
        "waits": kinds.count("WAIT"),
        "copies": [call.name for call in copies if call.name != "on device"],
        "sorts": sum("sort" in call.name.lower() for call in calls),
        "drawing": sum("distribution" in call.name or "dropout" in call.name for call in calls),
    }


class Stepping:
    """A trial whose steps are made and logged one by one."""

    def __init__(self, chosen, *, streamed=False, seed=0):
        self.batches = batch_maker(chosen, streamed=streamed, seed=seed)
        self.network = make_network(chosen, GPU, 0)
        self.network.train()
        self.state = begin(self.network, self.batches, 0.0)

    def epoch(self, number):
        """Return the calls of each step: two usual ones and a smaller one."""
        found = []
        for row in self.batches.planner.rows(number, dropout=self.network.draws):
            with device.logged() as calls:
                self.state.program.step([row])
            found.append(counted(calls))
        return found


def steps_of(chosen, *, streamed=False):
    """Return what each step of the third epoch asks of the device, and what it reserves in MiB.

    An epoch has two usual steps, so that the usual one is captured in the second epoch.
    """
    assert WARM_UP == 3
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_reserved()
    with numerics(chosen, GPU):
        stepping = Stepping(chosen, streamed=streamed)
        first = stepping.epoch(1)
        captured = max(step["captured"] for step in [*first, *stepping.epoch(2)])
        found = stepping.epoch(3)
    peak = (torch.cuda.max_memory_reserved() - before) / device.MIB
    assert isinstance(stepping.state.program, GraphProgram)
    return {"captures": stepping.state.program.captures, "first": first[0], "captured": captured, "steps": found} | {
        "peak_mib": round(peak)
    }


SECTIONS = {**SETTINGS, "resources": {"device": "cuda"}}


def small(**sections):
    return Settings.model_validate(merged(SECTIONS, sections))


def composed(chosen):
    """Return how many kernels make a batch."""
    batches = batch_maker(chosen)
    row = batches.planner.row(batches.planner.order(1)[: chosen.training.batch_size], 1, 0)
    batches.compose(row)  # makes what is kept, such as the blur's matrices
    with device.logged() as calls:
        batches.compose(row)
    return counted(calls)["launches"]


def presets():
    return {
        name: steps_of(preset(name)) | {"composed": composed(preset(name))}
        for name in PRESETS  # digits to own images, with their networks, sources and batch sizes
    }


class Warnings(logging.Handler):
    def __init__(self):
        super().__init__()
        self.messages = []
        logging.getLogger("fcdd_sweep").addHandler(self)

    def emit(self, record):
        self.messages.append(record.getMessage())


def failed_capture():
    """Return what a step asks for after its capture failed, and what was logged."""
    warnings = Warnings()
    with numerics(small(), GPU):
        stepping = Stepping(small())
        stepping.epoch(1)
        device.library.null_fail_next_capture()
        steps = [*stepping.epoch(2), *stepping.epoch(3)]
    return {"captures": stepping.state.program.captures, "steps": steps, "warnings": list(warnings.messages)}


def error_of(step):
    try:
        step()
    except RuntimeError as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return ""


def failures():
    """Return how steps end on a device without memory, and on one that breaks while a graph is repeated."""
    found = {"failed capture": failed_capture()}
    with numerics(small(), GPU):
        stepping = Stepping(small())
        stepping.epoch(1)
        device.library.null_set_total(torch.cuda.memory_allocated())
        found["no memory for the graph"] = error_of(lambda: [stepping.epoch(number) for number in (2, 3)])
        device.library.null_set_total(80 << 30)
        stepping = Stepping(small())
        for number in (1, 2):
            stepping.epoch(number)
        device.break_after(1, 710)
        found["broken"] = [error_of(lambda number=number: stepping.epoch(number)) for number in (3, 4)]
    return found


def networks():
    """Every network under its method, and the draws of those with dropout."""
    found = {}
    for name, info in NETWORKS.items():
        big = info.input_size > 100
        images = {"load_size": info.input_size + 16 * big, "size": info.input_size, "color": "rgb" if big else "gray"}
        anomalies = {"mode": "unsupervised", "source": None} if info.method == "ae" else {}
        supervision = {"supervision": "maps" if info.method == "fcdd" else "labels", "batch_size": 4}
        sections = {"images": images, "training": supervision, "anomalies": anomalies}
        network = {"network": {"name": name, "weights": "none"}, "method": info.method}
        found[name] = steps_of(small(**merged(sections, network)))
    return found


def combinations():
    """Every mode and source with every preprocessing, color, label and optimizer."""
    found = {}
    modes = ("noise", "malformed_normal", "malformed_normal_gt")
    sources = [(mode, source) for mode, source in itertools.product(modes, SOURCES)]
    sources += [("unsupervised", None), ("noise", {"folder": "x"}), ("streamed", {"folder": "x"})]
    recipes = ("none", "lcn", "aug1", "lcnaug1", "aug1_blackcenter", "aug1_blackcenter_inverted")
    for number, ((mode, source), recipe) in enumerate(itertools.product(sources, recipes)):
        chosen = small(
            anomalies={"mode": "noise" if mode == "streamed" else mode, "source": source},
            preprocessing=recipe,
            images={"color": ("rgb", "gray")[number % 2], "nominal_label": number // 2 % 2},
            training={
                "optimizer": ("sgd", "adam")[number // 3 % 2],
                "supervision": ("labels", "maps")[number // 5 % 2],
            },
        )
        found[f"{mode} {source} {recipe}"] = steps_of(chosen, streamed=mode == "streamed")
    return found


def in_flight():
    """Return how many rows lie where later rows do, which are made while the device still copies them, or after it."""
    found = {}
    with numerics(small(), GPU):
        stepping, other = Stepping(small()), batch_maker(small())
        for name, works in (("copying", 1), ("done", 0)):
            device.library.null_work(works)
            rows = [*stepping.batches.planner.rows(1)]
            places = {row.memory.data_ptr() for row in rows}
            for row in rows:
                stepping.state.program.step([row])
            assert all(row.memory.is_pinned() for row in rows)
            del row, rows
            later = [*other.planner.rows(2)]
            found[name] = len(places & {row.memory.data_ptr() for row in later})
            del later
    return found


def packs():
    """Return what an epoch of two usual steps and a smaller one asks for, by number of trials that share it."""
    return {size: pack_of([0] * size)["third"] for size in (1, 4, 10)}


def fronts():
    """Return the same and what is captured of trials with a frozen front: one, four of one seed, and four seeds."""
    images = {"load_size": 32, "size": 32, "color": "rgb"}
    network = {"name": "FCDD_CNN224_VGG_F", "weights": "none"}
    sections = {"images": images, "network": network, "training": {"batch_size": 2, "supervision": "labels"}}
    seeds = {"one": [0], "one seed": [0] * 4, "four seeds": range(4)}
    return {name: pack_of(each, **sections) for name, each in seeds.items()}


def pack_of(seeds, **sections):
    """Train trials of these seeds in a pack; return the calls of the second epoch, which captures, and the third."""
    pack, gate, found = Pack(len(seeds)), threading.Barrier(len(seeds)), {}

    def run(place, seed):
        first = place == 0
        with pack.entered(), pack.numerics(small(), GPU):
            rated = merged(sections, {"training": {"learning_rate": 0.01 / (1 + place)}})
            stepping = Stepping(small(**rated), seed=seed)
            for epoch in ("first", "second", "third"):
                gate.wait()
                with device.logged() if first else contextlib.nullcontext([]) as calls:
                    gate.wait()
                    for row in stepping.batches.planner.rows(("first", "second", "third").index(epoch) + 1):
                        stepping.state.program.step([row])
                    gate.wait()
                if first:
                    pools = sum(call.kind == "CAPTURED" and "max_pool_forward" in call.name for call in calls)
                    found[epoch] = counted(calls) | {"shared": pack.shared_steps, "captured_pools": pools}
            if first:
                found["shared_fronts"] = pack.shared_fronts

    threads = [threading.Thread(target=run, args=each) for each in enumerate(seeds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


PROBES = {probe.__name__: probe for probe in (presets, in_flight, packs, fronts, failures, networks, combinations)}
if __name__ == "__main__":
    print(json.dumps({name: PROBES[name]() for name in sys.argv[1:]}), flush=True)
    os._exit(0)  # torch's threads do not end on a device that finishes nothing
