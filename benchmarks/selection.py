"""How the presets for the built-in data were chosen: on selection data, never on the test sets that are reported.

`textures` has a selection region inside the training region. For the other data sets a third of the training split
replaces the test set, and the real test images are removed. Prints one line per class, then the mean, and the image
AUROC by every score of an image.

    python benchmarks/selection.py textures training.weight_decay=0.1
    python benchmarks/selection.py digits training.learning_rate=0.03 --classes 1 3 8
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.metrics.ranking import auroc
from fcdd_sweep.metrics.score_choice import CANDIDATES
from fcdd_sweep.planning.plan import plan_file
from fcdd_sweep.runners.trial_data import corpus_of
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.trainer import train


def without_test_images(corpus: Corpus) -> Corpus:
    """Return the training split alone, with a fixed third of it as the test set."""
    kept = np.flatnonzero(~corpus.is_test)
    chosen = np.random.default_rng(0).permutation(kept)[: len(kept) // 3]
    return dataclasses.replace(
        corpus,
        images=corpus.images[kept],
        class_index=corpus.class_index[kept],
        is_test=np.isin(kept, chosen),
        is_anomalous=corpus.is_anomalous[kept],
        defect=tuple(corpus.defect[i] for i in kept),
        path=tuple(corpus.path[i] for i in kept),
        original_size=corpus.original_size[kept],
        mask_index=corpus.mask_index[kept],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--classes", nargs="*")
    options = parser.parse_args()
    overrides = [*options.overrides]
    if options.preset == "textures":
        overrides.append("dataset.options={regions: selection}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "selection.yaml"
        path.write_text(f"schema: 2\nname: selection\npreset: {options.preset}\nseeds: 1\n")
        _, planned = plan_file(path, overrides)
    aurocs, by_score = [], []
    for spec in planned.specs:
        if options.classes and spec.normal_class not in options.classes:
            continue
        corpus = corpus_of(spec.settings)
        result = train(spec, TrialData(corpus if options.preset == "textures" else without_test_images(corpus)))
        aurocs.append([result.metrics["image_auroc"], result.metrics["pixel_auroc"]])
        tested = np.array(result.scores["split"]) == "test"
        label = np.array(result.scores["label"])[tested].astype(np.int8)
        by_score.append([auroc(np.array(result.scores[name])[tested].astype(float), label) for name in CANDIDATES])
        print(f"{spec.normal_class:10} image AUROC {aurocs[-1][0]:.3f}  pixel AUROC {aurocs[-1][1]:.3f}", flush=True)
    image, pixel = np.mean(aurocs, axis=0)
    print(f"{'mean':10} image AUROC {image:.3f}  pixel AUROC {pixel:.3f}")
    scores = zip(CANDIDATES, np.mean(by_score, axis=0), strict=True)
    print("image AUROC by score:", ", ".join(f"{name.removeprefix('score_')} {value:.3f}" for name, value in scores))


if __name__ == "__main__":
    main()
