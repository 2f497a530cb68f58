"""Prepared trials and pools of images for tests."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import torch

from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.prepare import prepare
from fcdd_sweep.training.streams import Streams
from tests.specs import defects_corpus, spec

CORPUS = defects_corpus()
"""40 nominal training images, and a test set of 12 nominal and 12 anomalous ones of the type `square`."""
FOLDER = {"mode": "noise", "source": {"folder": "x"}}


def typed(names=("bent", "cut", "rust")):
    """The corpus with its 12 test anomalies divided into types: 6 bent, 4 cut, 2 rust or as many of other names."""
    kinds = iter([names[0]] * 6 + [names[1]] * 4 + [names[2]] * 2)
    return dataclasses.replace(CORPUS, defect=tuple(next(kinds) if flag else "" for flag in CORPUS.is_anomalous))


def made(corpus=CORPUS, exposure=None, seed=0, **sections):
    trial = spec(seed=seed, **sections)
    return prepare(trial, TrialData(corpus, exposure), Streams(seed, trial.normal_class), torch.device("cpu"))


def batches_of(found, epoch=1):
    return [found.batches.compose(row) for row in found.batches.planner.rows(epoch)]


def plan_of(row):
    return row.layout.tensors(row.memory)


def drawn_of(row):
    """The numbers of the images, in the pool, that replace samples."""
    plan = plan_of(row)
    return plan.drawn[plan.replaced].numpy()


def anomalies_of(found, row):
    """The images that replace samples."""
    plan = plan_of(row)
    pool = found.batches.pool.images if plan.pixels is None else plan.pixels
    return pool[plan.drawn[plan.replaced]].numpy()


def pixels(n=50, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (n, 1, 32, 32)).astype(np.uint8)


class Patchy:
    """A pool some of whose images cannot be read; it knows which it was asked for, and by which threads."""

    fingerprint = "f"

    def __init__(self, images, broken=()):
        self.images, self.broken, self.asked, self.threads = images, set(broken), [], set()

    def __len__(self):
        return len(self.images)

    def names(self, index):
        return [f"image {i}" for i in index]

    def read(self, index):
        self.asked += index.tolist()
        self.threads.add(threading.current_thread().name)
        readable = np.array([i not in self.broken for i in index.tolist()], dtype=bool)
        return np.where(readable[:, None, None, None], self.images[index], 0).astype(np.uint8), readable
