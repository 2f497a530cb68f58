"""What Ray has no option for: which processes start with it on one machine, and what workers import and inherit.

Where a new version of Ray has changed what is replaced here, everything works as Ray has it, and takes longer.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from fcdd_sweep.runners.trial_thread import WORKER_VARIABLES


class EarlyWorkers(NamedTuple):
    """Workers that start with Ray, for the first trials.

    Attributes:
        modules: what every worker imports when it starts.
        number: how many start; Ray's own choice is one for each core.
    """

    modules: tuple[str, ...] = ()
    number: int = 0


NO_EARLY_WORKERS = EarlyWorkers()
_NOT_NEEDED = ("start_monitor", "start_log_monitor", "start_api_server")
"""Methods of Ray's node that start a process each, of a second of CPU time: the autoscaler, which has no machine to
add, the forwarding of logs, which go nowhere, and the dashboard's server, which serves no dashboard."""
_PRESTARTED = "--num_prestart_python_workers="


@contextlib.contextmanager
def few_processes(early_workers: int) -> Iterator[None]:
    """While entered, have Ray start no process on this machine that a sweep does not use, and this many workers."""
    from ray._private import services
    from ray._private.node import Node

    def skip(node: Any, **_: Any) -> None:
        node._webui_url = None  # which `start_api_server` sets

    start = services.start_ray_process

    def start_process(command: list[str], *arguments: Any, **keywords: Any) -> Any:
        count = f"{_PRESTARTED}{early_workers}"
        return start([count if word.startswith(_PRESTARTED) else word for word in command], *arguments, **keywords)

    originals = {name: getattr(Node, name) for name in _NOT_NEEDED if hasattr(Node, name)}
    for name in originals:
        setattr(Node, name, skip)
    services.start_ray_process = start_process
    try:
        yield
    finally:
        services.start_ray_process = start
        for name, method in originals.items():
            setattr(Node, name, method)


@contextlib.contextmanager
def plain_workers() -> Iterator[None]:
    """While entered, have Tune give its workers no environment of their own, or the early ones would not be theirs.

    On one machine they inherit the driver's variables, of which Tune's are a part.
    """
    import ray
    from ray.tune.execution.class_cache import _ActorClassCache

    def get(cache: Any, trainable: Any) -> Any:
        if trainable not in cache._cache:
            cache._cache[trainable] = ray.remote(trainable)
        return cache._cache[trainable]

    original = _ActorClassCache.get
    _ActorClassCache.get = get
    try:
        yield
    finally:
        _ActorClassCache.get = original


@contextlib.contextmanager
def workers_of_a_cluster() -> Iterator[None]:
    """While entered, have Tune start workers on all machines with `WORKER_VARIABLES`, or the driver's own of these."""
    from ray.tune.execution import class_cache

    original = class_cache.DEFAULT_ENV_VARS
    own = {name: os.environ.get(name, value) for name, value in WORKER_VARIABLES.items()}
    class_cache.DEFAULT_ENV_VARS = {**original, **own}
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS = original
