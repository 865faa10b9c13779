"""The journal in Prefect's artifacts.

A pending intent is an artifact of type json under its scope's key; completing it writes a markdown version of the same
key and deletes the pending one. So one key tells the history of what was announced, and one filtered read finds what is
pending.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from prefect import runtime
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    ArtifactFilterType,
)
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.prefect_io.artifacts import ArtifactStore
from prefect_extend_ai.prefect_io.flow_runs import FlowRuns
from prefect_extend_ai.prefect_io.links import url_for
from prefect_extend_ai.prefect_io.liveness import HOST, sweep_is_alive, sweep_lock
from prefect_extend_ai.prefect_io.records import find_records, write_record
from prefect_extend_ai.prefect_io.resends import ask_again_soon, note_response, note_send
from prefect_extend_ai.rendering import escape, link
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.journal import CancelIntent, Recorded, Scope
from prefect_extend_ai.sweep.report import Cancellation, PendingCancel

__all__ = ["PrefectJournal", "pending_intents", "prefect_journal"]

logger = logging.getLogger(__name__)

RECORDED_META = "extend_recorded"
"""Metadata: the runs whose final object a completed intent has recorded."""
BATCH_LASTS = timedelta(minutes=10)
"""How long the runs of one intent are at work at most, beside the time to confirm a cancel."""

RECENT = timedelta(hours=1)
"""How far back a sweep looks for what others have recorded at the same time; none lasts longer by default."""

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
        self._recorded: dict[UUID | None, dict[UUID, dict[str, Recorded]]] = {}

    @property
    def is_second_attempt(self) -> bool:
        """Whether the flow run or task run that this is called in was started before (Prefect's `retries`)."""
        return max(runtime.flow_run.run_count or 0, runtime.task_run.run_count or 0) > 1

    def owns(self, intent: CancelIntent) -> bool:
        """Whether an attempt of this very flow run or task run logged the intent."""
        return self._owner is not None and self._owner == (intent.flow_run_id or intent.task_run_id)

    async def log(self, run_ids: Sequence[str]) -> CancelIntent:
        """Write ahead. Raises RecordError when Prefect does not take the intent."""
        now = datetime.now(UTC)
        intent = CancelIntent(
            id=uuid4(),
            scope=self.scope,
            run_ids=list(run_ids),
            opened_at=now,
            until=now + self._lasts,
            host=HOST,
            flow_run_id=self.flow_run_id,
            task_run_id=self.task_run_id,
            rule=self.rule,
        )
        _at_work.add(intent.id)
        self._logged.add(intent.id)
        await self._write_pending(intent)
        return intent

    async def contested(self, intent: CancelIntent) -> set[str]:
        """Those of its runs that an older intent of another sweep names which may still be at work."""
        mine = set(intent.run_ids)
        theirs: set[str] = set()
        own = self._artifacts[intent.id]
        found = await self._all_pending()
        age = next((_age(artifact) for artifact, _ in found if artifact.id == own), None)
        for artifact, other in found:
            overlap = mine.intersection(other.run_ids)
            if other.id != intent.id and overlap and (age is None or _age(artifact) < age):
                theirs |= overlap if await self._is_at_work(other) else set()
        return theirs

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
        """Those of its runs that another sweep has recorded within the last hour."""
        since = datetime.now(UTC) - RECENT
        found = {run_id for _, other in await self._all_pending() for run_id in other.recorded}
        completed = ArtifactFilter(key=_keys(self.scope.kind), type=ArtifactFilterType(any_=["markdown"]))
        async for artifact in self.store.read(completed, sort=ArtifactSort.CREATED_DESC):
            if artifact.created is None or artifact.created < since:
                break
            with contextlib.suppress(ValueError):
                found.update(json.loads((artifact.metadata_ or {}).get(RECORDED_META, "[]")))
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
    ) -> CancelIntent:
        """Complete the intent, or narrow it. The new version is written before the old one goes."""
        narrowed = intent.narrowed(still_open, recorded, looked_at)
        before = self._artifacts.get(intent.id)
        if still_open:
            await self._write_pending(narrowed)
        else:
            await self.store.write(
                key=_key(intent.scope),
                type="markdown",
                description="Completed: the final object of each of these runs is recorded, or none was cancelled.",
                data=_completed_page(intent),
                metadata_={RECORDED_META: json.dumps(narrowed.recorded)},
                flow_run_id=intent.flow_run_id,
                task_run_id=intent.task_run_id,
            )
            self._artifacts.pop(intent.id, None)
        _at_work.discard(intent.id)
        if before is not None:
            self.store.delete(before)
        return narrowed

    async def finish(self) -> None:
        """Wait for what is still being deleted. What is not deleted then, the next sweep deletes."""
        _at_work.difference_update(self._logged)
        await self.store.finish()

    async def pending(self) -> list[CancelIntent]:
        """Pending intents of this kind, oldest first, whatever their scope; none of a sweep that may be at work."""
        intents: dict[UUID, CancelIntent] = {}
        for artifact, intent in sorted(await self._all_pending(), key=lambda found: _age(found[0])):
            if not await self._is_at_work(intent):
                if intent.id in intents:
                    # Both versions are there where a process died between writing the narrower and deleting the wider.
                    self.store.delete(self._artifacts[intent.id])
                intents[intent.id] = intent
                self._artifacts[intent.id] = artifact.id
        return sorted(intents.values(), key=lambda intent: intent.opened_at)

    async def write(self, **facts: Any) -> Artifact:
        """Create an artifact of the flow run or task run of this journal, of these fields. Raises RecordError."""
        return await self.store.write(flow_run_id=self.flow_run_id, task_run_id=self.task_run_id, **facts)

    async def is_writable(self) -> bool:
        """Whether a small artifact can be written, which is deleted again."""
        owner = {"flow_run_id": self.flow_run_id, "task_run_id": self.task_run_id}
        try:
            probe = await self.store.write(
                type="markdown", description="Can anything be written?", data="A test.", **owner
            )
        except RecordError:
            return False
        self.store.delete(probe.id)
        return True

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
        if intent.host in (None, HOST):
            return sweep_is_alive(owner)
        # Of another machine only Prefect and the time tell.
        return datetime.now(UTC) < intent.lasts_until() and not await self.flow_runs.has_ended(intent.flow_run_id)

    async def _all_pending(self) -> list[tuple[Artifact, CancelIntent]]:
        return await _read_pending(self.store, _keys(self.scope.kind))

    async def _write_pending(self, intent: CancelIntent) -> None:
        artifact = await self.store.write(
            key=_key(intent.scope),
            type="json",
            description="Write-ahead: these runs are about to be cancelled. The next sweep recovers what is left open.",
            data=intent.model_dump(mode="json"),
            flow_run_id=intent.flow_run_id,
            task_run_id=intent.task_run_id,
        )
        self._artifacts[intent.id] = artifact.id


async def pending_intents(client: PrefectClient) -> list[CancelIntent]:
    """Every cancel intent that is pending in this Prefect, of whatever kind and scope. Raises RecordError."""
    found = await _read_pending(ArtifactStore(client), _keys())
    return list({intent.id: intent for _, intent in sorted(found, key=lambda each: _age(each[0]))}.values())


async def _read_pending(store: ArtifactStore, keys: ArtifactFilterKey) -> list[tuple[Artifact, CancelIntent]]:
    found: list[tuple[Artifact, CancelIntent]] = []
    async for artifact in store.read(ArtifactFilter(key=keys, type=ArtifactFilterType(any_=["json"]))):
        try:
            data = artifact.data
            found.append((artifact, CancelIntent.model_validate(json.loads(data) if isinstance(data, str) else data)))
        except ValueError:
            logger.warning("Artifact %s has the key of a cancel intent but is none; it is left alone.", artifact.id)
    return found


def _keys(kind: RunKind | None = None) -> ArtifactFilterKey:
    return ArtifactFilterKey(like_=f"extend-write-ahead-{kind or ''}%")


def _key(scope: Scope) -> str:
    return f"extend-write-ahead-{scope.slug}"


def _age(artifact: Artifact) -> tuple[str, str]:
    """By what artifacts are older than others: Prefect's own clock, and their ids where that says the same."""
    return str(artifact.created), str(artifact.id)


def _completed_page(intent: CancelIntent) -> str:
    sweep = link("a sweep", url_for("flow-run", obj_id=intent.flow_run_id)) if intent.flow_run_id else "a task"
    rule = f" ({escape(intent.rule)})" if intent.rule else ""
    logged = f"Logged at {intent.opened_at:%Y-%m-%d %H:%M:%S} UTC by {sweep}{rule}. None of them is open any more."
    runs = "\n".join(f"- {escape(run_id)}" for run_id in intent.run_ids)
    return f"## Completed: {len(intent.run_ids)} {intent.scope.kind} runs\n\n{logged}\n\n{runs}\n"
