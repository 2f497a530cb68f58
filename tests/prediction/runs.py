"""Runs of a few seeds on disk, trained in a second, and images to predict on."""

import numpy as np
from PIL import Image

from fcdd_sweep.results import files, schemas
from fcdd_sweep.sweep.trial import write_result
from fcdd_sweep.sweep.trial_rows import key_of
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.trainer import train
from tests.specs import defects_corpus, spec

CORPUS = defects_corpus()
HELD_OUT = {"validation": {"nominal_fraction": 0.25}, "false_alarm_rate": 0.1, "image_score": "max"}


def write_leaf(folder, seed, evaluation=HELD_OUT, normal_class="plain"):
    """Train a seed and write what prediction needs of its leaf; return its training result."""
    trial = spec(seed, normal_class, evaluation=evaluation)
    result = train(spec(seed, evaluation=evaluation), TrialData(CORPUS))
    result.snapshot.update(trial_id=trial.trial_id, normal_class=normal_class)
    folder.mkdir(parents=True)
    write_result(trial, result, folder)
    row = dict.fromkeys(schemas.METRICS.names) | key_of(trial) | {"n_validation": result.metrics["n_validation"]}
    files.write_rows(folder / "metrics.parquet", [row], schemas.METRICS)
    return result


def write_run(folder, seeds=(0, 1, 2), evaluation=HELD_OUT):
    """Return the folder of the run's class, and the training result of each seed."""
    leaf = folder / "normal_plain"
    return leaf, [write_leaf(leaf / f"it_{seed}", seed, evaluation) for seed in seeds]


def write_plan(folder, *trials):
    """Write the plan of a run with these trials."""
    rows = [key_of(trial) | {"leaf": trial.leaf, "parameters": "{}"} for trial in trials]
    files.write_rows(folder / "plan.parquet", rows, schemas.PLAN)


def write_parts(root, *, masks=True):
    """The corpus's test images as good/ and crack/, with maps in ground_truth/, as files of 64 px."""
    for i in np.flatnonzero(CORPUS.is_test):
        label = "crack" if CORPUS.is_anomalous[i] else "good"
        (root / "test" / label).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(CORPUS.images[i, 0])
        picture.resize((64, 64), Image.Resampling.NEAREST).save(root / "test" / label / f"{i:03}.png")
        if masks and CORPUS.is_anomalous[i]:
            folder = root / "ground_truth" / label
            folder.mkdir(parents=True, exist_ok=True)
            mask = Image.fromarray((CORPUS.images[i, 0] == 250).astype(np.uint8) * 255)
            mask.resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{i:03}_mask.png")
    return root
