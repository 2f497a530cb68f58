"""A sink for tests that records the events of a sweep."""

from __future__ import annotations

import os
import signal
import threading

from fcdd_sweep.runners.events import AttemptRetried, EpochDone, Message, SweepStarted, TrialEnded, TrialStarted


class Recorder:
    """Records every event.

    Attributes:
        events: all of them, in order.
        stop_after: Ctrl-C is pressed when so many trials have ended.
        console: a lock, as a display has one: a sink cannot be pickled.
    """

    def __init__(self, stop_after=None):
        self.events, self.stop_after = [], stop_after
        self.console = threading.RLock()

    def handle(self, event):
        self.events.append(event)
        if isinstance(event, TrialEnded) and len(self.results) == self.stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def counts(self):
        """Planned, kept and missing trials of the first `SweepStarted`; None before it."""
        return next(((each.planned, each.kept, each.missing) for each in self.of(SweepStarted)), None)

    @property
    def messages(self):
        return [event.text for event in self.of(Message)]

    @property
    def started_ids(self):
        return [event.spec.trial_id for event in self.of(TrialStarted)]

    @property
    def results(self):
        """Leaf and status of every trial that ended."""
        return [(event.spec.leaf, event.result.status) for event in self.of(TrialEnded)]

    @property
    def ended(self):
        """Results by trial id; a trial that ended twice is an error."""
        found = {event.spec.trial_id: event.result for event in self.of(TrialEnded)}
        assert len(found) == len(self.of(TrialEnded))
        return found

    @property
    def retried(self):
        """Trial id, result and decision of every attempt that was repeated."""
        return [(event.spec.trial_id, event.result, event.decision) for event in self.of(AttemptRetried)]

    @property
    def epochs(self):
        return [(event.spec.trial_id, event.epoch, event.epochs, event.loss) for event in self.of(EpochDone)]
