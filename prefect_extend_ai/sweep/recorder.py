"""Durable writes of final objects: retried, in halves where several are refused together, bounded in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from prefect_extend_ai.errors import RecordError, RecordRefusedError
from prefect_extend_ai.runs import loop_time
from prefect_extend_ai.sweep.cancelling import FIRST_PAUSE, LONGEST_PAUSE
from prefect_extend_ai.sweep.journal import CancelIntent, Journal
from prefect_extend_ai.sweep.plans import PlansLeft
from prefect_extend_ai.sweep.report import PendingCancel
from prefect_extend_ai.sweep.result import Result
from prefect_extend_ai.sweep.stop import Stop

__all__ = ["RECORD_BYTES", "Recorder", "Shelf"]

logger = logging.getLogger(__name__)

RECORD_BYTES = 1_000_000
"""Runs stop sharing a record at this size: Prefect Cloud takes requests up to 5 MiB."""

RECORD_PATIENCE = 120.0
"""Seconds for which records are retried while Prefect cannot be written to; then the intent stays open."""

WRITE_PATIENCE = 75.0
"""Seconds for one write: a Prefect server on SQLite may block for a minute."""

TRIES = 3
"""Attempts for a record that Prefect rejects while it accepts others; then the run goes without."""

WITNESS_SECONDS = 15.0
"""Seconds to find out whether Prefect can be written to at all."""

RECORDED_ELSEWHERE = "another sweep has cancelled or found it, and recorded it, at the same time"

WAITING_BYTES = 32_000_000
"""Characters of final objects that may wait for their record before further runs are read."""


_Late = tuple[CancelIntent, Mapping[str, PendingCancel | None], Collection[str], PlansLeft | None]


class Recorder:
    """Writes records and completes intents for one sweep; what cannot be written stays open for the next sweep.

    Args:
        journal: where they are kept.
        stop: set once Prefect cannot be written to, so that nothing more is cancelled.

    Attributes:
        unrecorded: ids of runs that ended and whose record could not be written.
    """

    def __init__(self, journal: Journal, stop: Stop) -> None:
        self.journal = journal
        self.stop = stop
        self.unrecorded: set[str] = set()
        self._deadline: float | None = None
        self._lost: RecordError | None = None
        self._patience = WRITE_PATIENCE
        # Rendering takes a thread each; the journal writes one after the other.
        self._writers = asyncio.Semaphore(4)
        self._waiting = 0
        self._room = asyncio.Event()
        self._room.set()
        self._late: dict[UUID, _Late] = {}

    async def room(self) -> None:
        """Return once few enough final objects wait for their record to read another."""
        await self._room.wait()

    def hold(self, final: Result) -> None:
        """A final object waits for its record from now on, until `record`."""
        self._wait_for(_size(final))

    async def record(self, intent: CancelIntent, finals: Sequence[Result]) -> dict[str, UUID]:
        """Record these ended runs, within the patience; where each is. The intent stays open for the others."""
        try:
            return await self._record(intent, finals)
        finally:
            self._wait_for(-sum(map(_size, finals)))

    async def recorded_elsewhere(self, intent: CancelIntent) -> set[str] | None:
        """Those of its runs that another sweep has recorded; None where Prefect does not say."""
        pause, tries = FIRST_PAUSE, 0
        while self._seconds() > 0:
            try:
                async with asyncio.timeout(self._seconds()):
                    return await self.journal.recorded_elsewhere(intent)
            except (RecordError, TimeoutError) as error:
                tries += 1
                if not await self._is_writable():
                    self._cannot_record(error)
                elif tries >= TRIES:
                    break
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        return None

    async def complete(
        self,
        intent: CancelIntent,
        still_open: Mapping[str, PendingCancel | None],
        recorded: Collection[str] = (),
        plans: PlansLeft | None = None,
    ) -> None:
        """Complete an intent, or leave it open for these runs. What fails is retried by `finish`."""
        try:
            async with asyncio.timeout(self._seconds()):
                await self.journal.complete(intent, still_open, recorded=recorded, plans=plans)
            self._late.pop(intent.id, None)
        except (RecordError, TimeoutError) as error:
            self._late[intent.id] = (intent, still_open, recorded, plans)
            why = str(error) or "Prefect did not answer in time"
            logger.warning("The intent of a batch could not be completed, and will be at the end: %s", why)

    async def finish(self) -> None:
        """Complete what could not be completed before. Harmless where it fails: the next sweep finds the records.

        Where all is recorded after a wait for Prefect, the wait was not an error.
        """
        for late in list(self._late.values()):
            await self.complete(*late)
        if not self.unrecorded and not self._late:
            self.stop.overcome(self._lost)

    async def _record(self, intent: CancelIntent, finals: Sequence[Result]) -> dict[str, UUID]:
        left = [each for each in finals if each.final is not None]
        done: dict[str, UUID] = {}
        pause, tries = FIRST_PAUSE, 0
        while self._seconds() > 0:
            try:
                async with self._writers, asyncio.timeout(self._seconds()):
                    if tries:
                        # A write that failed may have been made all the same, its answer lost.
                        found = await self.journal.recorded(intent)
                        done = {run_id: each.artifact_id for run_id, each in found.items()}
                        left = [each for each in left if each.cancellation.run_id not in done]
                    if left:
                        pairs = [(each.final, each.cancellation) for each in left if each.final is not None]
                        record = await self.journal.record(intent, pairs)
                        done |= {each.cancellation.run_id: record for each in left}
                    return done
            except RecordRefusedError as error:
                return done | await self._record_apart(intent, left, error)
            except (RecordError, TimeoutError) as error:
                tries += 1
                if not await self._is_writable():
                    self._cannot_record(error)
                elif tries >= TRIES or isinstance(error, TimeoutError):
                    # Prefect takes others at once, so the next one that hangs is not waited for as long.
                    self._patience = WITNESS_SECONDS if isinstance(error, TimeoutError) else self._patience
                    return done | await self._record_apart(intent, left, error)
            except Exception as error:  # noqa: BLE001 - a document that cannot be rendered stops nothing
                return done | await self._record_apart(intent, left, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        self.unrecorded.update(each.cancellation.run_id for each in left)
        return done

    async def _is_writable(self) -> bool:
        """Whether Prefect takes anything at all: the fault is this record's own then, and stops nothing else."""
        try:
            async with asyncio.timeout(min(WITNESS_SECONDS, max(self._seconds(), 0))):
                return await self.journal.is_writable()
        except TimeoutError:
            return False

    def _seconds(self) -> float:
        """How long the next write may take."""
        now = loop_time()
        return min(self._deadline - now if self._deadline is not None else self._patience, self._patience)

    def _cannot_record(self, error: RecordError | TimeoutError) -> None:
        """Stop cancelling, and give all records in progress the same deadline."""
        if self._deadline is None:
            self._deadline = loop_time() + RECORD_PATIENCE
        if isinstance(error, TimeoutError):
            error = RecordError("Prefect's API did not answer a write in time: look whether it is up")
        self._lost = self._lost or error
        self.stop.set(f"no further cancel was sent, because records cannot be written: {error}", error)

    async def _record_apart(self, intent: CancelIntent, finals: Sequence[Result], error: Exception) -> dict[str, UUID]:
        """Record in halves what cannot be recorded together: only a run that cannot be recorded goes without."""
        if len(finals) > 1:
            half = len(finals) // 2
            return await self._record(intent, finals[:half]) | await self._record(intent, finals[half:])
        (run_id,) = (each.cancellation.run_id for each in finals)
        self.unrecorded.add(run_id)
        unexpected = None if isinstance(error, RecordError | TimeoutError) else error
        why = str(error) or "Prefect did not answer in time"
        logger.error("Run %s could not be recorded, and its intent stays open: %s", run_id, why, exc_info=unexpected)
        return {}

    def _wait_for(self, characters: int) -> None:
        self._waiting += characters
        (self._room.set if self._waiting < WAITING_BYTES else self._room.clear)()


@dataclass(slots=True)
class Shelf:
    """Where the ended runs of one intent share records: up to `most` in one, or `RECORD_BYTES`."""

    recorder: Recorder
    intent: CancelIntent
    most: int
    records: dict[str, UUID] = field(default_factory=dict)
    _group: list[Result] = field(default_factory=list)
    _bytes: int = 0

    async def put(self, final: Result) -> None:
        """Record a run, at once or with the next ones."""
        self.recorder.hold(final)
        # Again after each wait: others may have put theirs meanwhile.
        while self._group and self._bytes + _size(final) > RECORD_BYTES:
            await self.flush()
        self._group.append(final)
        self._bytes += _size(final)
        if len(self._group) >= self.most or self._bytes >= RECORD_BYTES:
            await self.flush()

    async def put_untouched(self, results: Sequence[Result]) -> list[Result]:
        """Record runs that had ended before any cancel of ours, except those that another sweep has recorded."""
        if not any(each.final is not None for each in results):
            return list(results)
        elsewhere = await self.recorder.recorded_elsewhere(self.intent)
        if elsewhere is None:
            # The next sweep records them: a record now might be their second.
            self.recorder.unrecorded.update(each.cancellation.run_id for each in results if each.final is not None)
            return [replace(each, final=None) for each in results]
        done: list[Result] = []
        for each in results:
            cancellation = each.cancellation
            if each.final is not None and cancellation.run_id in elsewhere:
                cancellation = cancellation.model_copy(update={"reason": RECORDED_ELSEWHERE})
            elif each.final is not None:
                await self.put(each)
            done.append(replace(each, cancellation=cancellation, final=None))
        return done

    async def flush(self) -> None:
        """Record what waits."""
        group, self._group, self._bytes = self._group, [], 0
        if group:
            self.records |= await self.recorder.record(self.intent, group)


def _size(final: Result) -> int:
    return len(final.final.text) if final.final is not None else 0
