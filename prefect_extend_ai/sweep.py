"""The engine of a sweep: settle what an earlier one left open, then cancel in batches, each one written ahead.

The order of writes is the promise: note, then cancels, then records, then the note is closed. A process killed
between any two of them leaves a note from which the next sweep finds everything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect_extend_ai.cancellation import (
    ACCOUNT_ERRORS,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Settled,
    cancel_one,
)
from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import (
    ExtendAuthError,
    ExtendError,
    ExtendNotFoundError,
    ExtendUsageBlockedError,
    RecordError,
    RecordRefusedError,
)
from prefect_extend_ai.ledger import Ledger, Note
from prefect_extend_ai.report import Cancellation, Outcome
from prefect_extend_ai.runs import Run
from prefect_extend_ai.steps import ended
from prefect_extend_ai.stop import GivenUp, Stop, unless
from prefect_extend_ai.survey import Target
from prefect_extend_ai.witness import AccountWitness, ListingWitness

__all__ = ["ONE_RECORD_EACH", "Sweep", "batches", "runs_a_record"]

logger = logging.getLogger(__name__)

ONE_RECORD_EACH = 200
"""Up to so many runs in a sweep, each has a record of its own; beyond, the runs of a batch share one."""

BATCH = 50
"""Runs in a batch: what one note announces."""

SHARED_BATCH = 200
"""Runs in a batch where they share records: each batch costs Prefect three writes beside them, whatever its size."""

SHARED_RECORD = 50
"""Runs that share a record at least: more pages would cost more time, and longer ones are hard to read."""

RECORD_BYTES = 1_000_000
"""Runs stop sharing a record at this size: Prefect Cloud takes requests up to 5 MiB."""

RECORD_PATIENCE = 120.0
"""Seconds for which records are tried again once Prefect cannot be written to; then the note stays open."""

WRITE_PATIENCE = 75.0
"""Seconds that one write may take: a Prefect server on SQLite may stand still for a minute, and goes on then."""

MISSING_PATIENCE = timedelta(days=30)
"""For how long a run that is not found keeps its note open: without a workspace in the credentials, a note may be
another workspace's, whose own sweep will find the run."""


def runs_a_record(runs: int) -> int:
    """How many runs share a record in a sweep of so many, so that it never writes more than about ONE_RECORD_EACH."""
    return 1 if runs <= ONE_RECORD_EACH else max(SHARED_RECORD, -(-runs // (ONE_RECORD_EACH - BATCH)))


def batches(targets: Sequence[Target]) -> Iterator[Sequence[Target]]:
    """Cut the targets into batches, whole records each."""
    shared = runs_a_record(len(targets))
    size = BATCH if shared == 1 else shared * max(1, SHARED_BATCH // shared)
    return (targets[start : start + size] for start in range(0, len(targets), size))


@dataclass(slots=True)
class Sweep:
    """What the batches of one sweep share.

    Attributes:
        client: an open client.
        ledger: where notes and records are kept.
        spare: says why no cancel may go out for a run as just read, None where one may.
        stop: once set, no further cancel goes out.
        runs_a_record: how many runs share a record.
        concurrency: how many runs are between their check and their cancel at once.
        confirm_seconds: how long to wait for an accepted cancel to take.
        listing: vouches for the times of runs whose single read tells none; None where no times are asked for.
        clock, sleep, now: the clocks, for tests.
        unrecorded: ids of runs that ended and whose record could not be written.
    """

    client: ExtendClient
    ledger: Ledger
    spare: Callable[[Run, Target], str | None]
    stop: Stop = field(default_factory=Stop)
    runs_a_record: int = 1
    concurrency: int = 8
    confirm_seconds: float = 60
    listing: ListingWitness | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    unrecorded: set[str] = field(default_factory=set)
    _leftovers: dict[UUID, Note] = field(default_factory=dict)
    _settled: dict[str, UUID] = field(default_factory=dict)
    _handing_over: asyncio.Lock = field(default_factory=asyncio.Lock)
    _slots: asyncio.Semaphore = field(init=False)
    _account: AccountWitness = field(init=False)
    _writers: asyncio.Semaphore = field(init=False)
    _record_deadline: float | None = None

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.concurrency)
        self._account = AccountWitness(self.client, self.ledger.scope.kind, self.stop)
        # So many are made ready at once: rendering takes a thread, and the ledger writes one after the other.
        self._writers = asyncio.Semaphore(4)

    async def settle(self) -> list[Cancellation]:
        """Record what became final of the runs that earlier sweeps left open, and close their notes.

        Raises RecordError when Prefect cannot be asked, and the account's errors (wrong key, no credits).
        """
        settled: list[Cancellation] = []
        claimed: set[str] = set()
        # The newest note keeps a run that stands in several, so that it is recorded once.
        for found in reversed(await self.ledger.open_notes()):
            once = [run_id for run_id in found.run_ids if run_id not in claimed]
            note = found if len(once) == len(found.run_ids) else await self._narrow(found, once)
            claimed.update(once)
            if once:
                settled += await self._settle_note(note)
        return settled

    async def cancel_batch(self, targets: Sequence[Target]) -> list[Cancellation]:
        """Cancel these runs and record how each ended; never raises for what happens to one of them."""
        # Listings may lag behind reads, and show what was settled a moment ago.
        why = "it had ended, and was recorded as this sweep began"
        done = {
            target.run_id: target.cancellation(Outcome.SPARED, why).model_copy(update={"record": record})
            for target in targets
            if (record := self._settled.get(target.run_id))
        }
        if fresh := [target for target in targets if target.run_id not in done]:
            done |= {each.run_id: each for each in await self._cancel_fresh(fresh)}
        return [done[target.run_id] for target in targets]

    async def _cancel_fresh(self, targets: Sequence[Target]) -> list[Cancellation]:
        if (reason := self.stop.reason) is not None:
            return [target.cancellation(Outcome.DEFERRED, reason) for target in targets]
        try:
            note = await self.ledger.open([target.run_id for target in targets])
            handed_over = await self._hand_over(note)
        except RecordError as error:
            reason = f"nothing more was cancelled, because it could not be written down first: {error}"
            self.stop.set(reason, error)
            return [target.cancellation(Outcome.DEFERRED, reason) for target in targets]
        results = await asyncio.gather(*(self._one(note, target) for target in targets))
        records: dict[str, UUID] = {}
        for chunk in _by_size(results, self.runs_a_record):
            records |= await self._record(note, chunk)
        # An earlier sweep's cancel may still take effect on a run that it left open, whatever became of ours.
        unsettled = {
            each.cancellation.run_id
            for each in results
            if each.open or (each.cancellation.run_id in handed_over and not each.cancellation.outcome.is_end)
        }
        await self._close(note, unsettled | self.unrecorded.intersection(note.run_ids))
        return [each.recorded_in(records.get(each.cancellation.run_id, each.cancellation.record)) for each in results]

    async def _one(self, note: Note, target: Target) -> Settled:
        try:
            settled = await cancel_one(
                self.client,
                self.ledger.scope.kind,
                target,
                spare=self.spare,
                stop=self.stop,
                slot=self._slots,
                confirm_seconds=self.confirm_seconds,
                account=self._account,
                listing=self.listing,
                clock=self.clock,
                sleep=self.sleep,
            )
        except Exception as error:
            # One bad run never stops the sweep; whether its cancel went out is not known, so its note stays open.
            logger.exception("Unexpected trouble with run %s", target.run_id)
            reason = f"unexpected {type(error).__name__}; see the log"
            return Settled(Cancellation(run_id=target.run_id, outcome=Outcome.ERROR, reason=reason), open=True)
        if settled.final is None or self.runs_a_record > 1:
            return settled
        records = await self._record(note, [settled])
        # The object is let go as soon as it is recorded, for memory's sake.
        cancellation = settled.recorded_in(records.get(target.run_id))
        return Settled(cancellation, open=settled.open, attempts=settled.attempts)

    async def _settle_note(self, note: Note) -> list[Cancellation]:
        recorded = await self.ledger.recorded(note)
        self._settled |= recorded
        missing = [run_id for run_id in note.run_ids if run_id not in recorded]
        found = await asyncio.gather(*(self._look_again(note, run_id) for run_id in missing))
        if isinstance(self.stop.error, ACCOUNT_ERRORS):
            raise self.stop.error
        finals = [each for each in found if isinstance(each, Settled)]
        chunks = _by_size(finals, 1 if len(finals) <= BATCH else SHARED_RECORD)
        settled: list[Cancellation] = []
        for chunk in chunks:
            records = await self._record(note, chunk)
            settled += [
                each.recorded_in(records[run_id]) for each in chunk if (run_id := each.cancellation.run_id) in records
            ]
            self._settled |= records
        kept = [run_id for run_id, each in zip(missing, found, strict=True) if each is None]
        kept += self.unrecorded.intersection(note.run_ids)
        if len(kept) < len(note.run_ids):
            note = await self._narrow(note, kept)
        if kept:
            self._leftovers[note.id] = note
        return settled

    async def _look_again(self, note: Note, run_id: str) -> Settled | Outcome | None:
        """How a run of an open note ended; an outcome where it is gone for good, None where it stays open."""
        try:
            async with self._slots:
                if self.stop.reason is not None:
                    return None
                reading = self.client.get_run(run_id, self.ledger.scope.kind)
                run = await unless(lambda: self.stop.reason is not None, reading)
        except GivenUp:
            return None
        except ExtendNotFoundError:
            return Outcome.NOT_FOUND if self.now() - note.opened_at > MISSING_PATIENCE else None
        except (ExtendAuthError, ExtendUsageBlockedError) as error:  # a 403 may be about this run alone
            self.stop.set(f"the sweep was stopped by an error: {error}", error)
            return None
        except ExtendError as error:
            logger.warning("Run %s of an earlier sweep could not be read, and stays open: %s", run_id, error)
            return None
        if not run.is_terminal:
            return None
        cancellation = Cancellation(
            run_id=run_id,
            outcome=ended(run, ours=True),
            reason="left open by an earlier sweep that was interrupted, or that could not confirm it in time",
            status=run.status,
            dashboard_url=run.dashboard_url,
        )
        return Settled(cancellation, run)

    async def _hand_over(self, note: Note) -> set[str]:
        """A run left open by an earlier sweep and selected again stands in this sweep's note alone from here on."""
        handed_over: set[str] = set()
        # One batch after another: each narrows what the one before it has left.
        async with self._handing_over:
            for leftover in list(self._leftovers.values()):
                ours = set(leftover.run_ids).intersection(note.run_ids)
                if ours:
                    rest = [run_id for run_id in leftover.run_ids if run_id not in ours]
                    self._leftovers[leftover.id] = await self._narrow(leftover, rest)
                handed_over |= ours
        return handed_over

    async def _narrow(self, note: Note, still_open: Collection[str]) -> Note:
        await self.ledger.close(note, still_open)
        return note.model_copy(update={"run_ids": list(still_open)})

    async def _close(self, note: Note, still_open: Collection[str]) -> None:
        try:
            async with asyncio.timeout(self._record_seconds()):
                await self.ledger.close(note, still_open)
        except (RecordError, TimeoutError) as error:
            # Harmless: the next sweep finds the records, and closes it.
            why = str(error) or "Prefect did not answer in time"
            logger.warning("The note of a batch could not be closed; the next sweep will: %s", why)

    async def _record(self, note: Note, finals: Sequence[Settled]) -> dict[str, UUID]:
        """Record ended runs, trying again within the patience; where each is. The note stays open for the others."""
        left = [each for each in finals if each.final is not None]
        done: dict[str, UUID] = {}
        pause, again = FIRST_PAUSE, False
        while self._record_seconds() > 0:
            try:
                async with self._writers, asyncio.timeout(self._record_seconds()):
                    if again:
                        # A write that failed may have been made all the same, its answer lost.
                        done = await self.ledger.recorded(note)
                        left = [each for each in left if each.cancellation.run_id not in done]
                    if left:
                        pairs = [(each.final, each.cancellation) for each in left if each.final is not None]
                        record = await self.ledger.record(note, pairs)
                        done |= {each.cancellation.run_id: record for each in left}
                    return done
            except RecordRefusedError as error:
                return done | await self._record_apart(note, left, error)
            except (RecordError, TimeoutError) as error:
                self._cannot_record(error)
            except Exception as error:  # noqa: BLE001 - a document that cannot be rendered stops nothing
                return done | await self._record_apart(note, left, error)
            await self.sleep(pause)
            pause, again = min(pause * 2, LONGEST_PAUSE), True
        self.unrecorded.update(each.cancellation.run_id for each in left)
        return done

    def _record_seconds(self) -> float:
        """How long the next write may take."""
        left = self._record_deadline - self.clock() if self._record_deadline is not None else WRITE_PATIENCE
        return min(left, WRITE_PATIENCE)

    def _cannot_record(self, error: RecordError | TimeoutError) -> None:
        """Stop cancelling, and give the records of all runs in hand the same time."""
        if self._record_deadline is None:
            self._record_deadline = self.clock() + RECORD_PATIENCE
        if isinstance(error, TimeoutError):
            error = RecordError("Prefect's API did not answer a write in time: look whether it is up")
        self.stop.set(f"no further cancel was sent, because records cannot be written: {error}", error)

    async def _record_apart(self, note: Note, finals: Sequence[Settled], error: Exception) -> dict[str, UUID]:
        """Record in halves what cannot be recorded together: only a run that cannot be recorded goes without."""
        if len(finals) > 1:
            half = len(finals) // 2
            return await self._record(note, finals[:half]) | await self._record(note, finals[half:])
        (run_id,) = (each.cancellation.run_id for each in finals)
        self.unrecorded.add(run_id)
        unexpected = error if not isinstance(error, RecordRefusedError) else None
        logger.error("Run %s could not be recorded, and its note stays open: %s", run_id, error, exc_info=unexpected)
        return {}


def _by_size(results: Sequence[Settled], most: int) -> Iterator[list[Settled]]:
    """Cut the ended runs into groups that may share a record, of so many at most."""
    group: list[Settled] = []
    size = 0
    for each in results:
        if each.final is None:
            continue
        if len(group) == most or (group and size + len(each.final.text) > RECORD_BYTES):
            yield group
            group, size = [], 0
        group.append(each)
        size += len(each.final.text)
    if group:
        yield group
