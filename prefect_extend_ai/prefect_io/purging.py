"""Delete records: of single runs, or old ones. They hold people's data, and Prefect keeps them for ever."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterId,
    ArtifactFilterKey,
    ArtifactFilterType,
)
from prefect.client.schemas.objects import Artifact
from prefect.exceptions import ObjectNotFound

from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.prefect_io.artifacts import ArtifactStore
from prefect_extend_ai.prefect_io.intents import read_pending
from prefect_extend_ai.prefect_io.records import (
    INTENT_META,
    OUTCOME_META,
    PART_META,
    RECORDS_PAGE,
    RESUBMISSION_META,
    RUN_META,
)
from prefect_extend_ai.rendering.shared_records import without_runs

__all__ = ["Purge", "Step", "decide", "purge", "without_places"]


class Step(enum.StrEnum):
    """What is done with a record."""

    DELETE = "delete"
    REWRITE = "rewrite"
    """It is written again without some of its runs, and the old one is deleted."""
    KEEP_OPEN = "keep_open"
    """It belongs to an entry that is still open: a sweep has still to read it."""


@dataclass(frozen=True, slots=True)
class Purge:
    """What is decided of one record.

    Attributes:
        step: what is done with it.
        run_ids: the runs that it is purged of, or would be.
    """

    step: Step
    run_ids: list[str]


def decide(
    metadata: Mapping[str, str],
    created: datetime | None,
    *,
    open_intents: Collection[str],
    open_runs: Collection[str],
    run_ids: Collection[str] = (),
    before: datetime | None = None,
) -> Purge | None:
    """What is done with a record, by its metadata; None where it is not a record, or not selected.

    Args:
        metadata: the artifact's.
        created: when it was written.
        open_intents: ids of the entries that are still open.
        open_runs: ids of the runs that are.
        run_ids: the runs to purge.
        before: purge what was written before this, whatever runs it holds.
    """
    if INTENT_META not in metadata:
        return None
    held = list(_held(metadata).values()) or [metadata[PART_META]]
    old = before is not None and created is not None and created < before
    meant = [run_id for run_id in held if old or run_id in run_ids]
    if not meant:
        return None
    if metadata[INTENT_META] in open_intents or not set(meant).isdisjoint(open_runs):
        return Purge(Step.KEEP_OPEN, meant)
    return Purge(Step.DELETE if len(meant) == len(held) else Step.REWRITE, meant)


async def purge(
    client: PrefectClient,
    *,
    run_ids: Collection[str] = (),
    before: datetime | None = None,
    dry_run: bool = False,
) -> AsyncIterator[tuple[Artifact, Purge]]:
    """Purge what is meant, and tell of each record. Takes what `decide` takes.

    Raises RecordError where Prefect cannot be read or written to; what was reported until then is done.
    """
    store = ArtifactStore(client)
    pending = [intent for _, intent in await read_pending(store)]
    open_runs = {run_id for intent in pending for run_id in intent.run_ids}
    open_intents = {str(intent.id) for intent in pending}
    records = ArtifactFilter(key=ArtifactFilterKey(exists_=False), type=ArtifactFilterType(any_=["markdown"]))
    # All are decided before anything is deleted: what shrinks while it is paged is not read to its end.
    meant: list[tuple[UUID, Purge]] = []
    async for artifact in store.read(records, page=RECORDS_PAGE):
        decided = decide(
            artifact.metadata_ or {},
            artifact.created,
            open_intents=open_intents,
            open_runs=open_runs,
            run_ids=run_ids,
            before=before,
        )
        if decided is not None:
            meant.append((artifact.id, decided))
    for artifact_id, decided in meant:
        if (record := await _one(store, artifact_id)) is None:
            continue
        if not dry_run and decided.step is not Step.KEEP_OPEN:
            if decided.step is Step.REWRITE:
                await _write_without(store, record, decided.run_ids)
            await _delete(store, artifact_id)
        yield record, decided


def without_places(metadata: Mapping[str, str], gone: Collection[int]) -> dict[str, str]:
    """The metadata of a shared record that no longer holds the runs at these places: the others move up."""
    places = {place: new for new, place in enumerate(each for each in _held(metadata) if each not in gone)}
    moved = {INTENT_META: metadata[INTENT_META]}
    for name, value in metadata.items():
        prefix = next((each for each in (RUN_META, OUTCOME_META, RESUBMISSION_META) if name.startswith(each)), None)
        if prefix is not None and (new := places.get(int(name.removeprefix(prefix)))) is not None:
            moved[f"{prefix}{new}"] = value
    return moved


def _held(metadata: Mapping[str, str]) -> dict[int, str]:
    """The runs that a record holds, by their places."""
    found = {name.removeprefix(RUN_META): run_id for name, run_id in metadata.items() if name.startswith(RUN_META)}
    return {int(place): found[place] for place in sorted(found, key=int)}


async def _write_without(store: ArtifactStore, artifact: Artifact, run_ids: Collection[str]) -> None:
    """Write a shared record again: an update would copy its data into Prefect's event feed."""
    metadata = artifact.metadata_ or {}
    held = _held(metadata)
    gone = [place for place, run_id in held.items() if run_id in run_ids]
    try:
        page = without_runs(str(artifact.data), gone)
    except ValueError as error:
        raise RecordError(
            f"record {artifact.id} is left unchanged: {error}. Delete it by hand, or as a whole"
        ) from None
    kept = len(held) - len(gone)
    await store.write(
        type="markdown",
        description=(artifact.description or "").replace(f" of {len(held)} ", f" of {kept} "),
        data=page,
        metadata_=without_places(metadata, gone),
        flow_run_id=artifact.flow_run_id,
        task_run_id=artifact.task_run_id,
    )


async def _one(store: ArtifactStore, artifact_id: UUID) -> Artifact | None:
    reading = store.client.read_artifacts(artifact_filter=ArtifactFilter(id=ArtifactFilterId(any_=[artifact_id])))
    return next(iter(await store.asked("records cannot be read", reading)), None)


async def _delete(store: ArtifactStore, artifact_id: UUID) -> None:
    try:
        await store.asked("a record cannot be deleted", store.client.delete_artifact(artifact_id))
    except ObjectNotFound:
        return
