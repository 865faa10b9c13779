"""The ledger in Prefect's artifacts: notes with a key, records without one.

An open note is an artifact of type json under its scope's key; closing it writes a markdown version of the same key
and deletes the open one. So one key tells the history of what was announced, one filtered read finds what is open, and
closed notes are never read again.

A record has no key, because Prefect copies a keyed artifact into its event feed, and a run object is people's
documents. Which runs a record holds stands in the artifact's metadata, out of reach of anything a document says.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from datetime import UTC, datetime
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

from prefect_extend_ai.addresses import without_password
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import RecordError, RecordRefusedError
from prefect_extend_ai.ledger import Note, Scope
from prefect_extend_ai.rendering import escape, link, part_pages, record_page, record_title, shared_record_page
from prefect_extend_ai.rendering.records import PART
from prefect_extend_ai.report import Cancellation
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.tasks.links import url_for
from prefect_extend_ai.tasks.liveness import sweep_is_alive, sweep_lock

__all__ = ["PrefectLedger", "prefect_ledger", "record_url"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

NOTE_META = "extend_note"
RUN_META = "extend_run_"
PART_META = "extend_part_of"
AGAIN_AFTER = (0.05, 0.1, 0.3, 1, 8, 0)
"""Seconds after which Prefect's client asks a busy server again, up to five times; it waits after the last one too."""
REFUSALS = (400, 413, 422)
"""Statuses that say that sending the same again is of no use."""
LATE_DELETES = 30.0
"""Seconds for which deletes under way are waited for at the end."""
PAGE = 200
"""Artifacts in one read: Prefect's own limit."""
RECORDS_PAGE = 25
"""Records in one read: Prefect sends them whole, and each may hold a megabyte."""


@contextlib.asynccontextmanager
async def prefect_ledger(credentials: ExtendCredentials, kind: RunKind, rule: str) -> AsyncIterator[PrefectLedger]:
    """The ledger of the flow run, or lone task run, that this is called in; shown as alive while it is open.

    Args:
        credentials: whose account.
        kind: the kind of run.
        rule: what selects the runs, in words, for people who find an open note.
    """
    flow_run_id, task_run_id = (UUID(run.id) if run.id else None for run in (runtime.flow_run, runtime.task_run))
    async with get_client(httpx_settings={"event_hooks": {"response": [_ask_again_soon]}}) as client:
        with sweep_lock(flow_run_id or task_run_id):
            scope = Scope(kind=kind, api_url=credentials.api_url, workspace_id=credentials.workspace_id)
            ledger = PrefectLedger(client, scope, flow_run_id=flow_run_id, task_run_id=task_run_id, rule=rule)
            try:
                yield ledger
            finally:
                await ledger.finish()


class PrefectLedger:
    """A `prefect_extend_ai.ledger.Ledger` in the artifacts of the Prefect that `client` talks to."""

    def __init__(
        self,
        client: PrefectClient,
        scope: Scope,
        *,
        flow_run_id: UUID | None,
        task_run_id: UUID | None = None,
        rule: str = "",
    ) -> None:
        self.client = client
        self.scope = scope
        self.flow_run_id = flow_run_id
        self.task_run_id = task_run_id
        self.rule = rule
        self._artifacts: dict[UUID, UUID] = {}
        self._deletes: set[asyncio.Task[None]] = set()
        # One write after another: four at once can block a server on SQLite for the minute that Prefect's client waits,
        # after which it sends them all again.
        self._writing = asyncio.Lock()

    async def open(self, run_ids: Sequence[str]) -> Note:
        """Write ahead. Raises RecordError when Prefect does not take the note."""
        note = Note(
            id=uuid4(),
            scope=self.scope,
            run_ids=list(run_ids),
            opened_at=datetime.now(UTC),
            flow_run_id=self.flow_run_id,
            task_run_id=self.task_run_id,
            rule=self.rule,
        )
        await self._write_open(note)
        return note

    async def record(self, note: Note, finals: Sequence[tuple[Run, Cancellation]]) -> UUID:
        """Keep these final objects in one artifact, or a large one in several. Raises RecordError when that fails."""
        runs = [run for run, _ in finals]
        alone = len(finals) == 1
        # In a thread: a large document takes its time, and other runs' requests have theirs to keep.
        page = await asyncio.to_thread(lambda: record_page(*finals[0]) if alone else shared_record_page(list(finals)))
        title = record_title(runs[0]) if alone else f"Final objects of {len(runs)} {runs[0].kind} runs"
        held = {f"{RUN_META}{place}": run.id for place, run in enumerate(runs)}
        try:
            return await self._write_page(note, title, page, held)
        except RecordRefusedError:
            if not alone or len(page) <= PART:
                raise
        logger.warning("Prefect does not take run %s in one artifact, so it is recorded in several.", runs[0].id)
        pages = await asyncio.to_thread(lambda: list(part_pages(runs[0])))
        parts = [
            await self._write_page(note, f"Part {place} of {len(pages)}: {title}", page, {PART_META: runs[0].id})
            for place, page in enumerate(pages, start=1)
        ]
        # Last, for it is what says that the run is recorded.
        return await self._write_page(note, title, record_page(*finals[0], [_part_link(part) for part in parts]), held)

    async def _write_page(self, note: Note, title: str, page: str, metadata: dict[str, str]) -> UUID:
        artifact = await self.write(
            type="markdown",
            description=title,
            data=page,
            metadata_={NOTE_META: str(note.id)} | metadata,
            flow_run_id=note.flow_run_id,
            task_run_id=note.task_run_id,
        )
        return artifact.id

    async def recorded(self, note: Note) -> dict[str, UUID]:
        """Which of the note's runs are recorded, by what the records' metadata say."""
        owner = (
            {"flow_run_id": ArtifactFilterFlowRunId(any_=[note.flow_run_id])}
            if note.flow_run_id
            else {"task_run_id": ArtifactFilterTaskRunId(any_=[note.task_run_id] if note.task_run_id else [])}
        )
        found: dict[str, UUID] = {}
        records = ArtifactFilter(key=ArtifactFilterKey(exists_=False), **owner)
        async for artifact in self._read(records, page=RECORDS_PAGE):
            metadata = artifact.metadata_ or {}
            if metadata.get(NOTE_META) == str(note.id):
                found |= {value: artifact.id for name, value in metadata.items() if name.startswith(RUN_META)}
        return found

    async def close(self, note: Note, still_open: Collection[str] = ()) -> None:
        """Close the note, or narrow it. The new version is written before the old one goes."""
        before = self._artifacts.pop(note.id, None)
        if still_open:
            await self._write_open(note.model_copy(update={"run_ids": list(still_open)}))
        else:
            await self.write(
                key=_key(note.scope),
                type="markdown",
                description="Closed: the final object of each of these runs is recorded, or none was cancelled.",
                data=_closed_page(note),
                flow_run_id=note.flow_run_id,
                task_run_id=note.task_run_id,
            )
        if before is not None:
            self._delete(before)

    async def finish(self) -> None:
        """Wait for what is still being deleted. What is not deleted then, the next sweep deletes."""
        if self._deletes:
            _, late = await asyncio.wait(self._deletes, timeout=LATE_DELETES)
            for each in late:
                each.cancel()

    async def open_notes(self) -> list[Note]:
        """Open notes of the scope, oldest first, but for those of a sweep that is still alive on this machine."""
        notes: dict[UUID, Note] = {}
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[_key(self.scope)]), type=ArtifactFilterType(any_=["json"]))
        found = [artifact async for artifact in self._read(wanted)]
        for artifact in sorted(found, key=lambda artifact: str(artifact.created)):
            try:
                data = artifact.data
                note = Note.model_validate_json(data) if isinstance(data, str) else Note.model_validate(data)
            except ValueError:
                note = None
            if note is None:
                logger.warning("Artifact %s is under a note's key but is no note; it is left alone.", artifact.id)
            elif note.scope != self.scope:
                continue
            elif note.flow_run_id == self.flow_run_id or not sweep_is_alive(note.flow_run_id or note.task_run_id):
                if note.id in notes:
                    # Both versions stand where a process died between writing the narrower and deleting the wider.
                    self._delete(self._artifacts[note.id])
                notes[note.id] = note
                self._artifacts[note.id] = artifact.id
        return sorted(notes.values(), key=lambda note: note.opened_at)

    async def is_being_cancelled(self) -> bool:
        """Whether somebody has asked Prefect to cancel this flow run; no, where Prefect cannot be asked."""
        if self.flow_run_id is None:
            return False
        try:
            flow_run = await self._asked("the flow run cannot be read", self.client.read_flow_run(self.flow_run_id))
        except RecordError:
            return False
        return flow_run.state is not None and flow_run.state.is_cancelling()

    def _delete(self, artifact_id: UUID) -> None:
        """Delete an open version that has a successor, meanwhile: nothing has to wait for it."""
        delete = asyncio.create_task(self._make_gone(artifact_id))
        self._deletes.add(delete)
        delete.add_done_callback(self._deletes.discard)

    async def _make_gone(self, artifact_id: UUID) -> None:
        # Gone already, by a sweep at the same time or by a delete whose answer was lost, is what is wanted.
        with contextlib.suppress(ObjectNotFound):
            try:
                async with self._writing:
                    await self.client.delete_artifact(artifact_id)
            except (httpx.HTTPError, OSError) as error:
                logger.warning("A note could not be closed, and the next sweep will: %s", _first_line(error))

    async def _write_open(self, note: Note) -> None:
        artifact = await self.write(
            key=_key(note.scope),
            type="json",
            description="Write-ahead: these runs are about to be cancelled. The next sweep settles what is left open.",
            data=note.model_dump(mode="json"),
            flow_run_id=note.flow_run_id,
            task_run_id=note.task_run_id,
        )
        self._artifacts[note.id] = artifact.id

    async def write(self, **facts: Any) -> Artifact:
        """Create an artifact of these fields. Raises RecordError when Prefect does not take it."""
        async with self._writing:
            return await self._asked("nothing can be recorded", self.client.create_artifact(ArtifactCreate(**facts)))

    async def _read(self, wanted: ArtifactFilter, page: int = PAGE) -> AsyncIterator[Artifact]:
        for offset in itertools.count(step=page):
            asked = self.client.read_artifacts(
                artifact_filter=wanted, sort=ArtifactSort.ID_DESC, limit=page, offset=offset
            )
            artifacts = await self._asked("records cannot be read", asked)
            for artifact in artifacts:
                yield artifact
            if len(artifacts) < page:
                return

    async def _asked(self, otherwise: str, request: Awaitable[T]) -> T:
        kind = RecordError
        try:
            return await request
        except (httpx.HTTPError, PrefectException, OSError, ValueError) as error:
            why = _first_line(error)
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in REFUSALS:
                kind = RecordRefusedError
        where = without_password(self.client.api_url)
        raise kind(f"Prefect's API at {where} failed, so {otherwise} ({why}): look whether it is up")


def _first_line(error: Exception) -> str:
    return without_password(f"{type(error).__name__}: {error}").splitlines()[0]


async def _ask_again_soon(response: httpx.Response) -> None:
    """Give Prefect's client a shorter wait than its own 2, 4, 8 seconds.

    A server on SQLite refuses at once, with 503, what meets another write; a moment later it takes it.
    """
    if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or "Retry-After" in response.headers:
        return
    asked: int = response.request.extensions.setdefault("asked", 0)
    if asked < len(AGAIN_AFTER):
        response.request.extensions["asked"] = asked + 1
        response.headers["Retry-After"] = str(AGAIN_AFTER[asked])


def record_url(artifact_id: UUID) -> str:
    """Where people look at an artifact in the Prefect UI; empty where Prefect names no UI."""
    # Prefect makes no addresses of artifacts (tried on 3.8.8), so its address of a flow run tells where the UI is.
    path = f"/runs/flow-run/{artifact_id}"
    flow_run_url = url_for("flow-run", obj_id=artifact_id) or ""
    return flow_run_url.replace(path, f"/artifacts/artifact/{artifact_id}") if flow_run_url.endswith(path) else ""


def _part_link(artifact_id: UUID) -> str:
    return link(f"artifact {artifact_id}", record_url(artifact_id))


def _key(scope: Scope) -> str:
    return f"extend-write-ahead-{scope.slug}"


def _closed_page(note: Note) -> str:
    sweep = link("a sweep", url_for("flow-run", obj_id=note.flow_run_id)) if note.flow_run_id else "a task"
    rule = f" ({escape(note.rule)})" if note.rule else ""
    announced = f"Announced at {note.opened_at:%Y-%m-%d %H:%M:%S} UTC by {sweep}{rule}. None of them is open any more."
    runs = "\n".join(f"- {escape(run_id)}" for run_id in note.run_ids)
    return f"## Settled: {len(note.run_ids)} {note.scope.kind} runs\n\n{announced}\n\n{runs}\n"
