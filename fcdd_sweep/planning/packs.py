"""Which trials can be trained as one program. Needs no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from fcdd_sweep.config.schema import Resources, Settings
from fcdd_sweep.config.text import count_noun
from fcdd_sweep.config.trial_spec import NOT_IDENTITY, TrialSpec, digest
from fcdd_sweep.networks.registry import NETWORKS

_MAY_DIFFER = ("training.learning_rate", "training.momentum", "training.weight_decay", "training.schedule")
"""Numbers of a step; everything else gives a step its shape, or the images that it works on."""
_ONLINE = ("anomalies.limit", "anomalies.probability")
"""What only draws differently as long as anomalies are made while training."""


def pack_size(resources: Resources) -> int:
    """Return how many trials are trained together: `resources.pack`, or what `auto` means.

    That is 1: on a CPU trials gain nothing by sharing a program, and what they gain on a GPU has not been measured.
    """
    return 1 if resources.pack == "auto" else resources.pack


def pack_key(spec: TrialSpec) -> str | None:
    """Return a text that trials have in common which can be trained together; None for one that is trained alone."""
    return _key(spec.settings.model_dump_json(), spec.normal_class)


def front_key(spec: TrialSpec) -> str | None:
    """Return a text that trials of a pack have in common whose frozen front is computed once; None without a front.

    They have one seed and all that decides about their batches. Training compares the batches themselves.
    """
    return _front_key(spec.settings.model_dump_json(), spec.normal_class, spec.seed)


@lru_cache(maxsize=4096)
def _front_key(settings_json: str, normal_class: str, seed: int) -> str | None:
    settings = Settings.model_validate_json(settings_json)
    name = settings.network.name
    if name is None or not NETWORKS[name].frozen or alone_reason(settings):
        return None
    return digest([_common(settings, _MAY_DIFFER), normal_class, seed])


@lru_cache(maxsize=4096)
def _key(settings_json: str, normal_class: str) -> str | None:
    settings = Settings.model_validate_json(settings_json)
    if alone_reason(settings):
        return None
    return digest([_common(settings, (*_MAY_DIFFER, *(_ONLINE if settings.anomalies.online else ()))), normal_class])


def _common(settings: Settings, may_differ: Sequence[str]) -> dict[str, Any]:
    """Return settings as plain values without those that may differ, and those that are no part of training."""
    plain = settings.model_dump(mode="json")
    for path in (*may_differ, *NOT_IDENTITY):
        *parents, last = path.split(".")
        section: Any = plain
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if isinstance(section, dict) and path != "dataset.root":
            section.pop(last, None)
    return plain


def alone_reason(settings: Settings) -> str:
    """Return why a trial is trained alone whatever `resources.pack` is; empty where it need not be."""
    if settings.evaluation.calibration == "cross":
        return "evaluation.calibration cross trains several models one after another"
    return ""


def pack_text(resources: Resources, specs: Sequence[TrialSpec]) -> str:
    """Return what becomes of trials by `resources.pack`, for the plan; empty where each is trained alone by default."""
    size = pack_size(resources)
    if size == 1:
        return ""
    keys = [pack_key(spec) for spec in specs]
    groups = Counter(key for key in keys if key is not None)
    packs = sum(-(-count // size) for count in groups.values() if count > 1)
    together = sum(count for count in groups.values() if count > 1)
    text = f"{count_noun(together, 'trial')} in {count_noun(packs, 'pack')} of at most {size}"
    fronts = Counter(key for spec in specs if (key := front_key(spec)) is not None)
    if any(count > 1 for count in fronts.values()):
        text += ", where configs of one class and seed compute their frozen layers once"
    alone = len(specs) - together
    reasons = {reason for spec in specs if (reason := alone_reason(spec.settings))}
    why = "; ".join(reasons) or "no other has its class, network, images and length of training"
    return f"{text}; {count_noun(alone, 'trial')} alone ({why})" if alone else text
