"""One run on its way to its outcome: each time that it is checked, cancelled or read again."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from prefect_extend_ai.client import ExtendClient, ReservedCancel
from prefect_extend_ai.errors import (
    ExtendCachedResponseError,
    ExtendError,
    ExtendNotFoundError,
    ExtendNotSentError,
    ExtendRateLimitError,
    ExtendTransportError,
)
from prefect_extend_ai.runs import FRESH, Run, RunKind, loop_time
from prefect_extend_ai.sweep.decision import REFUSAL_READS, Answered, Step, Tried, answered, next_step, went_on
from prefect_extend_ai.sweep.reasons import reason
from prefect_extend_ai.sweep.report import Cancellation, Outcome
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.stop import GivenUp, Stop, run_until
from prefect_extend_ai.sweep.witness import ACCOUNT_ERRORS, AccountWitness, ListingWitness

__all__ = ["LAST_READ_SECONDS", "OLD_CHECKS", "TURN_SECONDS", "Attempt", "Settled"]

TURN_SECONDS = 120.0
"""Seconds after which a run is left for the next sweep, where no cancel could leave by then."""

LAST_READ_SECONDS = 5.0
"""What the last read of a stopped sweep may take."""

OLD_CHECKS = 3
"""After so many checks in a row that were too old when their cancel could leave, a run is an error."""


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


class Attempt:
    """What is known of one run while it is being cancelled."""

    def __init__(
        self,
        client: ExtendClient,
        kind: RunKind,
        target: Target,
        *,
        spare: Callable[[Run, Target], str | None],
        stop: Stop,
        account: AccountWitness,
        listing: ListingWitness | None,
    ) -> None:
        self.client = client
        self.kind = kind
        self.target = target
        self.spare = spare
        self.stop = stop
        self.account = account
        self.listing = listing
        self.give_up_at = loop_time() + TURN_SECONDS
        self.deadline = math.inf
        self.away = False
        self.tried = Tried()
        self.latest: Run | None = None
        self.listed: Run | None = None
        self.age_minutes = target.age_minutes
        self.skip: str | None = None
        self.why_not = ""
        self.old_checks = 0
        self.lost_connections = 0

    async def once(self) -> Outcome | Step:
        """Check the run, and cancel it where that may and has to be; only read it where no cancel may go out."""
        late = loop_time() >= min(self.deadline, self.stop.deadline)
        if self.tried.posts and (late or self.stop.reason is not None or not self.tried.may_send):
            return await self._confirm(late=late)
        if self.stop.reason is not None:
            return self._deferred(self.stop.reason)
        self.away = False
        try:
            return await run_until(self.stop, self._check_and_cancel(), self._ends)
        except GivenUp:
            if self.away:
                return self._lost(ExtendTransportError("the sweep was stopped before the answer came"))
            return Step.AGAIN if self.tried.posts else self._deferred(self.stop.reason)

    async def _check_and_cancel(self) -> Outcome | Step:
        until = self.deadline if self.tried.posts else self.give_up_at
        try:
            async with self.client.reserve_cancel(
                self.target.run_id, self.kind, within=until - loop_time()
            ) as reserved:
                step = await self._read(reserved.check)
                if step is Step.CANCEL and self.listing is not None:
                    step = await self._look(self.listing)
                return await self._cancel(reserved) if step is Step.CANCEL else step
        except (ExtendRateLimitError, ExtendNotSentError) as error:
            self.tried.note(error)
            return Step.WAIT if self.tried.posts else self._deferred(None)
        except ExtendError as error:
            return await self._unread(error)

    async def _confirm(self, *, late: bool) -> Outcome | Step:
        now = loop_time()
        try:
            step = await run_until(
                self.stop,
                self._read(lambda: self.client.get_run(self.target.run_id, self.kind), late=late),
                lambda: max(min(self.deadline, self.stop.deadline), now) + LAST_READ_SECONDS,
            )
        except GivenUp:
            self.tried.note(ExtendTransportError("no read came in time"))
            return Outcome.UNCONFIRMED
        return Step.WAIT if step is Step.CANCEL else step

    async def _read(self, read: Callable[[], Awaitable[Run]], *, late: bool = False) -> Outcome | Step:
        """Read the run and decide."""
        try:
            self.latest = (await read()).without_document()
        except ExtendNotFoundError as error:
            self.tried.note(error)
            self.tried.missing += 1
            if self.tried.missing >= REFUSAL_READS:
                return Outcome.NOT_FOUND
            return Outcome.UNCONFIRMED if late else Step.WAIT
        except ExtendCachedResponseError as error:
            self.tried.note(error)
            if self.tried.posts:
                return Outcome.UNCONFIRMED if late else Step.WAIT
            return self._too_old(f"{error}")
        except ExtendError as error:
            return await self._unread(error, late=late)
        self.tried.read(self.latest)
        if self.age_minutes is None and not self.tried.posts and not self.latest.is_terminal:
            self.age_minutes = self.latest.age_minutes
        self.skip = self.spare(self.latest, self.target)
        return next_step(self.latest, self.tried, self.skip, late=late)

    async def _look(self, listing: ListingWitness) -> Outcome | Step:
        """Hold a run that its own read would have cancelled against its listing, which says when it last changed."""
        self.listed = await listing.look(self.target)
        if self.latest is None or self.listed is None:
            self.skip = "it is no longer listed as in progress, and its own read tells no times"
        else:
            target = Target.of(self.listed)
            self.skip = self.spare(self.listed, target) or self.spare(self.latest, target)
        return Step.CANCEL if self.skip is None else Step.WAIT if self.tried.posts else Outcome.SPARED

    async def _unread(self, error: ExtendError, *, late: bool = False) -> Outcome | Step:
        """What a read means that failed."""
        self.tried.note(error)
        is_everybodys = isinstance(error, ACCOUNT_ERRORS) and await self.account.is_to_blame(error)
        if not self.tried.posts:
            if isinstance(error, ExtendRateLimitError | ExtendNotSentError):
                return self._deferred(None)
            return Outcome.ERROR
        return Outcome.UNCONFIRMED if late or is_everybodys else Step.WAIT

    async def _cancel(self, reserved: ReservedCancel) -> Outcome | Step:
        """Send one cancel, right after a read that asked for it."""
        if (left := FRESH - self._age()) < 0:
            return self._too_old(self._how_old())
        try:
            answer = await reserved.send(self._leaves, left)
        except ExtendError as error:
            self.away = False
            return await self._not_accepted(error)
        self.away = False
        self.tried.accepted(answer.request_id, self._left_at(answer))
        # An answer that says less than the read before it is no final object: the next read is.
        if self.latest is None or not answer.is_terminal or not self.latest.raw.keys() <= answer.raw.keys():
            return Step.WAIT
        self.latest = answer.without_document()
        return next_step(answer, self.tried, None)

    def _leaves(self) -> None:
        """The last look, right before a cancel's bytes leave: let it, or raise ExtendNotSentError."""
        if self.stop.reason is not None:
            raise ExtendNotSentError("not sent: the sweep was stopped")
        if self._age() > FRESH:
            raise ExtendNotSentError("not sent: the check was too long ago")
        self.away = True

    async def _not_accepted(self, error: ExtendError) -> Outcome | Step:
        if isinstance(error, ExtendNotSentError) and self.stop.reason is None and self._age() > FRESH:
            return self._too_old(self._how_old())
        self.tried.note(error)
        if isinstance(error, ExtendRateLimitError | ExtendNotSentError):
            return self._not_sent(error)
        what, words = answered(error)
        self.tried.sent(what, words)
        if isinstance(error, ACCOUNT_ERRORS) and await self.account.is_to_blame(error):
            # Nothing will be told by asking again, unless another cancel may have taken.
            return Step.WAIT if self.tried.may_have_taken else Outcome.ERROR
        return Step.WAIT

    def _not_sent(self, error: ExtendError) -> Outcome | Step:
        """What follows where a cancel was not carried out: everything begins again, since the check grows old."""
        self.old_checks = 0
        if isinstance(error, ExtendRateLimitError) and error.status is not None:
            self.tried.answers.append(str(error.status))
        if self.tried.posts:
            return Step.WAIT
        if self.stop.reason is not None or loop_time() >= self.give_up_at:
            return self._deferred(self.stop.reason)
        if isinstance(error, ExtendRateLimitError):
            return Step.AGAIN
        self.lost_connections += 1
        return Step.WAIT if self.lost_connections < OLD_CHECKS else Outcome.ERROR

    def settled(self, outcome: Outcome) -> Settled:
        """What became of the run, for the report and the record."""
        final = self.latest if self.latest and self.latest.is_terminal and outcome is not Outcome.NOT_FOUND else None
        cancellation = Cancellation(
            run_id=self.target.run_id,
            outcome=outcome,
            reason=reason(outcome, self.tried, self.latest, skip=self.skip, why_not=self.why_not),
            status=self.latest.status if self.latest else None,
            age_minutes=self.age_minutes,
            limit=self.target.limit,
            dashboard_url=(self.latest.dashboard_url if self.latest else None) or self.target.dashboard_url,
            request_ids=self.tried.request_ids,
        )
        # Whatever a cancel was answered, it may have taken; and a run that is not found may be there all the same.
        has_moved_on = outcome is Outcome.SPARED and self.latest is not None and went_on(self.latest)
        is_open = self.tried.posts > 0 and final is None and not has_moved_on
        return Settled(cancellation, final, open=is_open, attempts=len(self.tried.answers))

    def _age(self) -> float:
        """Seconds since what the cancel rests on was asked for, by any clock."""
        witnesses = [self.latest] if self.listing is None else [self.latest, self.listed]
        asked = [run.asked_at if run else None for run in witnesses]
        now = self.client.now()
        return max(math.inf if moment is None else moment.age(now) for moment in asked)

    def _how_old(self) -> str:
        return (
            f"the last was {self._age():.0f} s old when its cancel could leave: look for slow answers of Extend, a "
            "slow proxy, or a machine that was suspended"
        )

    def _left_at(self, answer: Run) -> datetime | None:
        """When the cancel left, at the earliest, by the API's clock."""
        if answer.read_at is None or answer.asked_at is None:
            return None
        return answer.read_at - timedelta(seconds=answer.asked_at.age(self.client.now()))

    def _ends(self) -> float:
        """When to give up this try: a cancel that has left is waited for, whatever stops the sweep."""
        if self.away:
            return self.stop.deadline
        return self.deadline if self.stop.reason is None else -math.inf

    def _too_old(self, why: str) -> Outcome | Step:
        """What follows where a check was too old for its cancel."""
        if self.tried.posts:
            return Step.WAIT
        self.old_checks += 1
        if self.old_checks < OLD_CHECKS:
            return Step.AGAIN
        self.why_not = f"{OLD_CHECKS} checks in a row came back too old; {why}"
        return Outcome.ERROR

    def _deferred(self, why: str | None) -> Outcome:
        self.why_not = why or f"Extend's rate limit let no request through within {TURN_SECONDS:.0f} s"
        return Outcome.DEFERRED

    def _lost(self, error: ExtendError) -> Step:
        self.tried.note(error)
        self.tried.sent(Answered.LOST, "none")
        return Step.WAIT
