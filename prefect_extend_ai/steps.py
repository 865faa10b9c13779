"""What a fresh read of a run means, given what was tried for it: pure decisions.

A cancel that was answered with success is a request, not a fact; one that was refused or lost may have taken effect
all the same. So only a read of the run decides.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from prefect_extend_ai.errors import ExtendAPIError, ExtendError
from prefect_extend_ai.report import Outcome
from prefect_extend_ai.runs import CANCELLED, Run

__all__ = ["MAX_POSTS", "REFUSAL_READS", "Answered", "Step", "Tried", "ended", "next_step"]

MAX_POSTS = 4
"""How often a cancel is sent for one run, each time after a read that said PROCESSING and stale."""

REFUSAL_READS = 3
"""How many reads in progress after a refusal make it final: a read may lag behind the end that it was refused for."""


class Answered(enum.Enum):
    """What came of the last cancel that was sent."""

    ACCEPTED = enum.auto()
    REFUSED = enum.auto()
    LOST = enum.auto()
    """No answer, a 5xx or an odd one: it may or may not have taken effect."""


class Step(enum.Enum):
    """What to do next with a run that has not ended."""

    CANCEL = enum.auto()
    WAIT = enum.auto()
    CHECK = enum.auto()
    """Nothing was sent, and the check is too old by now: read again."""


@dataclass(slots=True)
class Tried:
    """What was tried for one run so far."""

    posts: int = 0
    last: Answered | None = None
    may_have_taken: bool = False
    """Whether any cancel of ours may have taken effect."""
    reads_since: int = 0
    """Reads that found the run in progress since the last cancel."""
    problems: list[str] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)

    def sent(self, answered: Answered, request_id: str | None = None) -> None:
        """Remember a cancel that left, what came of it, and by which id Extend's support finds it."""
        if request_id:
            self.request_ids.append(request_id)
        self.posts += 1
        self.reads_since = 0
        self.last = answered
        self.may_have_taken = self.may_have_taken or answered is not Answered.REFUSED

    def note(self, error: ExtendError) -> None:
        """Remember an error for the report."""
        self.problems.append(str(error))
        if isinstance(error, ExtendAPIError) and error.request_id:
            self.request_ids.append(error.request_id)


def next_step(run: Run, tried: Tried, spare: str | None, *, late: bool = False) -> Outcome | Step:
    """What a fresh read means, given what was tried: an outcome, or the next step.

    Args:
        run: the run as just read.
        tried: what was tried before this read.
        spare: why no cancel may go out for the run as just read, None where one may.
        late: whether the run's deadline has passed.
    """
    if run.is_terminal:
        return ended(run, ours=tried.may_have_taken)
    if tried.last is Answered.REFUSED and not tried.may_have_taken:
        if tried.reads_since < REFUSAL_READS and not late:
            return Step.WAIT
        return Outcome.REFUSED if run.status in run.kind.cancellable else Outcome.ERROR
    if late:
        return Outcome.UNCONFIRMED
    if tried.last in (Answered.ACCEPTED, Answered.REFUSED) or tried.posts >= MAX_POSTS:
        return Step.WAIT
    if spare is not None:
        return Step.WAIT if tried.may_have_taken else Outcome.SPARED
    return Step.CANCEL


def ended(run: Run, *, ours: bool) -> Outcome:
    """The outcome of a run that has ended; `ours` where a cancel of ours may be why.

    FAILED with ABORTED after our request counts as cancelled: the vendor describes ABORTED as "aborted by the user".
    """
    if run.status == CANCELLED:
        return Outcome.CANCELLED if ours else Outcome.ALREADY_CANCELLED
    if ours and run.was_aborted:
        return Outcome.CANCELLED
    return Outcome.FINISHED_FIRST
