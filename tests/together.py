"""Trials in a pack, each in its thread."""

from __future__ import annotations

import threading

from fcdd_sweep.training.pack import Pack
from fcdd_sweep.training.trainer import NO_HOOKS, train


def train_together(specs, data, hooks=None):
    """Train in a pack, with hooks by seed; return each trial's result or error, and the pack."""
    pack, outcomes = Pack(len(specs)), {}

    def run(each):
        with pack.entered():
            try:
                outcomes[each.trial_id] = train(each, data, (hooks or {}).get(each.seed, NO_HOOKS))
            except Exception as error:
                outcomes[each.trial_id] = error

    threads = [threading.Thread(target=run, args=(each,)) for each in specs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return [outcomes[each.trial_id] for each in specs], pack
