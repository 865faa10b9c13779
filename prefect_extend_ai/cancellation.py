"""One run: check it, cancel it, confirm it, and say truthfully what became of it.

A cancel that was answered with success is a request, not a fact; one that was refused or lost may have taken
effect all the same. So only a read of the run decides: `next_step` is that decision, pure, over what was read
and what was tried; `cancel_one` is the thin driver around it.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from uuid import UUID

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import (
    ExtendAPIError,
    ExtendAuthError,
    ExtendError,
    ExtendNotFoundError,
    ExtendPermissionError,
    ExtendRateLimitError,
    ExtendRefusedError,
    ExtendUsageBlockedError,
    SharedLimitError,
)
from prefect_extend_ai.report import Cancellation, Outcome
from prefect_extend_ai.runs import CANCELLED, Run, RunKind
from prefect_extend_ai.stop import Stop
from prefect_extend_ai.survey import Target

__all__ = ["MAX_POSTS", "Answered", "Settled", "Step", "Tried", "cancel_one", "next_step"]

MAX_POSTS = 4
"""How often a cancel is sent for one run, each time after a read that said PROCESSING and stale."""

REFUSAL_READS = 3
"""How many reads in progress after a refusal make it final: a read may lag behind the end that it was refused for."""

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Seconds between reads that wait for an accepted cancel to take: doubling from the first to the longest."""

ACCOUNT_ERRORS = (ExtendAuthError, ExtendPermissionError, ExtendUsageBlockedError, SharedLimitError)
"""Errors that every further call would meet too: they stop the whole sweep."""


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

    def note(self, error: ExtendError) -> None:
        """Remember an error for the report."""
        self.problems.append(str(error))
        if isinstance(error, ExtendAPIError) and error.request_id:
            self.request_ids.append(error.request_id)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one run.

    Attributes:
        cancellation: the outcome, for the report.
        final: the run as it ended, whole; None where it has not, or is not there.
        open: whether a cancel of ours may still take effect, so that a later sweep has to look again.
    """

    cancellation: Cancellation
    final: Run | None = None
    open: bool = False

    def recorded_in(self, record: UUID | None) -> Cancellation:
        """The outcome, with the artifact that holds the final object."""
        return self.cancellation.model_copy(update={"record": record})


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


async def cancel_one(
    client: ExtendClient,
    kind: RunKind,
    target: Target,
    *,
    spare: Callable[[Run, Target], str | None],
    stop: Stop,
    slot: AbstractAsyncContextManager[object],
    confirm_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Settled:
    """Check one run, cancel it if it still has to be, and wait until that is confirmed.

    Raises nothing for what may happen to one run; an error that concerns the whole account sets `stop`.

    Args:
        client: an open client.
        kind: the kind of run.
        target: the run.
        spare: says why no cancel may go out for a run as just read, None where one may.
        stop: once set, no further cancel goes out.
        slot: held from the check to the cancel, so that a check is fresh when its cancel goes out.
        confirm_seconds: seconds from the first cancel's answer until a run that has not ended is unconfirmed.
        clock: seconds, monotonic.
        sleep: waits so many seconds.
    """
    case = _Case(client, kind, target, spare, stop)
    async with slot:
        if stop.reason is not None:
            return case.settled(Outcome.DEFERRED)
        step = await case.read()
        if step is Step.CANCEL:
            step = await case.cancel()
    deadline = clock() + confirm_seconds
    pause = FIRST_PAUSE
    while not isinstance(step, Outcome):
        await sleep(max(min(pause, min(deadline, stop.deadline) - clock()), 0))
        pause = min(pause * 2, LONGEST_PAUSE)
        step = await case.read(late=clock() >= min(deadline, stop.deadline))
        if step is Step.CANCEL:
            step = await case.cancel()
    return case.settled(step)


class _Case:
    """What is known of one run while it is being cancelled."""

    def __init__(
        self,
        client: ExtendClient,
        kind: RunKind,
        target: Target,
        spare: Callable[[Run, Target], str | None],
        stop: Stop,
    ) -> None:
        self.client = client
        self.kind = kind
        self.target = target
        self.spare = spare
        self.stop = stop
        self.tried = Tried()
        self.latest: Run | None = None
        self.age_minutes = target.age_minutes
        self.spared_because: str | None = None

    async def read(self, *, late: bool = False) -> Outcome | Step:
        """Read the run and decide."""
        try:
            self.latest = await self.client.get_run(self.target.run_id, self.kind)
        except ExtendNotFoundError as error:
            self._problem(error)
            return Outcome.NOT_FOUND
        except ExtendError as error:
            self._problem(error)
            if self.tried.posts and not late and not isinstance(error, ACCOUNT_ERRORS):
                return Step.WAIT
            return Outcome.UNCONFIRMED if self.tried.may_have_taken else Outcome.ERROR
        if self.tried.posts:
            self.tried.reads_since += 1
        elif self.age_minutes is None and not self.latest.is_terminal:
            self.age_minutes = self.latest.age_minutes
        self.spared_because = self.spare(self.latest, self.target)
        return next_step(self.latest, self.tried, self.spared_because, late=late)

    async def cancel(self) -> Outcome | Step:
        """Send one cancel, right after a read that asked for it."""
        if self.stop.reason is not None:
            return Step.WAIT if self.tried.may_have_taken else Outcome.DEFERRED
        tried = self.tried
        tried.posts += 1
        tried.reads_since = 0
        try:
            answer = await self.client.cancel_run(self.target.run_id, self.kind)
        except (*ACCOUNT_ERRORS, ExtendRateLimitError) as error:
            # Nothing was done, and nothing will be by asking again.
            self._problem(error)
            return Step.WAIT if tried.may_have_taken else Outcome.ERROR
        except (ExtendRefusedError, ExtendNotFoundError) as error:
            self._problem(error)
            tried.last = Answered.REFUSED
            return Step.WAIT
        except ExtendError as error:
            self._problem(error)
            tried.last = Answered.LOST
            tried.may_have_taken = True
            return Step.WAIT
        tried.last = Answered.ACCEPTED
        tried.may_have_taken = True
        # An answer that says less than the read before it is no final object: the next read is.
        if self.latest is None or not answer.is_terminal or not self.latest.raw.keys() <= answer.raw.keys():
            return Step.WAIT
        self.latest = answer
        return ended(answer, ours=True)

    def settled(self, outcome: Outcome) -> Settled:
        """What became of the run, for the report and the record."""
        final = self.latest if self.latest and self.latest.is_terminal and outcome is not Outcome.NOT_FOUND else None
        cancellation = Cancellation(
            run_id=self.target.run_id,
            outcome=outcome,
            reason=self._reason(outcome),
            status=self.latest.status if self.latest else None,
            age_minutes=self.age_minutes,
            dashboard_url=(self.latest.dashboard_url if self.latest else None) or self.target.dashboard_url,
            request_ids=self.tried.request_ids,
        )
        # Not found is no end either: a read may miss a run that is there, and a later one may find how it ended.
        return Settled(cancellation, final, open=self.tried.may_have_taken and final is None)

    def _problem(self, error: ExtendError) -> None:
        self.tried.note(error)
        if isinstance(error, ACCOUNT_ERRORS):
            self.stop.set(f"the sweep was stopped by an error: {error}", error)

    def _reason(self, outcome: Outcome) -> str:
        status = self.latest.status if self.latest else None
        failure = f" ({self.latest.failure_reason})" if self.latest and self.latest.failure_reason else ""
        problem = self.tried.problems[-1] if self.tried.problems else ""
        sent = f"{self.tried.posts} cancel{'s' if self.tried.posts != 1 else ''} sent"
        match outcome:
            case Outcome.CANCELLED:
                lost = f"; confirmed by a read after: {problem}" if problem else ""
                return f"{sent}, status is {status}{failure}{lost}"
            case Outcome.ALREADY_CANCELLED:
                return "cancelled by somebody else first"
            case Outcome.FINISHED_FIRST:
                return f"ended as {status}{failure} before a cancel took"
            case Outcome.SPARED:
                return self.spared_because or "no longer stale"
            case Outcome.NOT_FOUND:
                where = "gone after a cancel was sent" if self.tried.posts else "not in this workspace and environment"
                return f"{where}: {problem}"
            case Outcome.UNCONFIRMED:
                after = f"; last problem: {problem}" if problem else ""
                return f"{sent}, but the status was still {status} at the deadline{after}"
            case Outcome.REFUSED:
                return f"Extend refuses the cancel and the run is still {status}: {problem}"
            case Outcome.DEFERRED:
                return self.stop.reason or "left for the next sweep"
            case _:
                return f"{problem}; {sent if self.tried.posts else 'no cancel was sent'}"
