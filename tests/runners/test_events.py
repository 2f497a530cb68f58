"""Events of a sweep: who gets them, in which order, and what a sink that fails does."""

import pytest

from fcdd_sweep.runners.events import EventFanout, Message, NullSink, SweepStopped, TrialStarted, reporter
from tests.events import Recorder
from tests.specs import spec


class Broken:
    """A sink that fails at the second event."""

    def __init__(self):
        self.events = []

    def handle(self, event):
        self.events.append(event)
        if len(self.events) == 2:
            raise RuntimeError("no view")


def test_every_sink_gets_every_event_the_first_one_first():
    order = []

    class Ordered:
        def __init__(self, name):
            self.name = name

        def handle(self, event):
            order.append((self.name, event))

    fanout = EventFanout(Ordered("first"), [Ordered("second"), Ordered("third")])
    events = [TrialStarted(spec()), Message("text"), SweepStopped()]
    for event in events:
        fanout.handle(event)
    assert order == [(name, event) for event in events for name in ("first", "second", "third")]


def test_a_sink_that_fails_is_reported_once_and_dropped_and_the_others_continue():
    first, broken, last = Recorder(), Broken(), Recorder()
    fanout = EventFanout(first, [broken, last])
    events = [TrialStarted(spec(seed=seed)) for seed in range(4)]
    for event in events:
        fanout.handle(event)
    assert last.events == events and broken.events == events[:2]
    failure = Message("Broken failed and gets no further events: no view")
    assert first.events == [*events[:2], failure, *events[2:]]


def test_an_error_of_the_first_sink_is_not_hidden():
    broken, other = Broken(), Recorder()
    fanout = EventFanout(broken, [other])
    fanout.handle(SweepStopped())
    with pytest.raises(RuntimeError, match="no view"):
        fanout.handle(SweepStopped())
    assert other.events == [SweepStopped()]


def test_a_reporter_sends_messages():
    recorder = Recorder()
    reporter(recorder)("decoding")
    reporter(NullSink())("no one sees this")
    assert recorder.events == [Message("decoding")]
