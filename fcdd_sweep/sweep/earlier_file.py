"""What the experiment file of an earlier start says that this start changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fcdd_sweep.config.schema import Experiment
from fcdd_sweep.config.text import value_text
from fcdd_sweep.report.experiment_file import ExperimentFile
from fcdd_sweep.results.storage import Location


def moved_from(run_dir: Location, experiment: Experiment) -> Path | None:
    """Return `dataset.root` of the run's file, if that is another one than the experiment's."""
    dataset = ExperimentFile.of_run(run_dir).tree.get("dataset")
    root = dataset.get("root") if isinstance(dataset, dict) else None
    now = experiment.dataset.root
    return None if root is None or now is None or Path(root).resolve() == now.resolve() else Path(root)


def changed_decisions(run_dir: Location, experiment: Experiment) -> Iterator[str]:
    """Yield a sentence on each key that decides about images and that this start changes without training."""
    earlier = ExperimentFile.of_run(run_dir)
    if earlier.problem:
        return
    for name in ("image_score", "false_alarm_rate"):
        before, now = (value_text(getattr(each.evaluation, name)) for each in (earlier, experiment))
        if before != now:
            yield (
                f"evaluation.{name} is {now} here and was {before} in the run's experiment.yaml: decisions are made by "
                f"{now} from now on. To keep {before}, write it into the file that you start."
            )
