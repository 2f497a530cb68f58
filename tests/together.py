"""Trials in a pack, each in its thread."""

from __future__ import annotations

import threading

from fcdd_sweep.training.pack import Pack
from fcdd_sweep.training.trainer import NO_HOOKS, train


def train_together(specs, data, hooks=None, states=None):
    """Train in a pack, with hooks by seed or trial and states to resume from by trial; return each trial's result or
    error, and the pack."""
    pack, outcomes = Pack(len(specs)), {}

    def run(each):
        with pack.entered():
            try:
                chosen = (hooks or {}).get(each.trial_id) or (hooks or {}).get(each.seed, NO_HOOKS)
                outcomes[each.trial_id] = train(each, data, chosen, (states or {}).get(each.trial_id))
            except Exception as error:
                outcomes[each.trial_id] = error

    threads = [threading.Thread(target=run, args=(each,)) for each in specs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return [outcomes[each.trial_id] for each in specs], pack
