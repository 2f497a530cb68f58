"""The preset for own images, `folder`, chosen and proved on trees of real photographs; see `photo_trees`.

`select` trains on the trees for choosing, with other settings, and prints AUROCs by image score. `prove` trains what
`init` writes for each of the five others, the same at 64 px, and the preset that it replaced; each seed draws the
held-out images anew. Every finished trial is a line of a file, so the same command resumes, and more `--seeds` add to
it. `keep` adds these lines to `own_images.parquet` beside this program, where `prove` and `tables` find them, too; when
a preset has changed, remove that file first. Several processes need a `--folder` each. `tables` prints what is there;
where `init` chooses `image_score: auto`, it is chosen as in a report, over all seeds of a tree. AUROCs compare images
with a defect with the same images without it, their twins, so that .5 is chance for every setting; `above twin` is the
share of small defects that score higher than their own twin.

    python benchmarks/own_images.py select training.learning_rate=0.003 network.name=FCDD_CNN224
    python benchmarks/own_images.py prove --seeds 20
    python benchmarks/own_images.py keep
    python benchmarks/own_images.py tables
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from photo_trees import PROOF, SELECTION, TREES, TWIN, labelled_root, write_tree

from fcdd_sweep.config.fields import TOP_SHARES, score_column
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.data.corpus import Corpus
from fcdd_sweep.metrics.decision import calibrating_paths, conformal_threshold, decision_metrics
from fcdd_sweep.metrics.ranking import auroc
from fcdd_sweep.metrics.score_choice import ScoreChoice, SelectionScores, choose_score, is_held_out
from fcdd_sweep.metrics.statistics import Summary, summarize, wilson_interval
from fcdd_sweep.own_images import choices_for, experiment_text, inspect_images
from fcdd_sweep.planning.plan import plan_file
from fcdd_sweep.runners.trial_data import corpus_of
from fcdd_sweep.training.partition import TrialData
from fcdd_sweep.training.trainer import train

KEPT = Path(__file__).with_suffix(".parquet")
COLUMNS = ("score_mean", "score_max", *TOP_SHARES.values())
HELD_OUT = ["evaluation.validation.nominal_fraction=0.4", "evaluation.image_score=max"]
"""Of the trees for choosing."""
PRESETS: dict[str, list[str]] = {
    "new": [],
    "at 64 px": ["images.load_size=64", "images.size=64"],
    "old": [
        "images={load_size: 248, size: 224, color: rgb, resize: bilinear}",
        "anomalies={mode: malformed_normal, source: confetti}",
        "network.name=FCDD_CNN224",
        "preprocessing=aug1",
        "training={epochs: 200, min_steps: 0, batch_size: 128, optimizer: sgd, momentum: 0.9, learning_rate: 0.001, "
        "weight_decay: 1.0e-6, schedule: {type: exponential, factor: 0.985}}",
        "heatmaps.kernel_std_px=10.0",
        "evaluation.image_score=mean",
    ],
}
"""What is set over the file that `init` writes. `old` restores the former values, but for what is held out."""


def specs(tree: str, folder: Path, overrides: Sequence[str], seeds: int) -> tuple[TrialSpec, ...]:
    """Return the trials of a tree with the settings that `init` chooses, one for each seed."""
    path = folder / f"{tree}.yaml"
    path.write_text(experiment_text(choices_for(inspect_images(write_tree(tree, folder, twins=True), {}), tree), ()))
    _, planned = plan_file(path, [f"seeds={seeds}", *overrides])
    return planned.specs


def corpus_for(tree: str, spec: TrialSpec, folder: Path) -> Corpus:
    """Return the decoded images of a tree; those of a flat one with the labelled test images that are kept apart."""
    corpus = corpus_of(spec.settings)
    if TREES[tree].layout != "flat":
        return corpus
    elsewhere = spec.settings.dataset.model_copy(update={"root": labelled_root(tree, folder)})
    tested = corpus_of(spec.settings.model_copy(update={"dataset": elsewhere}))
    arrays = {
        name: np.concatenate([getattr(corpus, name), getattr(tested, name)])
        for name in ("images", "class_index", "is_anomalous", "original_size", "mask_index")
    }
    is_test = np.concatenate([corpus.is_test, np.ones(len(tested.images), dtype=bool)])
    texts = {"defect": corpus.defect + tested.defect, "path": corpus.path + tested.path}
    return dataclasses.replace(corpus, **arrays, **texts, is_test=is_test)


def trained(tree: str, spec: TrialSpec, folder: Path) -> dict[str, Any]:
    """Train a trial, and return its scores by column, with labels, splits and sizes of defects."""
    corpus = corpus_for(tree, spec, folder)
    started = time.process_time()
    result = train(spec, TrialData(corpus))
    scores = result.scores
    return {
        "image_score": spec.settings.evaluation.image_score,
        "rate": spec.settings.evaluation.false_alarm_rate,
        "cpu_minutes": (time.process_time() - started) / 60,
        "pixel_auroc": result.metrics["pixel_auroc"],
        "split": scores["split"],
        "label": scores["label"],
        **{column: scores[column] for column in ("path", "defect", *COLUMNS)},
    }


@dataclasses.dataclass(frozen=True)
class Trial:
    """The scores of a finished trial."""

    tree: str
    values: dict[str, Any]

    def pairs(self, column: str, *, small: bool) -> npt.NDArray[np.float64]:
        """Return (2, n) scores of the images with a defect, or a small one, and those of their twins without it."""
        score = {Path(path).stem: value for path, value in zip(self.values["path"], self.values[column], strict=True)}
        twins = [name for name in score if name.startswith(TWIN) and ("_small" in name or not small)]
        return np.array([[score[name.removeprefix(TWIN)], score[name]] for name in twins]).T

    def auroc(self, column: str, *, small: bool = False) -> float:
        """Return the AUROC of images with a defect against their twins: .5 where a defect changes nothing."""
        scores = self.pairs(column, small=small)
        return auroc(scores.ravel(), np.repeat([1, 0], scores.shape[1]).astype(np.int8))

    def above_twin(self, column: str) -> float:
        """Return the share of small defects with a higher score than their twin; equal scores count half."""
        defect, twin = self.pairs(column, small=True)
        return float(np.mean((defect > twin) + 0.5 * (defect == twin)))

    def decided(self, used: ScoreChoice) -> dict[str, Any]:
        """Return the columns of `metrics.parquet` on decisions."""
        return decision_metrics(self.values, used.column, self.values["rate"], selecting=used.is_made)


def used_score(trials: Sequence[Trial]) -> ScoreChoice:
    """Return the image score of the trials of a tree: the one that is set, or that `auto` chooses."""
    wanted = trials[0].values["image_score"]
    if wanted != "auto":
        return ScoreChoice(score_column(wanted))
    scores = [trial.values for trial in trials]
    calibrating = {path for each in scores for path in calibrating_paths(each, each["rate"])}
    return choose_score([SelectionScores.of(each, calibrating) for each in scores])


def finished(file: Path) -> dict[tuple[str, str, int], Trial]:
    """Return the trials that are kept and those of a results file, by preset, tree and seed."""
    lines = file.read_text().splitlines() if file.exists() else []
    rows = (pq.read_table(KEPT).to_pylist() if KEPT.exists() else []) + [json.loads(line) for line in lines]
    return {(row["preset"], row["tree"], row["seed"]): Trial(row["tree"], row) for row in rows}


def keep(file: Path) -> None:
    """Add the trials of a results file to those that are kept."""
    texts, numbers = ("preset", "tree", "image_score"), ("rate", "cpu_minutes", "pixel_auroc")
    schema = pa.schema(
        [
            *((name, pa.string()) for name in texts),
            ("seed", pa.int32()),
            *((name, pa.float64()) for name in numbers),
            *((name, pa.list_(pa.string())) for name in ("split", "path", "defect")),
            ("label", pa.list_(pa.int8())),
            *((name, pa.list_(pa.float32())) for name in COLUMNS),
        ]
    )
    rows = [trial.values for _, trial in sorted(finished(file).items())]
    pq.write_table(pa.Table.from_pylist(rows, schema), KEPT, compression="zstd", compression_level=19)
    print(f"{KEPT}: {len(rows)} trials")


def prove(folder: Path, file: Path, presets: Sequence[str], trees: Sequence[str], seeds: int) -> None:
    """Train what is missing in the results file, all trees of a seed before the next seed."""
    planned = {(preset, tree): specs(tree, folder, PRESETS[preset], seeds) for preset in presets for tree in trees}
    for seed in range(seeds):
        for (preset, tree), each in planned.items():
            if (preset, tree, seed) in finished(file):
                continue
            row = {"preset": preset, "tree": tree, "seed": seed, **trained(tree, each[seed], folder)}
            with file.open("a") as out:
                out.write(json.dumps(row) + "\n")
            trial = Trial(tree, row)
            used = used_score([trial]).column
            text = f"AUROC {trial.auroc(used):.3f}, small defects {trial.auroc(used, small=True):.3f} by {_short(used)}"
            print(f"{preset} {tree:11} seed {seed:2}: {text}, {row['cpu_minutes']:.1f} CPU minutes", flush=True)


def tables(file: Path) -> Iterator[str]:
    """Yield the lines of the tables: presets by tree, paired differences, and what a single seed would decide."""
    by_preset: dict[tuple[str, str], list[Trial]] = {}
    for (preset, tree, _), trial in sorted(finished(file).items(), key=lambda item: (item[0][1], item[0])):
        by_preset.setdefault((tree, preset), []).append(trial)
    figures = "image AUROC | small defects | above twin | F1 | false alarms: wanted | got | 95% of draws"
    yield f"| tree | preset | seeds | score | {figures} | minutes |"
    yield "|---" * 12 + "|"
    for (tree, preset), trials in by_preset.items():
        yield f"| {tree} | {preset} | {len(trials)} | {_row(trials)} |"
    yield ""
    yield "| tree | seeds of both | image AUROC, new minus old | small defects | above twin | F1 |"
    yield "|---|---|---|---|---|---|"
    for tree in dict.fromkeys(tree for tree, _ in by_preset):
        yield f"| {tree} | {_against_old(by_preset.get((tree, 'new'), []), by_preset.get((tree, 'old'), []))} |"
    yield ""
    yield "| tree | score | small defects by it | " + " | ".join(f"minus {_short(each)}" for each in COLUMNS) + " |"
    yield "|---|---|---|" + "---|" * len(COLUMNS)
    for (tree, preset), trials in by_preset.items():
        if preset == "new":
            yield f"| {tree} | {_score_row(trials)} |"
    yield ""
    yield "| tree | score, by each seed alone | small defects | least | label and mask agree | least |"
    yield "|---|---|---|---|---|---|"
    for (tree, preset), trials in by_preset.items():
        if preset == "new":
            yield f"| {tree} | {_single_row(trials)} |"


def _row(trials: Sequence[Trial]) -> str:
    used = used_score(trials)
    decided = [trial.decided(used) for trial in trials]
    alarms, nominal = (sum(sum(each[name] or 0 for name in names) for each in decided) for names in _ALARMS)
    low, high = wilson_interval(alarms, nominal)
    cells = [
        ("auto: " if used.is_made else "") + _short(used.column),
        _mean([trial.auroc(used.column) for trial in trials]),
        _mean([trial.auroc(used.column, small=True) for trial in trials]),
        _mean([trial.above_twin(used.column) for trial in trials]),
        _mean([each["f1"] for each in decided]),
        f"{trials[0].values['rate']:.0%}",
        f"{alarms / nominal:.1%} ({low:.1%} to {high:.1%})" if nominal else "no decision",
        "{:.1%} to {:.1%}".format(*_rates_of_draws(trials, selecting=used.is_made)),
        f"{np.mean([trial.values['cpu_minutes'] for trial in trials]):.1f}",
    ]
    return " | ".join(cells)


def _rates_of_draws(trials: Sequence[Trial], *, selecting: bool) -> tuple[float, float]:
    """Return the range of the mean rate over seeds in 95% of draws of all nominal images of a tree.

    Seeds share these images, so they are no new draws. Here each image has one score for all seeds, which differ in the
    images that they hold out: real trials, whose scores differ, too, lie closer together.
    """
    rate = trials[0].values["rate"]
    held_out = [_calibrating(trial, selecting=selecting) for trial in trials]
    pool = sorted(set.union(*held_out))
    tested = sum(
        each == ("test", 0) for each in zip(*(trials[0].values[name] for name in ("split", "label")), strict=True)
    )
    rng, rates = np.random.default_rng(0), []
    for _ in range(_DRAWS):
        drawn, test = dict(zip(pool, rng.random(len(pool)), strict=True)), np.sort(rng.random(tested))
        limits = [conformal_threshold(np.array([drawn[path] for path in paths]), rate) for paths in held_out]
        rates.append(np.mean(1 - np.searchsorted(test, limits, "right") / tested))
    low, high = np.quantile(rates, (0.025, 0.975))
    return float(low), float(high)


def _calibrating(trial: Trial, *, selecting: bool) -> set[str]:
    """Return the paths of the images that a trial's threshold is calibrated on."""
    if selecting:
        return calibrating_paths(trial.values, trial.values["rate"])
    return {path for path, held_out in zip(trial.values["path"], is_held_out(trial.values), strict=True) if held_out}


_DRAWS = 2000
_ALARMS = (("false_positives",), ("false_positives", "true_negatives"))


def _against_old(new: Sequence[Trial], old: Sequence[Trial]) -> str:
    """Return the differences of AUROCs over the seeds that both presets have."""
    pairs = [(one, other) for one in new for other in old if one.values["seed"] == other.values["seed"]]
    cells = [str(len(pairs))]
    first, second = (used_score(trials).column if trials else "" for trials in (new, old))
    for value in (Trial.auroc, partial(Trial.auroc, small=True), Trial.above_twin):
        found = [value(one, first) - value(other, second) for one, other in pairs]
        cells.append(_with_interval(summarize(found), "+.3f") if found else "-")
    used = [used_score(trials) if trials else ScoreChoice() for trials in (new, old)]
    both = [[each.decided(score)["f1"] for each, score in zip(pair, used, strict=True)] for pair in pairs]
    cells.append(_with_interval(summarize(one - other for one, other in both), "+.3f") if both else "-")
    return " | ".join(cells)


def _single_row(trials: Sequence[Trial]) -> str:
    """Return what each seed decides whose score is chosen on its own selection data, as with one seed in a file."""
    used = [used_score([trial]) for trial in trials]
    counts = Counter(each.column for each in used).most_common()
    small = [trial.auroc(each.column, small=True) for trial, each in zip(trials, used, strict=True)]
    agreement = [trial.decided(each)["test_agreement"] for trial, each in zip(trials, used, strict=True)]
    cells = [", ".join(f"{_short(column)} {count}" for column, count in counts), _mean(small), f"{min(small):.3f}"]
    return " | ".join([*cells, _mean(agreement), f"{np.nanmin(agreement):.3f}"])


def _score_row(trials: Sequence[Trial]) -> str:
    column = used_score(trials).column
    used = [trial.auroc(column, small=True) for trial in trials]
    cells = [_short(column), _mean(used)]
    for each in COLUMNS:
        others = [trial.auroc(each, small=True) for trial in trials]
        difference = summarize(one - other for one, other in zip(used, others, strict=True))
        cells.append("-" if each == column else _with_interval(difference, "+.3f"))
    return " | ".join(cells)


def _mean(values: Sequence[float]) -> str:
    return _with_interval(summarize(values), ".3f")


def _with_interval(found: Summary, form: str) -> str:
    """Return a mean, and half of its 95% interval where there are two values or more."""
    return f"{found.mean:{form}}" + ("" if math.isnan(found.high) else f" ± {found.high - found.mean:.3f}")


def _short(column: str) -> str:
    return column.removeprefix("score_").replace("top_0_1", "top 0.1%").replace("top_", "top ")


def select(folder: Path, overrides: Sequence[str], seed: int) -> None:
    """Print AUROCs of all and of small defects by image score, for the trees for choosing."""
    for tree in SELECTION:
        spec = specs(tree, folder, [*HELD_OUT, *overrides], seed + 1)[seed]
        trial = Trial(tree, trained(tree, spec, folder))
        found = [f"{_short(name)} {trial.auroc(name):.3f} / {trial.auroc(name, small=True):.3f}" for name in COLUMNS]
        print(f"{tree:7} {', '.join(found)}, {trial.values['cpu_minutes']:.1f} CPU minutes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["select", "prove", "keep", "tables"])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of `select`")
    parser.add_argument("--seeds", type=int, default=20, help="of `prove`")
    parser.add_argument("--seed", type=int, default=0, help="of `select`")
    parser.add_argument("--presets", nargs="+", choices=[*PRESETS], default=[*PRESETS])
    parser.add_argument("--trees", nargs="+", choices=PROOF, default=PROOF)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/own-images"), help="where the trees are written")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    file = options.folder / "trials.jsonl"
    torch.set_num_threads(1)
    if options.command == "select":
        select(options.folder, options.overrides, options.seed)
    elif options.command == "prove":
        prove(options.folder, file, options.presets, options.trees, options.seeds)
    elif options.command == "keep":
        keep(file)
    print("\n".join(tables(file)) if options.command != "select" else "")


if __name__ == "__main__":
    main()
