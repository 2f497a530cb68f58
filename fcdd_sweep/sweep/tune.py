"""Trials on Ray Tune, which places them, gives them resources, hears their epochs and starts lost ones again.

Every start gets a fresh Tuner with what is missing: Tune is not the memory of the sweep. Its own files live in a
scratch folder that is gone afterwards, and nothing of it is left running.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Faults, Resources
from fcdd_sweep.config.trial import TrialSpec
from fcdd_sweep.results import files, tree
from fcdd_sweep.results.attempts import claim_attempt
from fcdd_sweep.results.place import Place
from fcdd_sweep.sweep.monitor import Monitor, Work
from fcdd_sweep.sweep.signals import terminated_like_interrupted, undisturbed
from fcdd_sweep.sweep.trial import TrialResult
from fcdd_sweep.training.outcome import EpochRecord

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "600",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
}
"""No statistics sent, no folder changed, no logger of Tune's, Ctrl-C ours; snapshots that nobody reads are rare."""

logger = logging.getLogger("fcdd_sweep.tune")

_TOKEN = secrets.token_hex(32)
"""Password of our own Ray, kept out of the user's home folder. One a process: Ray's client remembers the first."""

_TELL_EVERY_S = 1.0
"""A trial tells its epochs at most this often: each telling waits for the driver."""


@dataclass(frozen=True)
class TuneRunner:
    """See `sweep.monitor.Runner`.

    Attributes:
        resources: what a trial gets.
        faults: how often a trial whose worker was lost is started again.
    """

    resources: Resources
    faults: Faults = field(default_factory=Faults)

    def __call__(self, specs: Sequence[TrialSpec], run_dir: Place, monitor: Monitor, work: Work) -> None:
        """Raises:
        InputError: the machine has fewer CPU cores than one trial asks for, or no GPU where one is asked for.
        KeyboardInterrupt: Ctrl-C or SIGTERM; workers are gone by then.
        """
        with _local_ray() as scratch:
            self._run(specs, run_dir, monitor, work, scratch)

    def _run(self, specs: Sequence[TrialSpec], run_dir: Place, monitor: Monitor, work: Work, scratch: Path) -> None:
        from ray import tune

        share = self._share(max(spec.settings.training.threads for spec in specs))
        trainable = tune.with_parameters(_train, specs=tuple(specs), run_dir=run_dir, work=work)
        tuner = tune.Tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory([share])),
            param_space={"number": tune.grid_search(list(range(len(specs))))},
            tune_config=tune.TuneConfig(
                reuse_actors=True, trial_dirname_creator=lambda trial: str(trial.config["number"])
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(scratch / "tune"),
                verbose=0,
                log_to_file=False,
                failure_config=tune.FailureConfig(max_failures=self.faults.retries),
                callbacks=[_listener(specs, run_dir, monitor)],
            ),
        )
        tuner.fit()

    def _share(self, threads: int) -> dict[str, float]:
        """What one trial takes of the machine; refuses what would wait for ever. Cores are as many as threads."""
        import ray

        there = ray.cluster_resources()
        cpus = float(threads if self.resources.cpus == "auto" else self.resources.cpus)
        if cpus > there.get("CPU", 0):
            raise InputError(
                Problem(
                    "resources.cpus",
                    f"a trial asks for {cpus:g} CPU cores, this machine has {there.get('CPU', 0):g}",
                    f"at most {there.get('CPU', 0):g}",
                    "Lower resources.cpus, or training.threads when it is 'auto'",
                )
            )
        gpus = there.get("GPU", 0)
        if self.resources.device == "cuda" and not gpus:
            raise InputError(Problem("resources.device", "found 'cuda', but Ray sees no GPU here", "auto, cpu"))
        if gpus and self.resources.device in ("auto", "cuda"):
            return {"CPU": cpus, "GPU": 1 / self.resources.trials_per_gpu}
        return {"CPU": cpus}


@contextlib.contextmanager
def _local_ray() -> Iterator[Path]:
    """A Ray of our own on this machine, with its files in a scratch folder; all of it is gone at the end."""
    scratch = Path(tempfile.mkdtemp(prefix="fcdd-ray-"))
    with _environment({**_QUIET, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _TOKEN}):
        import ray

        with _quiet("ray.tune", "ray.air"):
            try:
                ray.init(
                    address="local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    _temp_dir=str(scratch),
                )
                with terminated_like_interrupted():  # Ray has just set a handler of its own
                    yield scratch
            finally:
                with undisturbed():
                    ray.shutdown()
                    shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """What Ray would log of a lost worker, the monitor and the ledger tell."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Sets variables; afterwards all of the environment is as before, whatever Ray added to it."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass
class _Telling:
    """Tells Tune of epochs, now and then."""

    told: float = field(default_factory=time.monotonic)

    def epoch_done(self, record: EpochRecord, epochs: int) -> None:
        from ray import tune

        if time.monotonic() - self.told >= _TELL_EVERY_S:
            tune.report({"epoch": record.epoch, "epochs": epochs, "loss": record.loss})
            self.told = time.monotonic()

    def stop_asked(self) -> bool:
        return False


def _train(config: dict[str, Any], specs: tuple[TrialSpec, ...], run_dir: Place, work: Work) -> None:
    """What runs in a worker. Failures of a trial are results; only a lost worker is a failure for Tune."""
    from ray import tune

    result = work(specs[config["number"]], run_dir, _Telling())
    tune.report({"result": asdict(result)})


def _listener(specs: Sequence[TrialSpec], run_dir: Place, monitor: Monitor) -> Any:
    """A Tune callback that tells the monitor. Made here since its base class needs Ray."""
    from ray.tune import Callback

    class Listener(Callback):
        def __reduce__(self) -> tuple[type, tuple[()]]:
            """Tune keeps a copy of its callbacks for restoring, which is never done; a monitor may hold a terminal."""
            return Callback, ()

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            monitor.started(specs[trial.config["number"]])

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            spec = specs[trial.config["number"]]
            if "result" in result:
                monitor.ended(spec, TrialResult(**result["result"]))
            elif "epoch" in result:
                monitor.epoch_done(spec, result["epoch"], result["epochs"], result["loss"])

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            spec = specs[trial.config["number"]]
            monitor.ended(spec, _lost(spec, run_dir, trial))

    return Listener()


def _lost(spec: TrialSpec, run_dir: Place, trial: Any) -> TrialResult:
    """A trial whose workers were lost more often than `faults.retries` allows."""
    number = 0
    try:
        number, attempt_dir = claim_attempt(run_dir, spec.trial_id)
        cause = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else "Ray gave no cause"
        files.write_text(attempt_dir / tree.ERROR, cause)
    except OSError as unwritten:  # a full disk must not end the sweep
        logger.warning("could not keep the evidence of trial %s: %s", spec.trial_id, unwritten)
    reason = f"worker lost {trial.num_failures} times; {tree.ERROR} of attempt {number} says how"
    return TrialResult(spec.trial_id, "failed", number, reason)
