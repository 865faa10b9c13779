"""What a fresh read of a run means, given what was tried for it: pure decisions.

A cancel that was answered with success is a request, not a fact; one that was refused or lost may have taken effect
all the same. So only a read of the run decides.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prefect_extend_ai.errors import (
    ExtendAPIError,
    ExtendAuthError,
    ExtendError,
    ExtendNotFoundError,
    ExtendPermissionError,
    ExtendRefusedError,
    ExtendUsageBlockedError,
)
from prefect_extend_ai.runs import CANCELLED, Run, RunKind
from prefect_extend_ai.sweep.report import Outcome

__all__ = [
    "MAX_POSTS",
    "REFUSAL_READS",
    "Answered",
    "Step",
    "Tried",
    "answered",
    "ended",
    "ended_before",
    "may_have_ended_before",
    "next_step",
    "went_on",
]

MAX_POSTS = 4
"""How often a cancel is sent for one run, each time after a read that said PROCESSING and stale."""

REFUSAL_READS = 3
"""How many reads in a row make a refusal, or a 404, final: a read may lag behind, and a gateway may stray."""

CANCELLING = "CANCELLING"
"""Neither in progress nor an end: somebody's cancel is under way."""

CLOCK_GRAIN = timedelta(seconds=2)
"""HTTP dates are cut to whole seconds, and the API's servers may differ by some more."""

NO_OP_KINDS = frozenset({RunKind.VERIFY})
"""Kinds whose cancel is accepted for a run that has ended, and does nothing (vendor's page)."""


class Answered(enum.Enum):
    """What came of the last cancel that was sent."""

    ACCEPTED = enum.auto()
    REFUSED = enum.auto()
    MISSING = enum.auto()
    """404: from Extend, or from a gateway that knows nothing of it."""
    LOST = enum.auto()
    """No answer, a 5xx or an odd one: it may or may not have taken effect."""


class Step(enum.Enum):
    """What to do next with a run that has not ended."""

    CANCEL = enum.auto()
    WAIT = enum.auto()
    AGAIN = enum.auto()
    """Nothing was sent: begin again at once."""


@dataclass(slots=True)
class Tried:
    """What was tried for one run so far."""

    posts: int = 0
    """Cancels that were sent, but for those that were answered 429: they were not carried out."""
    last: Answered | None = None
    may_have_taken: bool = False
    """Whether a cancel was accepted, or its answer lost."""
    reads_since: int = 0
    """Reads that found the run not ended since the last cancel."""
    missing: int = 0
    """Reads in a row that were answered 404."""
    answers: list[str] = field(default_factory=list)
    """What each cancel was answered: a status, `accepted` or `none`."""
    left_at: datetime | None = None
    """When the first cancel left, at the earliest, by the API's clock; None where that is not known."""
    changed_at: datetime | None = None
    """When the run had last changed, as the check before the first cancel told it."""
    problems: list[str] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)

    @property
    def asked(self) -> bool:
        """Whether any cancel has left."""
        return self.posts > 0 or bool(self.answers)

    @property
    def may_send(self) -> bool:
        """Whether another cancel may be sent, if a check says so."""
        return self.last in (None, Answered.MISSING, Answered.LOST) and self.posts < MAX_POSTS

    @property
    def only_refused(self) -> bool:
        """Whether cancels were sent, and every answer that came says that Extend did not take them."""
        return self.posts > 0 and not self.may_have_taken and not self.may_send

    def accepted(self, request_id: str | None, left_at: datetime | None) -> None:
        """Remember a cancel that was answered with success, and by which id Extend's support finds it."""
        if request_id:
            self.request_ids.append(request_id)
        if not self.posts:
            self.left_at = left_at
        self.sent(Answered.ACCEPTED, "accepted")

    def sent(self, answered: Answered, words: str) -> None:
        """Remember a cancel that left, and what came of it."""
        self.posts += 1
        self.answers.append(words)
        self.reads_since = 0
        self.last = answered
        self.may_have_taken = self.may_have_taken or answered in (Answered.ACCEPTED, Answered.LOST)

    def read(self, run: Run) -> None:
        """Remember a read that found the run."""
        self.missing = 0
        if self.posts:
            self.reads_since += 1
        else:
            self.changed_at = run.updated_at

    def note(self, error: ExtendError) -> None:
        """Remember an error for the report."""
        self.problems.append(str(error))
        if isinstance(error, ExtendAPIError) and error.request_id:
            self.request_ids.append(error.request_id)


def answered(error: ExtendError) -> tuple[Answered, str]:
    """What an error says of the cancel that met it, and in words."""
    words = str(error.status) if isinstance(error, ExtendAPIError) and error.status else "none"
    if isinstance(error, ExtendNotFoundError):
        return Answered.MISSING, words
    refusals = (ExtendRefusedError, ExtendAuthError, ExtendPermissionError, ExtendUsageBlockedError)
    if isinstance(error, refusals):
        return Answered.REFUSED, words
    return Answered.LOST, f"{words} (not a run)" if words.startswith("2") else words


def next_step(run: Run, tried: Tried, skip: str | None, *, late: bool = False) -> Outcome | Step:
    """What a fresh read means, given what was tried: an outcome, or the next step.

    Args:
        run: the run as just read.
        tried: what was tried before this read.
        skip: why no cancel may go out for the run as just read, None where one may.
        late: whether the run's deadline has passed.
    """
    if run.is_terminal:
        return ended(run, ours=tried.asked and not ended_before(run, tried))
    if tried.only_refused or (late and tried.posts and not tried.may_have_taken):
        return _refused(run, tried, skip, late=late)
    if late:
        return Outcome.UNCONFIRMED if tried.posts else Outcome.DEFERRED
    if not tried.may_send:
        return Step.WAIT
    if skip is not None:
        return Step.WAIT if tried.posts else Outcome.SPARED
    return Step.CANCEL


def _refused(run: Run, tried: Tried, skip: str | None, *, late: bool) -> Outcome | Step:
    """What a read means where Extend took none of our cancels, as far as it said."""
    if run.status == CANCELLING:
        # A gateway that sends a request twice shows us the refusal of the second.
        return Outcome.UNCONFIRMED if late else Step.WAIT
    if tried.reads_since < REFUSAL_READS and not late:
        return Step.WAIT
    if run.status in run.kind.cancellable:
        return Outcome.REFUSED if skip is None else Outcome.SPARED
    return Outcome.SPARED if went_on(run) else Outcome.ERROR


def went_on(run: Run) -> bool:
    """Whether Extend has worked on the run to its end and it waits for somebody else: a workflow run in review."""
    return run.status in run.kind.worked and not run.is_terminal


def ended(run: Run, *, ours: bool) -> Outcome:
    """The outcome of a run that has ended; `ours` where a cancel of ours may be why.

    FAILED with ABORTED after our request counts as cancelled: the vendor describes ABORTED as "aborted by the user".
    A refusal of our request says nothing about whose cancel it was: a gateway may have sent it twice.
    """
    if run.status == CANCELLED:
        return Outcome.CANCELLED if ours else Outcome.ALREADY_CANCELLED
    if ours and run.was_aborted:
        return Outcome.CANCELLED
    return Outcome.FINISHED_FIRST


def ended_before(run: Run, tried: Tried) -> bool:
    """Whether a run's own times say that it had ended before our cancel left: somebody else's cancel came first.

    Asked only where an accepted cancel may have done nothing. Where a cancel does not move `updatedAt`, it is the one
    that the check has shown, and says nothing.
    """
    if run.kind not in NO_OP_KINDS or tried.left_at is None or tried.changed_at is None or run.updated_at is None:
        return False
    return tried.changed_at < run.updated_at < tried.left_at - CLOCK_GRAIN


def may_have_ended_before(run: Run, tried: Tried) -> bool:
    """Whether an accepted cancel may have done nothing, for all that the run's own times say."""
    if run.kind not in NO_OP_KINDS:
        return False
    return tried.left_at is None or run.updated_at is None or run.updated_at < tried.left_at
