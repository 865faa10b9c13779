"""What a fresh read of a run means, given what was sent for it: pure decisions.

A cancel that was accepted is a request, not a fact; one that was refused or lost may have taken effect all the same.
So only a read of the run decides.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prefect_extend_ai.errors import (
    ExtendAccountError,
    ExtendAPIError,
    ExtendError,
    ExtendNotFoundError,
    ExtendRefusedError,
)
from prefect_extend_ai.runs import CANCELLED, Run, RunKind
from prefect_extend_ai.sweep.report import Outcome

__all__ = [
    "MAX_ATTEMPTS",
    "REFUSAL_READS",
    "CancelHistory",
    "CancelResponse",
    "Step",
    "ended",
    "ended_before",
    "may_have_ended_before",
    "next_step",
    "response_to",
    "went_on",
]

MAX_ATTEMPTS = 4
"""Most cancels for one run, each after a read that said PROCESSING and stale."""

REFUSAL_READS = 3
"""Reads in a row that make a refusal, or a 404, final: a read may lag behind, and a gateway may misroute."""

CANCELLING = "CANCELLING"
"""Neither in progress nor an end: a cancel is under way."""

CLOCK_GRAIN = timedelta(seconds=2)
"""HTTP dates are cut to whole seconds, and the API's servers may differ by some more."""

NO_OP_KINDS = frozenset({RunKind.VERIFY})
"""Kinds whose cancel is accepted for a run that has ended, and does nothing (vendor's page)."""


class CancelResponse(enum.Enum):
    """The response to a cancel."""

    ACCEPTED = enum.auto()
    REFUSED = enum.auto()
    MISSING = enum.auto()
    """404: from Extend, or from a gateway that misroutes."""
    LOST = enum.auto()
    """No response, a 5xx or an unexpected one: the cancel may or may not have taken effect."""


class Step(enum.Enum):
    """What to do next with a run that has not ended."""

    CANCEL = enum.auto()
    WAIT = enum.auto()
    AGAIN = enum.auto()
    """Nothing was sent: begin again at once."""


@dataclass(slots=True)
class CancelHistory:
    """What was sent for one run so far, and what came back."""

    attempts: int = 0
    """Cancels that were sent, without those that were throttled (429): they were not carried out."""
    last_response: CancelResponse | None = None
    may_have_taken_effect: bool = False
    """Whether a cancel was accepted, or its response was lost."""
    reads_since: int = 0
    """Reads that found the run not ended since the last cancel."""
    missing_reads: int = 0
    """Reads in a row with the response 404."""
    responses: list[str] = field(default_factory=list)
    """The response to each cancel: a status, `accepted` or `none`."""
    sent_at: datetime | None = None
    """When the first cancel was sent, at the earliest, by the API's clock; None where that is not known."""
    changed_at: datetime | None = None
    """When the run had last changed, by the check before the first cancel."""
    problems: list[str] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)

    @property
    def was_sent(self) -> bool:
        """Whether any cancel was sent."""
        return self.attempts > 0 or bool(self.responses)

    @property
    def may_send(self) -> bool:
        """Whether another cancel may be sent, if a check says so."""
        is_undecided = self.last_response in (None, CancelResponse.MISSING, CancelResponse.LOST)
        return is_undecided and self.attempts < MAX_ATTEMPTS

    @property
    def only_refused(self) -> bool:
        """Whether cancels were sent, and each response says that Extend did not accept it."""
        return self.attempts > 0 and not self.may_have_taken_effect and not self.may_send

    def on_accepted(self, request_id: str | None, sent_at: datetime | None) -> None:
        """A cancel was accepted; Extend's support finds it by `request_id`."""
        if request_id:
            self.request_ids.append(request_id)
        if not self.attempts:
            self.sent_at = sent_at
        self.on_sent(CancelResponse.ACCEPTED, "accepted")

    def on_sent(self, response: CancelResponse, words: str) -> None:
        """A cancel was sent; `words` is its response for the report."""
        self.attempts += 1
        self.responses.append(words)
        self.reads_since = 0
        self.last_response = response
        self.may_have_taken_effect |= response in (CancelResponse.ACCEPTED, CancelResponse.LOST)

    def on_read(self, run: Run) -> None:
        """A read found the run."""
        self.missing_reads = 0
        if self.attempts:
            self.reads_since += 1
        else:
            self.changed_at = run.updated_at

    def on_error(self, error: ExtendError) -> None:
        """A request failed; the report names the error."""
        self.problems.append(str(error))
        if isinstance(error, ExtendAPIError) and error.request_id:
            self.request_ids.append(error.request_id)


def response_to(error: ExtendError) -> tuple[CancelResponse, str]:
    """The response that an error stands for, and its words for the report."""
    words = str(error.status) if isinstance(error, ExtendAPIError) and error.status else "none"
    if isinstance(error, ExtendNotFoundError):
        return CancelResponse.MISSING, words
    if isinstance(error, ExtendRefusedError | ExtendAccountError):
        return CancelResponse.REFUSED, words
    return CancelResponse.LOST, f"{words} (not a run)" if words.startswith("2") else words


def next_step(run: Run, history: CancelHistory, skip: str | None, *, late: bool = False) -> Outcome | Step:
    """What a fresh read means, given what was sent: an outcome, or the next step.

    Args:
        run: the run as just read.
        history: what was sent before this read.
        skip: why no cancel may go out for the run as just read, None where one may.
        late: whether the run's deadline has passed.
    """
    if run.is_terminal:
        return ended(run, ours=history.was_sent and not ended_before(run, history))
    if history.only_refused or (late and history.attempts and not history.may_have_taken_effect):
        return _refused(run, history, skip, late=late)
    if late:
        return Outcome.UNCONFIRMED if history.attempts else Outcome.DEFERRED
    if not history.may_send:
        return Step.WAIT
    if skip is not None:
        return Step.WAIT if history.attempts else Outcome.SPARED
    return Step.CANCEL


def _refused(run: Run, history: CancelHistory, skip: str | None, *, late: bool) -> Outcome | Step:
    """What a read means where Extend accepted none of our cancels, as far as it said."""
    if run.status == CANCELLING:
        # Where a gateway sends a request twice, the response is the refusal of the second.
        return Outcome.UNCONFIRMED if late else Step.WAIT
    if history.reads_since < REFUSAL_READS and not late:
        return Step.WAIT
    if run.status in run.kind.cancellable:
        return Outcome.REFUSED if skip is None else Outcome.SPARED
    return Outcome.SPARED if went_on(run) else Outcome.ERROR


def went_on(run: Run) -> bool:
    """Whether Extend has finished its part and the run waits for a person: a workflow run in review."""
    return run.status in run.kind.worked and not run.is_terminal


def ended(run: Run, *, ours: bool) -> Outcome:
    """The outcome of a run that has ended; `ours` where a cancel of ours may be why.

    FAILED with ABORTED after our request counts as cancelled: the vendor describes ABORTED as "aborted by the user".
    A refusal of our request does not show whose cancel it was: a gateway may have sent it twice.
    """
    if run.status == CANCELLED:
        return Outcome.CANCELLED if ours else Outcome.ALREADY_CANCELLED
    if ours and run.was_aborted:
        return Outcome.CANCELLED
    return Outcome.FINISHED_FIRST


def ended_before(run: Run, history: CancelHistory) -> bool:
    """Whether a run's own times say that it ended before our cancel was sent: somebody else's came first.

    Only for kinds where an accepted cancel may have done nothing. Where a cancel does not change `updatedAt`, it is
    still the time that the check showed, and proves nothing.
    """
    if run.kind not in NO_OP_KINDS or history.sent_at is None or history.changed_at is None or run.updated_at is None:
        return False
    return history.changed_at < run.updated_at < history.sent_at - CLOCK_GRAIN


def may_have_ended_before(run: Run, history: CancelHistory) -> bool:
    """Whether an accepted cancel may have done nothing, as far as the run's own times show."""
    if run.kind not in NO_OP_KINDS:
        return False
    return history.sent_at is None or run.updated_at is None or run.updated_at < history.sent_at
