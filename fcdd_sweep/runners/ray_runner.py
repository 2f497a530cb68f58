"""The runner on Ray Tune, which places trials, gives them resources, and reports their epochs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fcdd_sweep.config.fields import seconds
from fcdd_sweep.config.schema import Faults, Resources
from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.planning.gpu_memory import card_memory, sharing_of
from fcdd_sweep.planning.packs import pack_size
from fcdd_sweep.results.storage import Location
from fcdd_sweep.runners.events import EventSink, Report, Work, reporter
from fcdd_sweep.runners.queue import JobQueue, Packing, Trials, no_failure_limit
from fcdd_sweep.runners.ray_session import connected
from fcdd_sweep.runners.stop_signal import StopSignal

if TYPE_CHECKING:
    from ray import tune

    from fcdd_sweep.runners.ray_driver import JobSearcher, TuneListener
    from fcdd_sweep.runners.ray_resources import TrialResources
    from fcdd_sweep.runners.ray_worker import WorkerSettings


WAVE_JOBS = 1000
"""Jobs that one Tuner gets."""
_MIN_PENDING, _MAX_PENDING = 32, 64
"""Jobs that wait for a machine: at least on a cluster, which grows with what waits, and at most."""
_REPORTS_PER_S = 50.0
"""Reports that the driver receives at most, all running trials together."""
_STOP_S = 60.0
"""Seconds that running trials have to save themselves when the sweep stops."""


@dataclass(frozen=True)
class RayRunner:
    """A `Runner` on Ray Tune.

    Attributes:
        resources: what a trial gets.
        faults: how often a lost trial is tried again, and when it counts as hung.
        address: of a Ray cluster; None starts a Ray on this machine that ends with the sweep.
        wave_jobs: jobs that one Tuner gets.
        failures_left: see `JobQueue`.
        scratch: the scratch folder of a Ray that is connected already, see `ray_session.connected`.
    """

    resources: Resources
    faults: Faults = field(default_factory=Faults)
    address: str | None = None
    wave_jobs: int = WAVE_JOBS
    failures_left: Callable[[str], float] = no_failure_limit
    scratch: Path | None = None

    def __call__(self, trials: Trials, run_dir: Location, sink: EventSink, work: Work, stop: StopSignal) -> None:
        """Run the trials.

        Raises:
            InputError: no machine has as many CPU cores as a trial asks for, or a GPU where one is asked for; machines
                of a cluster cannot run trials, before the first one, or later when no others are left.
            RunnerLostError: Ray has died on this machine.
            KeyboardInterrupt: trials took too long to save themselves; their workers are gone.
        """
        queue = JobQueue(trials, self.faults.retries, failures_left=self.failures_left)
        ray = connected(self.address, reporter(sink)) if self.scratch is None else nullcontext(self.scratch)
        with ray as scratch, stop.listening():
            # imported here because Ray reads its environment, which `connected` sets, when it is first imported
            from fcdd_sweep.runners.node_check import WithGpu
            from fcdd_sweep.runners.ray_driver import JobSearcher, Patience, TuneListener, Wave
            from fcdd_sweep.runners.ray_losses import all_losses_known, watched_raylet
            from fcdd_sweep.runners.ray_nodes import checked_nodes
            from fcdd_sweep.runners.ray_resources import TrialResources
            from fcdd_sweep.runners.ray_start import plain_workers, workers_of_a_cluster

            examples, on_cluster = queue.source.examples, self.address is not None
            threads = max(spec.settings.training.threads for spec in examples)
            sharing = partial(_trials_sharing, examples, reporter(sink), on_cluster=on_cluster)
            resources = TrialResources.of_cluster(self.resources, threads, sharing, may_grow=on_cluster)
            queue.source.begin(resources.slots)
            if self.resources.device == "auto":
                reporter(sink)(resources.device_text)
            pending = max(resources.slots, _MIN_PENDING if on_cluster else 1)
            os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(min(pending, _MAX_PENDING))
            with checked_nodes(run_dir, examples, resources, reporter(sink), on_cluster=on_cluster) as nodes:
                if resources.trials_per_gpu:
                    work = WithGpu(work, "node_unfit" if nodes.has_others else "gpu_failed")
                settings = self._worker_settings(run_dir, nodes.with_check(work), resources)
                patience = Patience(settings.stalled_after_s + 10 * settings.report_every_s, _STOP_S)
                packing = Packing(pack_size(self.resources))
                workers = workers_of_a_cluster() if on_cluster else plain_workers()
                with workers, all_losses_known(), watched_raylet() as require_ray:
                    while not queue.empty:
                        wave = Wave(queue, self.wave_jobs, nodes, packing)
                        listener = TuneListener(wave, sink, stop, patience, require_ray)
                        _tuner(settings, JobSearcher(wave, stop), listener, resources, scratch).fit()

    def _worker_settings(self, run_dir: Location, work: Work, resources: TrialResources) -> WorkerSettings:
        from fcdd_sweep.runners.ray_worker import WorkerSettings

        return WorkerSettings(
            run_dir,
            work,
            report_every_s=max(1.0, resources.slots / _REPORTS_PER_S),
            stalled_after_s=seconds(self.faults.progress_timeout),
            hide_gpus=not resources.trials_per_gpu,
            trials_per_gpu=resources.trials_per_gpu,
        )


def _trials_sharing(examples: Sequence[TrialSpec], report: Report, *, on_cluster: bool) -> int:
    """Return what `resources.trials_per_gpu: auto` means for trials like these on the GPUs that there are; say why."""
    from fcdd_sweep.runners.ray_nodes import card_memory_of_nodes

    card = card_memory_of_nodes() if on_cluster else card_memory()
    sharing = sharing_of([spec.settings for spec in examples], card)
    report(f"trials that share a GPU: {sharing.trials}, since {sharing.reason}")
    return sharing.trials


def _tuner(
    settings: WorkerSettings, jobs: JobSearcher, listener: TuneListener, resources: TrialResources, scratch: Path
) -> tune.Tuner:
    from ray import tune

    from fcdd_sweep.runners.ray_worker import Worker

    return tune.Tuner(
        tune.with_resources(
            tune.with_parameters(Worker, settings=settings),
            lambda config: resources.placement(config["shares"], config["avoided"]),
        ),
        tune_config=tune.TuneConfig(
            search_alg=jobs,
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch / "tune"),
            verbose=0,
            progress_reporter=tune.CLIReporter(),  # silent at this level; Tune's own for notebooks clears our display
            log_to_file=False,
            callbacks=[listener],
        ),
    )
