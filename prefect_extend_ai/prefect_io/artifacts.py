"""Artifacts in Prefect: written once, read page by page, deleted for certain."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import ObjectNotFound, PrefectException

from prefect_extend_ai.errors import RecordError, RecordRefusedError
from prefect_extend_ai.prefect_io.addresses import without_password
from prefect_extend_ai.prefect_io.links import url_for
from prefect_extend_ai.prefect_io.resends import Sends, counting

__all__ = ["PAGE", "ArtifactStore", "record_url"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

WRITE_META = "extend_write"
"""Metadata: a mark of each write's own, by which an artifact that was created twice is found."""
REFUSALS = (400, 413, 422)
"""Statuses that say that sending the same again is of no use."""
LATE_DELETES = 60.0
"""Seconds for which deletes under way are waited for at the end."""
DELETE_PAUSES = (0.5, 2, 5, 10)
"""Seconds between the tries of one delete."""
PAGE = 200
"""Artifacts in one read: Prefect's own limit."""
DOUBLES_PAGE = 25
"""Artifacts in one read where they may be records: Prefect sends them whole."""


class ArtifactStore:
    """The artifacts of the Prefect that `client` talks to."""

    def __init__(self, client: PrefectClient) -> None:
        self.client = client
        self._deletes: set[asyncio.Task[None]] = set()
        # One write after another: four at once can block a server on SQLite for the minute that Prefect's client waits,
        # after which it sends them all again.
        self._writing = asyncio.Lock()

    async def write(self, **facts: Any) -> Artifact:
        """Create an artifact of these fields, once. Raises RecordError when Prefect does not take it."""
        mark = uuid4().hex
        facts["metadata_"] = (facts.get("metadata_") or {}) | {WRITE_META: mark}
        async with self._writing:
            with counting() as sends:
                creating = self.client.create_artifact(ArtifactCreate(**facts))
                artifact = await self.asked("nothing can be recorded", creating)
        if sends.may_be_double:
            await self._delete_doubles(artifact, mark, sends)
        return artifact

    async def update(self, artifact_id: UUID, **facts: Any) -> None:
        """Change these fields of an artifact, which Prefect copies into an event. Raises RecordError."""
        async with self._writing:
            updating = self.client.update_artifact(artifact_id, ArtifactUpdate(**facts))
            try:
                await self.asked("it cannot be updated", updating)
            except ObjectNotFound as error:
                raise RecordError(f"artifact {artifact_id} is gone") from error

    async def _delete_doubles(self, kept: Artifact, mark: str, sends: Sends) -> None:
        """Prefect's client sends a request again whose answer was lost: delete what that created before."""
        since = (kept.created or datetime.now(UTC)) - sends.lasted() - timedelta(seconds=10)
        wanted = ArtifactFilter(
            key=ArtifactFilterKey(any_=[kept.key]) if kept.key else ArtifactFilterKey(exists_=False),
            flow_run_id=ArtifactFilterFlowRunId(any_=[kept.flow_run_id]) if kept.flow_run_id else None,
        )
        try:
            async for artifact in self.read(wanted, page=DOUBLES_PAGE, sort=ArtifactSort.CREATED_DESC):
                if artifact.created is None or artifact.created < since:
                    return
                if artifact.id != kept.id and (artifact.metadata_ or {}).get(WRITE_META) == mark:
                    self.delete(artifact.id)
        except RecordError as error:
            logger.warning("Whether artifact %s was created twice cannot be looked up: %s", kept.id, error)

    async def read(
        self, wanted: ArtifactFilter, page: int = PAGE, sort: ArtifactSort = ArtifactSort.ID_DESC
    ) -> AsyncIterator[Artifact]:
        """Every artifact that fits, read a page at a time. Raises RecordError."""
        for offset in itertools.count(step=page):
            asked = self.client.read_artifacts(artifact_filter=wanted, sort=sort, limit=page, offset=offset)
            artifacts = await self.asked("records cannot be read", asked)
            for artifact in artifacts:
                yield artifact
            if len(artifacts) < page:
                return

    async def asked(self, otherwise: str, request: Awaitable[T]) -> T:
        """Prefect's answer. Raises RecordError, which says what follows, and ObjectNotFound."""
        kind = RecordError
        try:
            return await request
        except ObjectNotFound:
            raise
        except (httpx.HTTPError, PrefectException, OSError, ValueError) as error:
            why = _first_line(error)
            status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None
            if status in REFUSALS:
                kind = RecordRefusedError
        where = without_password(self.client.api_url)
        raise kind(f"Prefect's API at {where} failed, so {otherwise} ({why}): {_what_to_do(status)}")

    def delete(self, artifact_id: UUID) -> None:
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

    async def finish(self) -> None:
        """Wait for what is still being deleted. What is not deleted then, the next sweep deletes."""
        if self._deletes:
            _, late = await asyncio.wait(self._deletes, timeout=LATE_DELETES)
            for each in late:
                each.cancel()


def _what_to_do(status: int | None) -> str:
    """What to do about a status of Prefect's; None where there was no response."""
    match status:
        case 413:
            return "it is too large for Prefect, or for a proxy before it"
        case 429:
            return "Prefect limits how many requests it takes; wait, or ask for a higher limit"
        case 401 | 403:
            return "check PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
        case status if status is not None and status < 500:
            return "Prefect refuses it"
        case _:
            return "look whether it is up"


def _first_line(error: Exception) -> str:
    return without_password(f"{type(error).__name__}: {error}").splitlines()[0]


def record_url(artifact_id: UUID) -> str:
    """Where people look at an artifact in the Prefect UI; empty where Prefect names no UI."""
    # Prefect makes no addresses of artifacts (tried on 3.8.8), so its address of a flow run tells where the UI is.
    path = f"/runs/flow-run/{artifact_id}"
    flow_run_url = url_for("flow-run", obj_id=artifact_id) or ""
    return flow_run_url.replace(path, f"/artifacts/artifact/{artifact_id}") if flow_run_url.endswith(path) else ""
