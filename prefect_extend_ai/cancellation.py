"""One run: check it, cancel it, confirm it, and say truthfully what became of it.

What a read means is decided in `steps`; `cancel_one` is the driver around it. Each cancel leaves right after a read
that said that it should, and what came of it is told by a read again.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from uuid import UUID

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import (
    ExtendAuthError,
    ExtendError,
    ExtendNotFoundError,
    ExtendNotSentError,
    ExtendPermissionError,
    ExtendRateLimitError,
    ExtendRefusedError,
    ExtendTransportError,
    ExtendUsageBlockedError,
    SharedLimitError,
)
from prefect_extend_ai.report import Cancellation, Outcome
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.steps import Answered, Step, Tried, ended, next_step
from prefect_extend_ai.stop import GivenUp, Stop, unless
from prefect_extend_ai.survey import Target

__all__ = ["ACCOUNT_ERRORS", "FIRST_PAUSE", "LONGEST_PAUSE", "Settled", "cancel_one"]

FRESH_SECONDS = 10.0
"""How old a check may be when its cancel leaves; one that waited longer for its turn is preceded by another check."""

TURN_SECONDS = 120.0
"""Seconds from a run's first check after which it is left for the next sweep, where no cancel could leave by then."""

LAST_READ_SECONDS = 5.0
"""What the last read of a stopped sweep may take."""

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Seconds between reads that wait for an accepted cancel to take: doubling from the first to the longest."""

ACCOUNT_ERRORS = (ExtendAuthError, ExtendPermissionError, ExtendUsageBlockedError, SharedLimitError)
"""Errors that every further call would meet too: they stop the whole sweep."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one run.

    Attributes:
        cancellation: the outcome, for the report.
        final: the run as it ended, whole; None where it has not, or is not there.
        open: whether a cancel of ours may still take effect, so that a later sweep has to look again.
        attempts: how many cancels were sent.
    """

    cancellation: Cancellation
    final: Run | None = None
    open: bool = False
    attempts: int = 0

    def recorded_in(self, record: UUID | None) -> Cancellation:
        """The outcome, with the artifact that holds the final object."""
        return self.cancellation.model_copy(update={"record": record})


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
    case = _Case(client, kind, target, spare=spare, stop=stop, clock=clock)
    async with slot:
        if stop.reason is not None:
            return case.settled(Outcome.DEFERRED)
        step = await case.check_and_cancel()
    deadline = case.deadline = clock() + confirm_seconds
    pause = FIRST_PAUSE
    while not isinstance(step, Outcome):
        await sleep(max(min(pause, min(deadline, stop.deadline) - clock()), 0))
        pause = min(pause * 2, LONGEST_PAUSE)
        step = await case.check_and_cancel(lambda: clock() >= min(deadline, stop.deadline))
    return case.settled(step)


class _Case:
    """What is known of one run while it is being cancelled; the gate that its cancels pass."""

    def __init__(
        self,
        client: ExtendClient,
        kind: RunKind,
        target: Target,
        *,
        spare: Callable[[Run, Target], str | None],
        stop: Stop,
        clock: Callable[[], float],
    ) -> None:
        self.client = client
        self.kind = kind
        self.target = target
        self.spare = spare
        self.stop = stop
        self.clock = clock
        self.give_up_at = clock() + TURN_SECONDS
        self.checked_at = clock()
        self.away = False
        self.tried = Tried()
        self.latest: Run | None = None
        self.age_minutes = target.age_minutes
        self.spared_because: str | None = None
        self.deadline = math.inf

    async def check_and_cancel(self, is_late: Callable[[], bool] = lambda: False) -> Outcome | Step:
        """Read the run, and cancel it where it still has to be; again, while the check grows old before the cancel."""
        step = await self.read(late=is_late())
        while step is Step.CANCEL:
            step = await self.cancel()
            if step is Step.CHECK:
                step = self._not_sent() or await self.read(late=is_late())
        return step

    def leaving(self) -> None:
        """Let a cancel leave, or raise ExtendNotSentError: the gate's way out."""
        if self.stop.reason is not None or self.clock() - self.checked_at > FRESH_SECONDS:
            raise ExtendNotSentError("not sent: the sweep was stopped, or the run's check was too long ago")
        self.away = True

    def back(self) -> None:
        """The gate's way back."""
        self.away = False

    async def read(self, *, late: bool = False) -> Outcome | Step:
        """Read the run and decide."""
        try:
            self.latest = await unless(self._no_time_to_read, self.client.get_run(self.target.run_id, self.kind))
        except GivenUp:
            if not self.tried.posts:
                return Outcome.DEFERRED
            self._problem(ExtendTransportError("no read came in time"))
            return Outcome.UNCONFIRMED if self.tried.may_have_taken else Outcome.ERROR
        except ExtendNotFoundError as error:
            self._problem(error)
            return Outcome.NOT_FOUND
        except ExtendError as error:
            self._problem(error)
            if not self.tried.posts and isinstance(error, ExtendRateLimitError | ExtendNotSentError):
                return Outcome.DEFERRED
            if self.tried.posts and not late and not isinstance(error, ACCOUNT_ERRORS):
                return Step.WAIT
            return Outcome.UNCONFIRMED if self.tried.may_have_taken else Outcome.ERROR
        self.checked_at = self.clock()
        if self.tried.posts:
            self.tried.reads_since += 1
        elif self.age_minutes is None and not self.latest.is_terminal:
            self.age_minutes = self.latest.age_minutes
        self.spared_because = self.spare(self.latest, self.target)
        return next_step(self.latest, self.tried, self.spared_because, late=late)

    async def cancel(self) -> Outcome | Step:
        """Send one cancel, right after a read that asked for it; Step.CHECK where it could not leave soon enough."""
        if self.stop.reason is not None:
            return self._not_sent() or Step.WAIT
        tried = self.tried
        self.away = False
        try:
            answer = await unless(
                self._no_time_to_cancel, self.client.cancel_run(self.target.run_id, self.kind, gate=self)
            )
        except (ExtendNotSentError, GivenUp):
            if not self.away:
                return Step.CHECK
            self._lost(ExtendTransportError("the sweep was stopped before the answer came"))
            return Step.WAIT
        except ExtendRateLimitError as error:
            # Not carried out; where a cancel went before it, it is one of the few that a run gets all the same.
            self._problem(error)
            if not tried.posts:
                return Outcome.DEFERRED
            tried.posts += 1
            return Step.WAIT
        except ACCOUNT_ERRORS as error:
            # Nothing was done, and nothing will be by asking again.
            self._problem(error)
            tried.posts += 1
            return Step.WAIT if tried.may_have_taken else Outcome.ERROR
        except (ExtendRefusedError, ExtendNotFoundError) as error:
            self._problem(error)
            tried.sent(Answered.REFUSED)
            return Step.WAIT
        except ExtendError as error:
            self._lost(error)
            return Step.WAIT
        tried.sent(Answered.ACCEPTED, answer.request_id)
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
        return Settled(cancellation, final, open=self.tried.may_have_taken and final is None, attempts=self.tried.posts)

    def _no_time_to_read(self) -> bool:
        if self.tried.posts:
            return self.clock() >= min(self.deadline, self.stop.deadline) + LAST_READ_SECONDS
        return self.stop.reason is not None

    def _no_time_to_cancel(self) -> bool:
        return self.clock() >= self.stop.deadline if self.away else self.stop.reason is not None

    def _not_sent(self) -> Outcome | None:
        """The outcome of a run for which no cancel could leave; None where one has left, or still may."""
        if self.tried.posts or (self.stop.reason is None and self.clock() < self.give_up_at):
            return None
        return Outcome.DEFERRED

    def _lost(self, error: ExtendError) -> None:
        self._problem(error)
        self.tried.sent(Answered.LOST)

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
                return self.stop.reason or f"Extend's rate limit let no request through within {TURN_SECONDS:.0f} s"
            case _:
                return f"{problem}; {sent if self.tried.posts else 'no cancel was sent'}"
