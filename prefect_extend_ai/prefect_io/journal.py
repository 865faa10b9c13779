"""The journal in Prefect's artifacts: cancel intents with a key, records without one.

A pending intent is an artifact of type json under its scope's key; completing it writes a markdown version of the same
key and deletes the pending one. So one key tells the history of what was announced, one filtered read finds what is
pending, and completed intents are never read again.

A record has no key, because Prefect copies a keyed artifact into its event feed, and a run object is people's
documents. Which runs a record holds is in the artifact's metadata, out of reach of anything a document says.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
from prefect import runtime
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    ArtifactFilterTaskRunId,
    ArtifactFilterType,
)
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.utilities.urls import url_for

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import RecordError, RecordRefusedError
from prefect_extend_ai.prefect_io.liveness import HOST, sweep_is_alive, sweep_lock
from prefect_extend_ai.prefect_io.resends import Sends, ask_again_soon, counting, note_response, note_send
from prefect_extend_ai.rendering import escape, link, part_pages, record_page, record_title, shared_record_page
from prefect_extend_ai.rendering.records import PART
from prefect_extend_ai.report import Cancellation, PendingCancel
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.journal import CancelIntent, Recorded, Scope

__all__ = ["PrefectJournal", "prefect_journal", "record_url"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

INTENT_META = "extend_note"
RUN_META = "extend_run_"
OUTCOME_META = "extend_outcome_"
PART_META = "extend_part_of"
WRITE_META = "extend_write"
"""Metadata of artifacts: the intent that a record belongs to, its runs and how they ended, the run that it is a part
of, and a mark of each write's own, by which an artifact that was created twice is found."""

REFUSALS = (400, 413, 422)
"""Statuses that say that sending the same again is of no use."""
LATE_DELETES = 60.0
"""Seconds for which deletes under way are waited for at the end."""
DELETE_PAUSES = (0.5, 2, 5, 10)
"""Seconds between the tries of one delete."""
PAGE = 200
"""Artifacts in one read: Prefect's own limit."""
RECORDS_PAGE = 25
"""Records in one read: Prefect sends them whole, and each may hold a megabyte."""
BATCH_LASTS = timedelta(minutes=10)
"""How long the runs of one intent are at work at most, beside the time to confirm a cancel."""

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
        self.client = client
        self.scope = scope
        self.flow_run_id = flow_run_id
        self.task_run_id = task_run_id
        self.rule = rule
        self._lasts = lasts
        self._artifacts: dict[UUID, UUID] = {}
        self._deletes: set[asyncio.Task[None]] = set()
        self._logged: set[UUID] = set()
        self._recorded: dict[UUID | None, dict[UUID, dict[str, Recorded]]] = {}
        self._ended: dict[UUID, bool] = {}
        # One write after another: four at once can block a server on SQLite for the minute that Prefect's client waits,
        # after which it sends them all again.
        self._writing = asyncio.Lock()

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
        runs = [run for run, _ in finals]
        alone = len(finals) == 1
        # In a thread: a large document takes its time, and other runs' requests have theirs to keep.
        page = await asyncio.to_thread(lambda: record_page(*finals[0]) if alone else shared_record_page(list(finals)))
        title = record_title(runs[0]) if alone else f"Final objects of {len(runs)} {runs[0].kind} runs"
        held = {
            name: value
            for place, (run, cancellation) in enumerate(finals)
            for name, value in (
                (f"{RUN_META}{place}", run.id),
                (f"{OUTCOME_META}{place}", cancellation.outcome.value),
            )
        }
        try:
            return await self._write_page(intent, title, page, held)
        except RecordRefusedError:
            if not alone or len(page) <= PART:
                raise
        logger.warning("Prefect does not take run %s in one artifact, so it is recorded in several.", runs[0].id)
        pages = await asyncio.to_thread(lambda: list(part_pages(runs[0])))
        parts = [
            await self._write_page(intent, f"Part {place} of {len(pages)}: {title}", page, {PART_META: runs[0].id})
            for place, page in enumerate(pages, start=1)
        ]
        # Last, for it is what says that the run is recorded.
        whole = record_page(*finals[0], [_part_link(part) for part in parts])
        return await self._write_page(intent, title, whole, held)

    async def _write_page(self, intent: CancelIntent, title: str, page: str, metadata: dict[str, str]) -> UUID:
        artifact = await self.write(
            type="markdown",
            description=title,
            data=page,
            metadata_={INTENT_META: str(intent.id)} | metadata,
            flow_run_id=intent.flow_run_id,
            task_run_id=intent.task_run_id,
        )
        return artifact.id

    async def recorded(self, intent: CancelIntent) -> dict[str, Recorded]:
        """Which of the intent's runs are recorded, by what the records' metadata say."""
        owner = intent.flow_run_id or intent.task_run_id
        # Nobody records for a sweep that is over: its records need no second read.
        if owner == self._owner or owner not in self._recorded:
            self._recorded[owner] = await self._records_of(intent.flow_run_id, intent.task_run_id)
        return self._recorded[owner].get(intent.id, {})

    async def recorded_earlier(self) -> dict[str, Recorded]:
        """What an earlier attempt of this very flow run or task run has recorded."""
        if not self.is_second_attempt:
            return {}
        found = await self._records_of(self.flow_run_id, self.task_run_id)
        return {run_id: where for of_intent in found.values() for run_id, where in of_intent.items()}

    async def _records_of(self, flow_run_id: UUID | None, task_run_id: UUID | None) -> dict[UUID, dict[str, Recorded]]:
        owner = (
            {"flow_run_id": ArtifactFilterFlowRunId(any_=[flow_run_id])}
            if flow_run_id
            else {"task_run_id": ArtifactFilterTaskRunId(any_=[task_run_id] if task_run_id else [])}
        )
        found: dict[UUID, dict[str, Recorded]] = {}
        async for artifact in self._read(
            ArtifactFilter(key=ArtifactFilterKey(exists_=False), **owner), page=RECORDS_PAGE
        ):
            metadata = artifact.metadata_ or {}
            with contextlib.suppress(KeyError, ValueError):
                of_intent = found.setdefault(UUID(metadata[INTENT_META]), {})
                for name, run_id in metadata.items():
                    if name.startswith(RUN_META):
                        outcome = metadata.get(OUTCOME_META + name.removeprefix(RUN_META))
                        of_intent[run_id] = Recorded(artifact_id=artifact.id, outcome=outcome)
        return found

    async def complete(
        self,
        intent: CancelIntent,
        still_open: Mapping[str, PendingCancel | None],
        *,
        looked_at: datetime | None = None,
    ) -> CancelIntent:
        """Complete the intent, or narrow it. The new version is written before the old one goes."""
        narrowed = intent.narrowed(still_open, looked_at).model_copy(update={"until": intent.opened_at})
        before = self._artifacts.get(intent.id)
        if still_open:
            await self._write_pending(narrowed)
        else:
            await self.write(
                key=_key(intent.scope),
                type="markdown",
                description="Completed: the final object of each of these runs is recorded, or none was cancelled.",
                data=_completed_page(intent),
                flow_run_id=intent.flow_run_id,
                task_run_id=intent.task_run_id,
            )
            self._artifacts.pop(intent.id, None)
        _at_work.discard(intent.id)
        if before is not None:
            self._delete(before)
        return narrowed

    async def finish(self) -> None:
        """Wait for what is still being deleted. What is not deleted then, the next sweep deletes."""
        _at_work.difference_update(self._logged)
        if self._deletes:
            _, late = await asyncio.wait(self._deletes, timeout=LATE_DELETES)
            for each in late:
                each.cancel()

    async def pending(self) -> list[CancelIntent]:
        """Pending intents of this kind, oldest first, whatever their scope; none of a sweep that may be at work."""
        intents: dict[UUID, CancelIntent] = {}
        for artifact, intent in sorted(await self._all_pending(), key=lambda found: _age(found[0])):
            if not await self._is_at_work(intent):
                if intent.id in intents:
                    # Both versions are there where a process died between writing the narrower and deleting the wider.
                    self._delete(self._artifacts[intent.id])
                intents[intent.id] = intent
                self._artifacts[intent.id] = artifact.id
        return sorted(intents.values(), key=lambda intent: intent.opened_at)

    async def is_writable(self) -> bool:
        """Whether a small artifact can be written, which is deleted again."""
        owner = {"flow_run_id": self.flow_run_id, "task_run_id": self.task_run_id}
        try:
            probe = await self.write(type="markdown", description="Can anything be written?", data="A test.", **owner)
        except RecordError:
            return False
        self._delete(probe.id)
        return True

    async def is_being_cancelled(self) -> bool:
        """Whether somebody has asked Prefect to cancel this flow run; no, where Prefect cannot be asked."""
        if self.flow_run_id is None:
            return False
        try:
            flow_run = await self._asked("the flow run cannot be read", self.client.read_flow_run(self.flow_run_id))
        except (RecordError, ObjectNotFound):
            return False
        return flow_run.state is not None and flow_run.state.is_cancelling()

    @property
    def _owner(self) -> UUID | None:
        return self.flow_run_id or self.task_run_id

    async def _is_at_work(self, intent: CancelIntent) -> bool:
        """Whether the sweep that logged an intent may still cancel or record its runs."""
        owner = intent.flow_run_id or intent.task_run_id
        if owner == self._owner:
            # Of an earlier attempt of this very run, or of a task beside this one.
            return intent.id in _at_work
        if intent.host in (None, HOST):
            return sweep_is_alive(owner)
        # Of another machine only Prefect and the time tell.
        return datetime.now(UTC) < intent.lasts_until() and not await self._has_ended(intent.flow_run_id)

    async def _has_ended(self, flow_run_id: UUID | None) -> bool:
        if flow_run_id is None:
            return False
        if flow_run_id not in self._ended:
            try:
                run = await self._asked("a flow run cannot be read", self.client.read_flow_run(flow_run_id))
                self._ended[flow_run_id] = run.state is not None and run.state.is_final()
            except ObjectNotFound:
                self._ended[flow_run_id] = True
        return self._ended[flow_run_id]

    async def _all_pending(self) -> list[tuple[Artifact, CancelIntent]]:
        """Every pending intent of this kind, of whatever scope."""
        keys = ArtifactFilterKey(like_=f"{_key_of(self.scope.kind)}%")
        found: list[tuple[Artifact, CancelIntent]] = []
        async for artifact in self._read(ArtifactFilter(key=keys, type=ArtifactFilterType(any_=["json"]))):
            try:
                data = artifact.data
                intent = (
                    CancelIntent.model_validate_json(data)
                    if isinstance(data, str)
                    else CancelIntent.model_validate(data)
                )
            except ValueError:
                logger.warning("Artifact %s has the key of a cancel intent but is none; it is left alone.", artifact.id)
                continue
            if intent.scope.kind is self.scope.kind:
                found.append((artifact, intent))
        return found

    def _delete(self, artifact_id: UUID) -> None:
        """Delete an artifact that has a successor, meanwhile: nothing has to wait for it."""
        delete = asyncio.create_task(self._make_gone(artifact_id))
        self._deletes.add(delete)
        delete.add_done_callback(self._deletes.discard)

    async def _make_gone(self, artifact_id: UUID) -> None:
        for pause in (*DELETE_PAUSES, None):
            try:
                async with self._writing:
                    await self.client.delete_artifact(artifact_id)
            except ObjectNotFound:
                pass  # by a sweep at the same time, or by a delete whose answer was lost
            except (httpx.HTTPError, PrefectException, OSError) as error:
                if pause is None:
                    logger.warning("An intent could not be deleted; the next sweep does: %s", _first_line(error))
                    return
                await asyncio.sleep(pause)
                continue
            return

    async def _write_pending(self, intent: CancelIntent) -> None:
        artifact = await self.write(
            key=_key(intent.scope),
            type="json",
            description="Write-ahead: these runs are about to be cancelled. The next sweep recovers what is left open.",
            data=intent.model_dump(mode="json"),
            flow_run_id=intent.flow_run_id,
            task_run_id=intent.task_run_id,
        )
        self._artifacts[intent.id] = artifact.id

    async def write(self, **facts: Any) -> Artifact:
        """Create an artifact of these fields, once. Raises RecordError when Prefect does not take it."""
        mark = uuid4().hex
        facts["metadata_"] = (facts.get("metadata_") or {}) | {WRITE_META: mark}
        async with self._writing:
            with counting() as sends:
                creating = self.client.create_artifact(ArtifactCreate(**facts))
                artifact = await self._asked("nothing can be recorded", creating)
        if sends.may_be_double:
            await self._delete_doubles(artifact, mark, sends)
        return artifact

    async def _delete_doubles(self, kept: Artifact, mark: str, sends: Sends) -> None:
        """Prefect's client sends a request again whose answer was lost: delete what that created before."""
        since = (kept.created or datetime.now(UTC)) - sends.lasted() - timedelta(seconds=10)
        wanted = ArtifactFilter(
            key=ArtifactFilterKey(any_=[kept.key]) if kept.key else ArtifactFilterKey(exists_=False),
            flow_run_id=ArtifactFilterFlowRunId(any_=[kept.flow_run_id]) if kept.flow_run_id else None,
        )
        try:
            async for artifact in self._read(wanted, page=RECORDS_PAGE, sort=ArtifactSort.CREATED_DESC):
                if artifact.created is None or artifact.created < since:
                    return
                if artifact.id != kept.id and (artifact.metadata_ or {}).get(WRITE_META) == mark:
                    self._delete(artifact.id)
        except RecordError as error:
            logger.warning("Whether artifact %s was created twice cannot be looked up: %s", kept.id, error)

    async def _read(
        self, wanted: ArtifactFilter, page: int = PAGE, sort: ArtifactSort = ArtifactSort.ID_DESC
    ) -> AsyncIterator[Artifact]:
        for offset in itertools.count(step=page):
            asked = self.client.read_artifacts(artifact_filter=wanted, sort=sort, limit=page, offset=offset)
            artifacts = await self._asked("records cannot be read", asked)
            for artifact in artifacts:
                yield artifact
            if len(artifacts) < page:
                return

    async def _asked(self, otherwise: str, request: Awaitable[T]) -> T:
        kind = RecordError
        try:
            return await request
        except ObjectNotFound:
            raise
        except (httpx.HTTPError, PrefectException, OSError, ValueError) as error:
            why = _first_line(error)
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in REFUSALS:
                kind = RecordRefusedError
        raise kind(f"Prefect's API at {self.client.api_url} failed, so {otherwise} ({why}): look whether it is up")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def record_url(artifact_id: UUID) -> str:
    """Where people look at an artifact in the Prefect UI; empty where Prefect names no UI."""
    # Prefect makes no addresses of artifacts (tried on 3.8.8), so its address of a flow run tells where the UI is.
    path = f"/runs/flow-run/{artifact_id}"
    flow_run_url = url_for("flow-run", obj_id=artifact_id) or ""
    return flow_run_url.replace(path, f"/artifacts/artifact/{artifact_id}") if flow_run_url.endswith(path) else ""


def _part_link(artifact_id: UUID) -> str:
    return link(f"artifact {artifact_id}", record_url(artifact_id))


def _key_of(kind: RunKind) -> str:
    return f"extend-write-ahead-{kind}"


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
