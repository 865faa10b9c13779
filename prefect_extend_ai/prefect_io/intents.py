"""Cancel intents as artifacts: one version of type json while one is pending, one of markdown once it is completed."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, ArtifactFilterType
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort

from prefect_extend_ai.prefect_io.artifacts import ArtifactStore
from prefect_extend_ai.prefect_io.links import url_for
from prefect_extend_ai.rendering import escape, link
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.journal import CancelIntent, Scope

__all__ = [
    "age",
    "pending_intents",
    "read_completed",
    "read_pending",
    "recently_recorded",
    "recently_sent",
    "write_completed",
    "write_pending",
]

logger = logging.getLogger(__name__)

RECORDED_META = "extend_recorded_"
RESUBMITTED_META = "extend_resubmitted_"
IN_VAIN_META = "extend_sent_in_vain_"
"""Metadata, followed by a run: that a completed intent has recorded it, which run it has submitted in its place, and
that Extend has refused to create one. Each has its own entry, because Prefect cuts off a value at 500 characters."""


async def pending_intents(client: PrefectClient) -> list[CancelIntent]:
    """Every cancel intent that is pending in this Prefect, of whatever kind and scope. Raises RecordError."""
    found = await read_pending(ArtifactStore(client))
    return list({intent.id: intent for _, intent in sorted(found, key=lambda each: age(each[0]))}.values())


async def read_pending(store: ArtifactStore, kind: RunKind | None = None) -> list[tuple[Artifact, CancelIntent]]:
    """Every pending intent of a kind, or of all, with its artifact. Raises RecordError."""
    found: list[tuple[Artifact, CancelIntent]] = []
    async for artifact in store.read(ArtifactFilter(key=_keys(kind), type=ArtifactFilterType(any_=["json"]))):
        try:
            data = artifact.data
            found.append((artifact, CancelIntent.model_validate(json.loads(data) if isinstance(data, str) else data)))
        except ValueError:
            logger.warning("Artifact %s has the key of a cancel intent but is none; it is left alone.", artifact.id)
    return found


async def recently_recorded(store: ArtifactStore, kind: RunKind, since: datetime) -> set[str]:
    """Runs of a kind that intents completed since then have recorded. Raises RecordError."""
    return await _of_completed(store, kind, since, RECORDED_META)


async def recently_sent(store: ArtifactStore, kind: RunKind, since: datetime, *, in_vain: bool) -> set[str]:
    """Runs of a kind that intents completed since then have submitted again, or tried to. Raises RecordError."""
    return await _of_completed(store, kind, since, RESUBMITTED_META, *([IN_VAIN_META] if in_vain else []))


async def read_completed(store: ArtifactStore, kind: RunKind) -> AsyncIterator[tuple[Artifact, set[str]]]:
    """The completed intents of a kind, the latest first, with the runs that each has recorded. Raises RecordError."""
    async for artifact in _completed(store, kind):
        yield artifact, _named(artifact, RECORDED_META)


async def _of_completed(store: ArtifactStore, kind: RunKind, since: datetime, *names: str) -> set[str]:
    found: set[str] = set()
    async for artifact in _completed(store, kind):
        if artifact.created is None or artifact.created < since:
            break
        found |= _named(artifact, *names)
    return found


def _completed(store: ArtifactStore, kind: RunKind) -> AsyncIterator[Artifact]:
    completed = ArtifactFilter(key=_keys(kind), type=ArtifactFilterType(any_=["markdown"]))
    return store.read(completed, sort=ArtifactSort.CREATED_DESC)


def _named(artifact: Artifact, *names: str) -> set[str]:
    """The runs that follow these names in the metadata."""
    metadata = artifact.metadata_ or {}
    return {each.removeprefix(name) for each in metadata for name in names if each.startswith(name)}


async def write_pending(store: ArtifactStore, intent: CancelIntent, owner: Mapping[str, UUID | None]) -> UUID:
    """Write an intent that is pending; its artifact's id. Raises RecordError.

    It belongs to the flow run or task run that writes it: Prefect's vacuum deletes what belongs to old ones.
    """
    artifact = await store.write(
        key=_key(intent.scope),
        type="json",
        description="Write-ahead: these runs are about to be cancelled. The next sweep recovers what is left open.",
        data=intent.model_dump(mode="json"),
        **owner,
    )
    return artifact.id


async def write_completed(store: ArtifactStore, intent: CancelIntent, done: CancelIntent) -> None:
    """Write that nothing of an intent is open any more, and what was `done`. Raises RecordError."""
    await store.write(
        key=_key(intent.scope),
        type="markdown",
        description="Completed: the final object of each of these runs is recorded, or none was cancelled.",
        data=_completed_page(intent, done),
        metadata_={f"{RECORDED_META}{run_id}": run_id for run_id in done.recorded}
        | {f"{RESUBMITTED_META}{run_id}": new_run for run_id, new_run in done.resubmitted.items()}
        | {f"{IN_VAIN_META}{run_id}": run_id for run_id in done.sent_in_vain},
        flow_run_id=intent.flow_run_id,
        task_run_id=intent.task_run_id,
    )


def _keys(kind: RunKind | None = None) -> ArtifactFilterKey:
    return ArtifactFilterKey(like_=f"extend-write-ahead-{kind or ''}%")


def _key(scope: Scope) -> str:
    return f"extend-write-ahead-{scope.slug}"


def age(artifact: Artifact) -> tuple[str, str]:
    """By what artifacts are older than others: Prefect's own clock, and their ids where that says the same."""
    return str(artifact.created), str(artifact.id)


def _completed_page(intent: CancelIntent, done: CancelIntent) -> str:
    sweep = link("a sweep", url_for("flow-run", obj_id=intent.flow_run_id)) if intent.flow_run_id else "a task"
    rule = f" ({escape(intent.rule)})" if intent.rule else ""
    logged = f"Logged at {intent.opened_at:%Y-%m-%d %H:%M:%S} UTC by {sweep}{rule}. None of them is open any more."
    again = {run_id: f", submitted again as {escape(new)}" for run_id, new in done.resubmitted.items()}
    again |= {run_id: f", {escape(why, 600)}" for run_id, why in done.not_resubmitted.items()}
    named = dict.fromkeys([*intent.run_ids, *again])
    runs = "\n".join(f"- {escape(run_id)}{again.get(run_id, '')}" for run_id in named)
    return f"## Completed: {len(named)} {intent.scope.kind} runs\n\n{logged}\n\n{runs}\n"
