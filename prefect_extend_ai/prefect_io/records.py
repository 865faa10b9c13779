"""Records in Prefect's artifacts: final run objects, whole, in artifacts without a key.

Prefect copies an artifact that has a key into its event feed, and a run object is people's documents. Which runs a
record holds is in the artifact's metadata, out of reach of anything a document says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from uuid import UUID

from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    ArtifactFilterTaskRunId,
)

from prefect_extend_ai.errors import RecordRefusedError
from prefect_extend_ai.prefect_io.artifacts import ArtifactStore, record_url
from prefect_extend_ai.prefect_io.links import events_url, url_for
from prefect_extend_ai.rendering import link, part_pages, record_page, record_title, shared_record_page
from prefect_extend_ai.rendering.records import PART, Whence
from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.journal import CancelIntent, Recorded
from prefect_extend_ai.sweep.report import Cancellation

__all__ = ["find_records", "write_record"]

logger = logging.getLogger(__name__)

INTENT_META = "extend_note"
RUN_META = "extend_run_"
OUTCOME_META = "extend_outcome_"
RESUBMISSION_META = "extend_resubmission_"
PART_META = "extend_part_of"
"""Metadata: the intent that a record belongs to, its runs, how they ended, what was decided about submitting them
again, and the run that it is a part of."""

RECORDS_PAGE = 25
"""Records in one read: Prefect sends them whole, and each may hold a megabyte."""


async def write_record(store: ArtifactStore, intent: CancelIntent, finals: Sequence[tuple[Run, Cancellation]]) -> UUID:
    """Keep these final objects in one artifact, or a large one in several. Raises RecordError when that fails."""
    runs = [run for run, _ in finals]
    alone = len(finals) == 1
    # In a thread: a large document takes its time, and other runs' requests have theirs to keep.
    sweep_url = url_for("flow-run", obj_id=intent.flow_run_id) if intent.flow_run_id else None
    whence = Whence(sweep_url, events_url)
    page = await asyncio.to_thread(
        lambda: record_page(*finals[0], whence=whence) if alone else shared_record_page(list(finals), whence=whence)
    )
    title = record_title(runs[0]) if alone else f"Final objects of {len(runs)} {runs[0].kind} runs"
    held = {
        name: value
        for place, (run, cancellation) in enumerate(finals)
        for name, value in (
            (f"{RUN_META}{place}", run.id),
            (f"{OUTCOME_META}{place}", cancellation.outcome.value),
            (f"{RESUBMISSION_META}{place}", cancellation.resubmission),
        )
        if value is not None
    }
    try:
        return await _write_page(store, intent, title, page, held)
    except RecordRefusedError:
        if not alone or len(page) <= PART:
            raise
    logger.warning("Prefect does not take run %s in one artifact, so it is recorded in several.", runs[0].id)
    pages = await asyncio.to_thread(lambda: list(part_pages(runs[0])))
    parts = [
        await _write_page(store, intent, f"Part {place} of {len(pages)}: {title}", page, {PART_META: runs[0].id})
        for place, page in enumerate(pages, start=1)
    ]
    # Last, for it is what says that the run is recorded.
    whole = record_page(*finals[0], [_part_link(part) for part in parts], whence=whence)
    return await _write_page(store, intent, title, whole, held)


async def _write_page(
    store: ArtifactStore, intent: CancelIntent, title: str, page: str, metadata: dict[str, str]
) -> UUID:
    artifact = await store.write(
        type="markdown",
        description=title,
        data=page,
        metadata_={INTENT_META: str(intent.id)} | metadata,
        flow_run_id=intent.flow_run_id,
        task_run_id=intent.task_run_id,
    )
    return artifact.id


async def find_records(
    store: ArtifactStore, flow_run_id: UUID | None, task_run_id: UUID | None
) -> dict[UUID, dict[str, Recorded]]:
    """What is recorded of a flow run, or of a lone task run: by intent, where each run is. Raises RecordError."""
    owner = (
        {"flow_run_id": ArtifactFilterFlowRunId(any_=[flow_run_id])}
        if flow_run_id
        else {"task_run_id": ArtifactFilterTaskRunId(any_=[task_run_id] if task_run_id else [])}
    )
    found: dict[UUID, dict[str, Recorded]] = {}
    async for artifact in store.read(ArtifactFilter(key=ArtifactFilterKey(exists_=False), **owner), page=RECORDS_PAGE):
        metadata = artifact.metadata_ or {}
        with contextlib.suppress(KeyError, ValueError):
            of_intent = found.setdefault(UUID(metadata[INTENT_META]), {})
            for name, run_id in metadata.items():
                if name.startswith(RUN_META):
                    place = name.removeprefix(RUN_META)
                    of_intent[run_id] = Recorded(
                        artifact_id=artifact.id,
                        recorded_at=artifact.created,
                        outcome=metadata.get(f"{OUTCOME_META}{place}"),
                        resubmission=metadata.get(f"{RESUBMISSION_META}{place}"),
                    )
    return found


def _part_link(artifact_id: UUID) -> str:
    return link(f"artifact {artifact_id}", record_url(artifact_id))
