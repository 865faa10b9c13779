"""The journal in Prefect's artifacts.

A pending intent is an artifact of type json under its scope's key; completing it writes a markdown version of the same
key and deletes the pending one. So one key tells the history of what was announced, and one filtered read finds what is
pending.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from prefect import runtime
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import Artifact

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.prefect_io.artifacts import ArtifactStore
from prefect_extend_ai.prefect_io.flow_runs import FlowRuns
from prefect_extend_ai.prefect_io.intents import (
    age,
    read_pending,
    recently_recorded,
    recently_sent,
    write_completed,
    write_pending,
)
from prefect_extend_ai.prefect_io.liveness import sweep_host, sweep_is_alive, sweep_lock
from prefect_extend_ai.prefect_io.records import find_records, write_record
from prefect_extend_ai.prefect_io.resends import ask_again_soon, note_response, note_send
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.journal import CancelIntent, Recorded, Scope
from prefect_extend_ai.sweep.plans import PlansLeft, ResubmitPlan
from prefect_extend_ai.sweep.report import Cancellation, PendingCancel

__all__ = ["PrefectJournal", "prefect_journal"]

logger = logging.getLogger(__name__)

BATCH_LASTS = timedelta(minutes=10)
"""How long the runs of one intent are at work at most, beside the time to confirm a cancel."""

RECENT = timedelta(hours=1)
"""How far back a sweep looks for what others have recorded at the same time; none lasts longer by default."""

RENEW_AFTER = timedelta(days=1)
"""An open entry that is older is written again by the next sweep, so that none gets as old as Prefect keeps things."""

_at_work: set[UUID] = set()
"""Intents that a sweep in this process is at work on."""


@contextlib.asynccontextmanager
async def prefect_journal(
    credentials: ExtendCredentials, kind: RunKind, rule: str, confirm_seconds: float = 60
) -> AsyncIterator[PrefectJournal]:
    """The journal of the flow run, or lone task run, that this is called in; shown as alive while it is open.

    Args:
        credentials: whose account.
        kind: the kind of run.
        rule: what selects the runs, in words, for people who find a pending intent.
        confirm_seconds: how long an accepted cancel may take to be confirmed.
    """
    flow_run_id, task_run_id = (UUID(run.id) if run.id else None for run in (runtime.flow_run, runtime.task_run))
    hooks = {"request": [note_send], "response": [note_response, ask_again_soon]}
    async with get_client(httpx_settings={"event_hooks": hooks}) as client:
        with sweep_lock(flow_run_id or task_run_id):
            scope = Scope(kind=kind, api_url=credentials.api_url, workspace_id=credentials.workspace_id)
            journal = PrefectJournal(
                client,
                scope,
                flow_run_id=flow_run_id,
                task_run_id=task_run_id,
                rule=rule,
                lasts=BATCH_LASTS + timedelta(seconds=confirm_seconds),
            )
            try:
                yield journal
            finally:
                await journal.finish()


class PrefectJournal:
    """A `prefect_extend_ai.sweep.journal.Journal` in the artifacts of the Prefect that `client` talks to."""

    def __init__(
        self,
        client: PrefectClient,
        scope: Scope,
        *,
        flow_run_id: UUID | None,
        task_run_id: UUID | None = None,
        rule: str = "",
        lasts: timedelta = BATCH_LASTS,
    ) -> None:
        self.store = ArtifactStore(client)
        self.flow_runs = FlowRuns(self.store)
        self.scope = scope
        self.flow_run_id = flow_run_id
        self.task_run_id = task_run_id
        self.rule = rule
        self._lasts = lasts
        self._artifacts: dict[UUID, UUID] = {}
        self._logged: set[UUID] = set()
        self._old: dict[UUID, CancelIntent] = {}
        self._recorded: dict[UUID | None, dict[UUID, dict[str, Recorded]]] = {}

    @property
    def is_second_attempt(self) -> bool:
        """Whether the flow run or task run that this is called in was started before (Prefect's `retries`)."""
        return max(runtime.flow_run.run_count or 0, runtime.task_run.run_count or 0) > 1

    def owns(self, intent: CancelIntent) -> bool:
        """Whether an attempt of this very flow run or task run logged the intent."""
        return self._owner is not None and self._owner == (intent.flow_run_id or intent.task_run_id)

    async def log(self, run_ids: Sequence[str], resubmit: Mapping[str, ResubmitPlan] | None = None) -> CancelIntent:
        """Write ahead. Raises RecordError when Prefect does not take the intent."""
        now = datetime.now(UTC)
        intent = CancelIntent(
            id=uuid4(),
            scope=self.scope,
            run_ids=list(run_ids),
            resubmit=dict(resubmit or {}),
            opened_at=now,
            until=now + self._lasts,
            host=sweep_host(),
            flow_run_id=self.flow_run_id,
            task_run_id=self.task_run_id,
            rule=self.rule,
        )
        _at_work.add(intent.id)
        self._logged.add(intent.id)
        self._artifacts[intent.id] = await write_pending(self.store, intent, self._owners)
        return intent

    async def contested(self, intent: CancelIntent) -> set[str]:
        """Those of its runs that an older intent of another sweep names which may still be at work."""
        mine = set(intent.run_ids)
        theirs: set[str] = set()
        own = self._artifacts[intent.id]
        found = await self._all_pending()
        ours = next((age(artifact) for artifact, _ in found if artifact.id == own), None)
        for artifact, other in found:
            overlap = mine.intersection(other.run_ids)
            if other.id != intent.id and overlap and (ours is None or age(artifact) < ours):
                theirs |= overlap if await self._is_at_work(other) else set()
        return theirs

    async def claim(self, intent: CancelIntent, *, by_hand: bool = False) -> set[str]:
        """Write down that creates are about to be sent; which must not be, because another intent has claimed them."""
        before = self._artifacts.get(intent.id)
        own = await write_pending(self.store, intent, self._owners)
        self._artifacts[intent.id] = own
        if before is not None:
            self.store.delete(before)
        mine = {run_id for run_id, plan in intent.resubmit.items() if plan.state == "sending"}
        found = await self._all_pending()
        ours = next((age(artifact) for artifact, _ in found if artifact.id == own), None)
        theirs: set[str] = set()
        for artifact, other in found:
            if other.id == intent.id:
                continue
            theirs.update(other.resubmitted, () if by_hand else other.sent_in_vain)
            is_older = ours is None or age(artifact) < ours
            theirs |= {
                id_ for id_, plan in other.resubmit.items() if plan.was_sent and (is_older or plan.state == "unknown")
            }
        planned = [plan.planned_at or intent.opened_at for run_id, plan in intent.resubmit.items() if run_id in mine]
        since = min(planned, default=intent.opened_at) - RECENT
        return mine & (theirs | await recently_sent(self.store, self.scope.kind, since, in_vain=not by_hand))

    async def record(self, intent: CancelIntent, finals: Sequence[tuple[Run, Cancellation]]) -> UUID:
        """Keep these final objects in one artifact, or a large one in several. Raises RecordError when that fails."""
        return await write_record(self.store, intent, finals)

    async def recorded(self, intent: CancelIntent) -> dict[str, Recorded]:
        """Which of the intent's runs are recorded, by what the records' metadata say."""
        owner = intent.flow_run_id or intent.task_run_id
        # Nobody records for a sweep that is over: its records need no second read.
        if owner == self._owner or owner not in self._recorded:
            self._recorded[owner] = await find_records(self.store, intent.flow_run_id, intent.task_run_id)
        return self._recorded[owner].get(intent.id, {})

    async def recorded_elsewhere(self, intent: CancelIntent) -> set[str]:
        """Those of its runs that another sweep recorded within the last hour, even if it ended before it said so."""
        found: set[str] = set()
        for _, other in await self._all_pending():
            found.update(other.recorded)
            is_shared = other.id != intent.id and not {*other.run_ids}.isdisjoint(intent.run_ids)
            if is_shared and not await self._is_at_work(other):
                # It ended after its records and before it could complete their intent.
                found.update(await self.recorded(other))
        found |= await recently_recorded(self.store, self.scope.kind, datetime.now(UTC) - RECENT)
        return found.intersection(intent.run_ids)

    async def recorded_earlier(self) -> dict[str, Recorded]:
        """What an earlier attempt of this very flow run or task run has recorded."""
        if not self.is_second_attempt:
            return {}
        found = await find_records(self.store, self.flow_run_id, self.task_run_id)
        return {run_id: where for of_intent in found.values() for run_id, where in of_intent.items()}

    async def complete(
        self,
        intent: CancelIntent,
        still_open: Mapping[str, PendingCancel | None],
        *,
        recorded: Collection[str] = (),
        looked_at: datetime | None = None,
        plans: PlansLeft | None = None,
    ) -> CancelIntent:
        """Complete the intent, or narrow it. The new version is written before the old one goes."""
        narrowed = intent.narrowed(still_open, recorded, looked_at, plans)
        before = self._artifacts.get(intent.id)
        if narrowed.is_open:
            self._artifacts[intent.id] = await write_pending(self.store, narrowed, self._owners)
        else:
            await write_completed(self.store, intent, narrowed)
            self._artifacts.pop(intent.id, None)
        _at_work.discard(intent.id)
        if before is not None:
            self.store.delete(before)
        return narrowed

    async def finish(self) -> None:
        """Renew what is open and old, and wait for what is being deleted: the next sweep deletes what is left then."""
        _at_work.difference_update(self._logged)
        for artifact_id, intent in self._old.items():
            if self._artifacts.get(intent.id) == artifact_id:
                try:
                    self._artifacts[intent.id] = await write_pending(self.store, intent, self._owners)
                    self.store.delete(artifact_id)
                except RecordError as error:
                    logger.warning("An entry that is still open could not be renewed; the next sweep does: %s", error)
        await self.store.finish()

    async def pending(self) -> list[CancelIntent]:
        """Pending intents of this kind, oldest first, whatever their scope; none of a sweep that may be at work."""
        intents: dict[UUID, CancelIntent] = {}
        for artifact, intent in sorted(await self._all_pending(), key=lambda found: age(found[0])):
            if not await self._is_at_work(intent):
                if intent.id in intents:
                    # Both versions are there where a process died between writing the narrower and deleting the wider.
                    self.store.delete(self._artifacts[intent.id])
                intents[intent.id] = intent
                self._artifacts[intent.id] = artifact.id
                if artifact.created is not None and datetime.now(UTC) - artifact.created >= RENEW_AFTER:
                    self._old[artifact.id] = intent
        return sorted(intents.values(), key=lambda intent: intent.opened_at)

    async def write(self, **facts: Any) -> Artifact:
        """Create an artifact of the flow run or task run of this journal, of these fields. Raises RecordError."""
        return await self.store.write(**self._owners, **facts)

    async def is_writable(self) -> bool:
        """Whether a small artifact can be written, which is deleted again."""
        try:
            probe = await self.store.write(
                type="markdown", description="Can anything be written?", data="A test.", **self._owners
            )
        except RecordError:
            return False
        self.store.delete(probe.id)
        return True

    @property
    def _owners(self) -> dict[str, UUID | None]:
        return {"flow_run_id": self.flow_run_id, "task_run_id": self.task_run_id}

    @property
    def _owner(self) -> UUID | None:
        return self.flow_run_id or self.task_run_id

    async def _is_at_work(self, intent: CancelIntent) -> bool:
        """Whether the sweep that logged an intent may still cancel or record its runs."""
        owner = intent.flow_run_id or intent.task_run_id
        if owner is None:
            return False
        if owner == self._owner:
            # Of an earlier attempt of this very run, or of a task beside this one.
            return intent.id in _at_work
        if intent.host in (None, sweep_host()):
            return sweep_is_alive(owner)
        # Of another machine only Prefect and the time tell.
        return datetime.now(UTC) < intent.lasts_until() and not await self.flow_runs.has_ended(intent.flow_run_id)

    async def _all_pending(self) -> list[tuple[Artifact, CancelIntent]]:
        return await read_pending(self.store, self.scope.kind)
