"""The engine of a sweep: recover what earlier ones left pending, then cancel in batches, each written ahead.

The order of writes is the promise: intent, then cancels, then records, then the intent is completed. A process killed
between any two of them leaves an intent from which the next sweep finds everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.sweep.cancelling import cancel_one
from prefect_extend_ai.sweep.division import Division, divide
from prefect_extend_ai.sweep.journal import CancelIntent, Journal
from prefect_extend_ai.sweep.recorder import Recorder, Shelf
from prefect_extend_ai.sweep.recovery.open_after import left_open
from prefect_extend_ai.sweep.recovery.open_runs import OpenRuns
from prefect_extend_ai.sweep.recovery.pending import worth_reporting
from prefect_extend_ai.sweep.recovery.recovery import Recovery
from prefect_extend_ai.sweep.report import Cancellation, OpenElsewhere, Outcome, PendingCancel, PendingResubmission
from prefect_extend_ai.sweep.resubmission.results import plans_left, with_resubmit
from prefect_extend_ai.sweep.resubmission.submitting import Resubmitter
from prefect_extend_ai.sweep.result import Result
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.selectors import Selection, Selector
from prefect_extend_ai.sweep.stop import Stop
from prefect_extend_ai.sweep.witness import ACCOUNT_ERRORS, AccountWitness, ListingWitness

__all__ = ["Sweep"]

logger = logging.getLogger(__name__)

HANDLED = "another sweep is handling it"
ENDED_BEFORE = "it had ended, and was recorded as this sweep began"


@dataclass(slots=True)
class Sweep:
    """What the batches of one sweep share.

    Attributes:
        client: an open client.
        journal: where intents and records are kept.
        selector: selects the runs, and checks each again right before its cancel.
        stop: once set, no further cancel is sent.
        raises_alarms: whether this sweep raises alarms about runs that have been pending for long.
        runs_a_record: how many runs share a record.
        concurrency: how many runs are between their check and their cancel at once.
        confirm_seconds: how long to wait for an accepted cancel to take.
    """

    client: ExtendClient
    journal: Journal
    selector: Selector
    stop: Stop = field(default_factory=Stop)
    raises_alarms: bool = False
    runs_a_record: int = 1
    concurrency: int = 8
    confirm_seconds: float = 60
    _slots: asyncio.Semaphore = field(init=False)
    _account: AccountWitness = field(init=False)
    _listing: ListingWitness | None = field(init=False)
    _recorder: Recorder = field(init=False)
    _recovery: Recovery = field(init=False)
    _resubmitter: Resubmitter = field(init=False)
    _asked: dict[str, PendingCancel | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.concurrency)
        self._listing = self.selector.witness(self.client)
        self._account = AccountWitness(self.client, self.journal.scope.kind, self.stop)
        self._recorder = Recorder(self.journal, self.stop)
        runs = OpenRuns(
            self.client, self.journal, self.stop, self._slot, self._account, raises_alarms=self.raises_alarms
        )
        self._resubmitter = Resubmitter(self.client, self.journal, self.stop)
        self._recovery = Recovery(runs, self._recorder, self._resubmitter)

    async def select(self) -> Selection:
        """Select the runs. Raises ExtendError where they cannot be found."""
        return await self.selector.select(self.client, self.stop)

    async def recover(self, own_runs: set[str] | None = None) -> list[Cancellation]:
        """Record what has ended of the runs that earlier sweeps left open.

        Args:
            own_runs: only these runs, and only what an earlier attempt of this very flow or task run left.

        Raises RecordError when Prefect cannot be asked, and the account's errors (wrong key, no credits).
        """
        return await self._recovery.begin(own_runs)

    @property
    def has_more(self) -> bool:
        """Whether `recover` has left something for `recover_more`."""
        return self._recovery.has_more

    async def recover_more(self, seconds: float) -> list[Cancellation]:
        """Go on with what `recover` has left, for this many seconds; raises the same."""
        return await self._recovery.go_on(seconds)

    async def finish(self) -> None:
        """Remember the alarms that this sweep raises, and complete the intents that could not be completed before."""
        if self.raises_alarms:
            await self._recovery.left.remember_alarms()
        await self._recorder.finish()

    async def resubmit_earlier(self) -> None:
        """Submit what earlier sweeps were to submit again, and look for what they may have.

        Not for a dry run, nor where a guard refused the sweep. Raises RecordError when Prefect cannot be written to.
        """
        await self._recovery.resubmit()

    @property
    def resubmissions(self) -> list[PendingResubmission]:
        """Documents of earlier sweeps' runs that were to be submitted again, and what is known of each."""
        return self._recovery.resubmissions

    @property
    def pending(self) -> list[PendingCancel]:
        """Runs that earlier sweeps left open and that have not ended by now, oldest first."""
        found = self._recovery.pending | self._asked
        open_ = [each for run_id, each in found.items() if each is not None and run_id not in self._recovery.ended]
        return worth_reporting(open_, self.client.now().time)

    @property
    def open_elsewhere(self) -> OpenElsewhere | None:
        """Open intents that this account cannot read; None where there are none."""
        return self._recovery.open_elsewhere()

    @property
    def unrecorded(self) -> int:
        """How many runs ended in this sweep whose record could not be written."""
        return len(self._recorder.unrecorded - self._recovery.pending.keys())

    def divide(self, targets: Sequence[Target]) -> Division:
        """Tell the runs to cancel from those that an earlier sweep left open and that must wait."""
        if self.selector.is_named:
            return Division(list(targets), [], 0)
        open_ = {run_id: each for run_id, each in self._recovery.pending.items() if run_id not in self._recovery.ended}
        return divide(targets, open_, self._recovery.runs.unread)

    async def cancel_batch(
        self, targets: Sequence[Target], on_done: Callable[[], None] = lambda: None
    ) -> list[Cancellation]:
        """Cancel these runs and record how each ended; never raises for what happens to one of them.

        Args:
            targets: the runs.
            on_done: called for each once it is known how it ended.
        """
        done = {target.run_id: ended for target in targets if (ended := self._ended_before(target)) is not None}
        if fresh := [target for target in targets if target.run_id not in done]:
            done |= {each.run_id: each for each in await self._cancel_fresh(fresh, on_done)}
        return [done[target.run_id] for target in targets]

    def _ended_before(self, target: Target) -> Cancellation | None:
        """The outcome of a run that ended before: a listing may lag behind, and a person may name it."""
        ended = self._recovery.ended.get(target.run_id)
        if ended is None or self.selector.is_named:
            return ended
        return target.cancellation(Outcome.SPARED, ENDED_BEFORE).model_copy(update={"record": ended.record})

    async def _cancel_fresh(self, targets: Sequence[Target], on_done: Callable[[], None]) -> list[Cancellation]:
        if (reason := self.stop.reason) is not None:
            return [target.cancellation(Outcome.DEFERRED, reason) for target in targets]
        earlier = self._recovery.left.plans_of({target.run_id for target in targets})
        plans = self._resubmitter.plans(targets, earlier, named=self.selector.is_named)
        try:
            intent = await self.journal.log([target.run_id for target in targets], plans)
            contested = await self.journal.contested(intent)
            adopted = await self._recovery.left.adopt(intent)
        except RecordError as error:
            reason = f"nothing more was cancelled, because it could not be written down first: {error}"
            self.stop.set(reason, error)
            return [target.cancellation(Outcome.DEFERRED, reason) for target in targets]
        shelf = Shelf(self._recorder, intent, self.runs_a_record)

        async def one(target: Target) -> Result:
            result = await self._one(target, shelf, contested, intent)
            on_done()
            return result

        results = await asyncio.gather(*(one(target) for target in targets))
        results = await shelf.put_untouched(results)
        await shelf.flush()
        still_open = left_open(
            (each for each in results if each.cancellation.run_id not in contested),
            adopted,
            self._recorder.unrecorded,
            account_failed=isinstance(self.stop.error, ACCOUNT_ERRORS),
            now=self.client.now().time,
        )
        # One that no earlier sweep has reported is this sweep's own news.
        self._asked |= {
            run_id: still_open.get(run_id) for run_id, before in adopted.items() if before.outcome is not None
        }
        for run_id in adopted:
            self._recovery.pending.pop(run_id, None)
        known = {run_id: each and each.model_copy(update={"is_news": False}) for run_id, each in still_open.items()}
        again = await self._resubmitter.submit_batch(intent, results, known, shelf.records, adopted)
        await self._recorder.complete(intent, known, shelf.records, plans_left(intent, known, again))
        return [
            with_resubmit(again.get(run_id), each.recorded_in(shelf.records.get(run_id, each.cancellation.record)))
            for each in results
            if (run_id := each.cancellation.run_id)
        ]

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Bounds the runs that are read at once, and the final objects that wait for their record."""
        async with self._slots:
            await self._recorder.room()
            yield

    async def _one(self, target: Target, shelf: Shelf, contested: set[str], intent: CancelIntent) -> Result:
        if target.run_id in contested:
            return Result(target.cancellation(Outcome.DEFERRED, HANDLED))
        try:
            result = await cancel_one(
                self.client,
                self.journal.scope.kind,
                target,
                recheck=self.selector.recheck,
                stop=self.stop,
                slot=self._slot(),
                confirm_seconds=self.confirm_seconds,
                account=self._account,
                listing=self._listing,
            )
        except Exception as error:
            # One bad run never stops the sweep; a cancel of it may have been sent, so its intent stays open.
            logger.exception("Unexpected failure with run %s", target.run_id)
            reason = f"unexpected {type(error).__name__}; see the log"
            return Result(target.cancellation(Outcome.ERROR, reason), open=True, attempts=1)
        if result.final is None or not result.attempts:
            return result
        result = await self._resubmitter.decide(result, intent.resubmit.get(target.run_id))
        await shelf.put(result)
        return replace(result, final=None)  # recorded: free its memory
