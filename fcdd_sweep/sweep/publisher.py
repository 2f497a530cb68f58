"""The sink of a runner: results into the ledger, and each event on to all who watch the sweep."""

from __future__ import annotations

from dataclasses import dataclass, field

from fcdd_sweep.config.trial_spec import TrialSpec
from fcdd_sweep.report.leaf_pictures import LeafPictures
from fcdd_sweep.results.documents import TrialStatus
from fcdd_sweep.results.lease import Held
from fcdd_sweep.runners.events import AttemptRetried, Event, EventSink, Message, NullSink, TrialEnded
from fcdd_sweep.runners.failures import POLICIES
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.ledger import FailureLog, Ledger, not_entered


@dataclass(frozen=True)
class Publisher:
    """The sink of a runner: enters results into the ledger, then passes each event on.

    Once another driver has taken the run over, nothing is written any more: the run is the other's.

    Attributes:
        ledger, failures: where results and failed attempts are entered.
        display: gets the events first: the display, `progress.json` and the trackers.
        held: whether the run is still this driver's.
        evaluator: gets the events last; the search, whose next trials depend on them.
        pictures: draws finished leaves; None where nothing does.
    """

    ledger: Ledger
    display: EventSink
    failures: FailureLog
    held: Held = field(default_factory=Held)
    evaluator: EventSink = field(default_factory=NullSink)
    pictures: LeafPictures | None = None

    def handle(self, event: Event) -> None:
        shown = True
        match event:
            case AttemptRetried(spec, result, decision):
                self._log(spec, result, decision)
                self.ledger.failures[spec.trial_id] += POLICIES[result.kind or "error"].counts
            case TrialEnded(spec, result):
                # a worker that was lost after its trial was published changes nothing
                shown = not self.held.lost and not self.ledger.done(spec.trial_id)
                if shown:
                    self._enter(spec, result)
        if shown:
            self.display.handle(event)
        self.evaluator.handle(event)
        if self.pictures is not None:
            self.pictures.start_processes()

    def _enter(self, spec: TrialSpec, result: TrialResult) -> None:
        try:
            if result.status == TrialStatus.DONE:
                self.ledger.publish(spec, result)
                if self.pictures is not None:
                    self.pictures.add([self.ledger.rows[spec.trial_id]["leaf"]])
            elif result.status == TrialStatus.FAILED:
                self.ledger.fail(spec, result)
                self._log(spec, result, "not retried in this start")
        except OSError as error:  # a full disk, say: the attempt stays, and the next start publishes it
            self._report(not_entered(spec, error))

    def _log(self, spec: TrialSpec, result: TrialResult, decision: str) -> None:
        if self.held.lost:
            return
        try:
            self.failures.add(spec, result, decision)
        except OSError as error:
            self._report(f"could not record the failure of {spec.leaf}: {error}")

    def _report(self, text: str) -> None:
        self.display.handle(Message(text))

    def save(self) -> None:
        """Write the ledger's index, if the run is still this driver's."""
        if not self.held.lost:
            self.ledger.save()
