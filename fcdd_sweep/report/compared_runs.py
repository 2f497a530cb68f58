"""What a comparison sets beside each other: configs of one or several runs, joined by class and seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fcdd_sweep.report.common_values import ComparedEntry
from fcdd_sweep.report.run_files import PLANNED, Run, Trial, status_counts
from fcdd_sweep.results.documents import TrialStatus

_DIVERGED = "training diverged"


@dataclass(frozen=True)
class ComparedConfig:
    """A config of a run, as one column of a comparison.

    Attributes:
        title: at the head of its column.
        run: the run, with the trials whose test metrics may be shown.
        config: its name in the run.
    """

    title: str
    run: Run
    config: str

    @property
    def trials(self) -> list[Trial]:
        """All planned trials."""
        return self.run.of(self.config)

    def trial(self, normal_class: str, seed: int) -> Trial | None:
        """Return the trial of a class and seed; None where none is planned."""
        return next((each for each in self.run.of(self.config, normal_class) if each.seed == seed), None)

    @property
    def shortfall(self) -> str:
        """Why it is not ranked: `incomplete: 1 of 3 trials done, 2 diverged`; empty where nothing is missing."""
        counts = status_counts(self.trials)
        if counts[TrialStatus.DONE] == counts[PLANNED]:
            return ""
        diverged = sum(_DIVERGED in trial.error for trial in self.trials)
        others = {"diverged": diverged, "failed": counts[TrialStatus.FAILED] - diverged}
        others["missing"] = counts[TrialStatus.MISSING]
        absent = ", ".join(f"{count} {state}" for state, count in others.items() if count)
        return f"incomplete: {counts[TrialStatus.DONE]} of {counts[PLANNED]} trials done, {absent}"


@dataclass(frozen=True)
class ComparedGroup:
    """Columns that stand beside each other.

    Attributes:
        title: above them; empty where there is one group.
        members: by name, in the order of the columns.
    """

    title: str
    members: Mapping[str, ComparedConfig]

    @property
    def classes(self) -> list[str]:
        """The normal classes of all members, in the order of the first that has them."""
        return list(dict.fromkeys(name for each in self.members.values() for name in each.run.classes(each.config)))

    @property
    def common_classes(self) -> list[str]:
        """The normal classes that all members have."""
        return [name for name in self.classes if all(each.run.of(each.config, name) for each in self.members.values())]

    def seeds(self, normal_class: str) -> list[int]:
        """Return the seeds of a class in any member."""
        return sorted(
            {trial.seed for each in self.members.values() for trial in each.run.of(each.config, normal_class)}
        )

    def entries(self) -> list[ComparedEntry]:
        """Return the members for `comparisons.comparison_rows`, by name and title of the group."""
        return [
            ComparedEntry(" ".join(filter(None, [name, self.title])), tuple(each.trials))
            for name, each in self.members.items()
        ]


def group_of_runs(runs: Sequence[Run]) -> ComparedGroup:
    """Return all configs of several runs as one group; runs of equal names are named by their folders."""
    names = [run_title(run) for run in runs]
    counts = Counter(names)
    members: dict[str, ComparedConfig] = {}
    for run, name in zip(runs, names, strict=True):
        own = name if counts[name] == 1 else run.path.absolute().as_posix()
        for config in run.configs:
            title = " ".join(filter(None, [own, config]))
            members[title] = ComparedConfig(title, run, config)
    return ComparedGroup("", members)


def run_title(run: Run) -> str:
    """Return the name of a run's folder; of baselines, whose folder always has the same, with that of their run."""
    path = run.path.absolute()
    return f"{path.parent.name}/{path.name}" if path.name == "baselines" else path.name
