"""One run on its way to its outcome: its checks, its cancels, and the reads that confirm."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

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
from prefect_extend_ai.sweep.checks import age_of, sent_at, too_old
from prefect_extend_ai.sweep.decision import (
    REFUSAL_READS,
    CancelHistory,
    CancelResponse,
    Step,
    next_step,
    response_to,
)
from prefect_extend_ai.sweep.reasons import reason
from prefect_extend_ai.sweep.report import Outcome
from prefect_extend_ai.sweep.result import Result
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.stop import GivenUp, Stop, run_until
from prefect_extend_ai.sweep.witness import ACCOUNT_ERRORS, AccountWitness, ListingWitness

__all__ = ["LAST_READ_SECONDS", "OLD_CHECKS", "TURN_SECONDS", "Attempt"]

TURN_SECONDS = 120.0
"""Seconds after which a run is left for the next sweep, if no cancel could be sent by then."""

LAST_READ_SECONDS = 5.0
"""Seconds for the last read of a run."""

OLD_CHECKS = 3
"""Checks in a row that were too old when their cancel could be sent, after which a run is an error."""


class Attempt:
    """The state of one run while it is being cancelled."""

    def __init__(
        self,
        client: ExtendClient,
        kind: RunKind,
        target: Target,
        *,
        recheck: Callable[[Run, Target], str | None],
        stop: Stop,
        account: AccountWitness,
        listing: ListingWitness | None,
    ) -> None:
        self.client, self.kind, self.target = client, kind, target
        self.recheck = recheck
        self.stop, self.account, self.listing = stop, account, listing
        self.give_up_at = loop_time() + TURN_SECONDS
        self.deadline = math.inf
        self.is_sending = False
        self.history = CancelHistory()
        self.latest: Run | None = None
        self.listed: Run | None = None
        self.age_minutes = target.age_minutes
        self.last_change = target.updated_at
        self.skip: str | None = None
        self.unsent = ""
        self.old_checks = self.lost_connections = 0

    async def once(self) -> Outcome | Step:
        """Check the run and cancel it if the check says so; only read it where no cancel may be sent."""
        late = loop_time() >= min(self.deadline, self.stop.deadline)
        if self.history.attempts and (late or self.stop.reason is not None or not self.history.may_send):
            return await self._confirm(late=late)
        if self.stop.reason is not None:
            return self._deferred(self.stop.reason)
        self.is_sending = False
        try:
            return await run_until(self.stop, self._check_and_cancel(), self._ends)
        except GivenUp:
            if self.is_sending:
                self.history.on_error(ExtendTransportError("the sweep was stopped before the response arrived"))
                self.history.on_sent(CancelResponse.LOST, "none")
                return Step.WAIT
            return Step.AGAIN if self.history.attempts else self._deferred(self.stop.reason)

    async def _check_and_cancel(self) -> Outcome | Step:
        until = self.deadline if self.history.attempts else self.give_up_at
        try:
            async with self.client.reserve_cancel(
                self.target.run_id, self.kind, within=until - loop_time()
            ) as reserved:
                step = await self._read(reserved.check)
                if step is Step.CANCEL and self.listing is not None:
                    step = await self._check_listing(self.listing)
                return await self._cancel(reserved) if step is Step.CANCEL else step
        except (ExtendRateLimitError, ExtendNotSentError) as error:
            self.history.on_error(error)
            return Step.WAIT if self.history.attempts else self._deferred(None)
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
            self.history.on_error(ExtendTransportError("no read came in time"))
            return Outcome.UNCONFIRMED
        return Step.WAIT if step is Step.CANCEL else step

    async def _read(self, read: Callable[[], Awaitable[Run]], *, late: bool = False) -> Outcome | Step:
        """Read the run and decide."""
        try:
            self.latest = (await read()).without_document()
        except ExtendNotFoundError as error:
            self.history.on_error(error)
            self.history.missing_reads += 1
            if self.history.missing_reads >= REFUSAL_READS:
                return Outcome.NOT_FOUND
            return Outcome.UNCONFIRMED if late else Step.WAIT
        except ExtendCachedResponseError as error:
            self.history.on_error(error)
            if self.history.attempts:
                return Outcome.UNCONFIRMED if late else Step.WAIT
            return self._too_old(f"{error}")
        except ExtendError as error:
            return await self._unread(error, late=late)
        self.history.on_read(self.latest)
        if not self.history.attempts and not self.latest.is_terminal:
            self.age_minutes = self.age_minutes or self.latest.age_minutes
            self.last_change = self.latest.updated_at or self.last_change
        self.skip = self.recheck(self.latest, self.target)
        return next_step(self.latest, self.history, self.skip, late=late)

    async def _check_listing(self, listing: ListingWitness) -> Outcome | Step:
        """Check the run in its listing too, which says when it last changed: its own read does not."""
        self.listed = await listing.find(self.target)
        if self.latest is None or self.listed is None:
            self.skip = "it is no longer listed as in progress, and its own read has no times"
        else:
            target = Target.of(self.listed)
            self.skip = self.recheck(self.listed, target) or self.recheck(self.latest, target)
        return Step.CANCEL if self.skip is None else Step.WAIT if self.history.attempts else Outcome.SPARED

    async def _unread(self, error: ExtendError, *, late: bool = False) -> Outcome | Step:
        """What a failed read means."""
        self.history.on_error(error)
        is_of_account = isinstance(error, ACCOUNT_ERRORS) and await self.account.is_at_fault(error)
        if not self.history.attempts:
            if isinstance(error, ExtendRateLimitError | ExtendNotSentError):
                return self._deferred(None)
            return Outcome.ERROR
        return Outcome.UNCONFIRMED if late or is_of_account else Step.WAIT

    async def _cancel(self, reserved: ReservedCancel) -> Outcome | Step:
        """Send one cancel, right after a read that asked for it."""
        if (left := FRESH - self._age()) < 0:
            return self._too_old(too_old(self._age()))
        try:
            response = await reserved.send(self._before_send, left)
        except ExtendError as error:
            self.is_sending = False
            return await self._not_accepted(error)
        self.is_sending = False
        self.history.on_accepted(response.request_id, sent_at(response, self.client.now()))
        # A response with fewer fields than the read before is not the final object: the next read is.
        if self.latest is None or not response.is_terminal or not self.latest.raw.keys() <= response.raw.keys():
            return Step.WAIT
        self.latest = response.without_document()
        return next_step(response, self.history, None)

    def _before_send(self) -> None:
        """Right before a cancel's bytes leave: return, or raise ExtendNotSentError."""
        if self.stop.reason is not None:
            raise ExtendNotSentError("not sent: the sweep was stopped")
        if self._age() > FRESH:
            raise ExtendNotSentError("not sent: the check was too long ago")
        self.is_sending = True

    async def _not_accepted(self, error: ExtendError) -> Outcome | Step:
        if isinstance(error, ExtendNotSentError) and self.stop.reason is None and self._age() > FRESH:
            return self._too_old(too_old(self._age()))
        self.history.on_error(error)
        if isinstance(error, ExtendRateLimitError | ExtendNotSentError):
            return self._not_sent(error)
        what, words = response_to(error)
        self.history.on_sent(what, words)
        if isinstance(error, ACCOUNT_ERRORS) and await self.account.is_at_fault(error):
            # Further reads would fail too; they are worth it only where a cancel may have taken effect.
            return Step.WAIT if self.history.may_have_taken_effect else Outcome.ERROR
        return Step.WAIT

    def _not_sent(self, error: ExtendError) -> Outcome | Step:
        """What follows where a cancel was not carried out: a new check, since the last one grows old."""
        self.old_checks = 0
        if isinstance(error, ExtendRateLimitError) and error.status is not None:
            self.history.responses.append(str(error.status))
        if self.history.attempts:
            return Step.WAIT
        if self.stop.reason is not None or loop_time() >= self.give_up_at:
            return self._deferred(self.stop.reason)
        if isinstance(error, ExtendRateLimitError):
            return Step.AGAIN
        self.lost_connections += 1
        return Step.WAIT if self.lost_connections < OLD_CHECKS else Outcome.ERROR

    def result(self, outcome: Outcome) -> Result:
        """The result, for the report and the record."""
        said = reason(outcome, self.history, self.latest, skip=self.skip, unsent=self.unsent)
        result = Result.of(outcome, said, self.target, self.history, self.latest)
        return result.seen(self.age_minutes, self.last_change)

    def _age(self) -> float:
        """Seconds since the reads that the cancel rests on were requested, by any clock."""
        reads = [self.latest] if self.listing is None else [self.latest, self.listed]
        return age_of(reads, self.client.now())

    def _ends(self) -> float:
        """When to give up this step. A cancel that was sent is waited for, whatever stops the sweep."""
        if self.is_sending:
            return self.stop.deadline
        return self.deadline if self.stop.reason is None else -math.inf

    def _too_old(self, why: str) -> Outcome | Step:
        """What follows where a check was too old for its cancel."""
        if self.history.attempts:
            return Step.WAIT
        self.old_checks += 1
        if self.old_checks < OLD_CHECKS:
            return Step.AGAIN
        self.unsent = f"{OLD_CHECKS} checks in a row came back too old; {why}"
        return Outcome.ERROR

    def _deferred(self, why: str | None) -> Outcome:
        self.unsent = why or f"Extend's rate limit let no request through within {TURN_SECONDS:.0f} s"
        return Outcome.DEFERRED
