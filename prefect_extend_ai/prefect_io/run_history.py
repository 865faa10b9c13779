"""What Prefect knows of single runs: from events, from reports and records of sweeps, and from open entries."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterId, ArtifactFilterKey, ArtifactFilterType
from prefect.client.schemas.sorting import ArtifactSort
from prefect.events.filters import EventFilter, EventOrder, EventResourceFilter
from prefect.events.schemas.events import Event

from prefect_extend_ai.prefect_io.artifacts import ArtifactStore
from prefect_extend_ai.prefect_io.intents import read_completed, read_pending
from prefect_extend_ai.prefect_io.links import run_resource
from prefect_extend_ai.prefect_io.records import find_records
from prefect_extend_ai.prefect_io.saved_reports import read_report
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.journal import CancelIntent
from prefect_extend_ai.sweep.run_history import RunEvent, from_event, from_intent, from_record, from_report, merged

__all__ = ["read_run_history"]

EVENTS_PAGE = 50
"""Events in one read: Prefect's own limit."""
REPORTS_PAGE = 25
"""Reports in one read: each is a page with a picture."""
RECORDS_PAGE = 10
"""Records in one read: each may hold a megabyte."""
MOST_REPORTS = 5_000
"""Reports under one key that are read, the newest first: a month of sweeps every ten minutes."""
FLOW_RUN = "prefect.flow-run."


async def read_run_history(
    client: PrefectClient, kind: RunKind, run_ids: Sequence[str]
) -> tuple[dict[str, list[RunEvent]], datetime | None]:
    """What happened to each of these runs, oldest first, and how far back the reports go. Raises RecordError.

    The oldest report that is left says how far: None where there is none.
    """
    store = ArtifactStore(client)
    found: dict[str, list[RunEvent]] = defaultdict(list)
    for run_id in run_ids:
        found[run_id] += await _from_events(store, kind, run_id)
    pending = [intent for _, intent in await read_pending(store, kind)]
    for run_id in run_ids:
        events = (from_intent(intent, run_id) for intent in pending)
        found[run_id] += [event for event in events if event is not None]
    keys = [f"extend-{what}-{kind}%" for what in ("sweep", "by-id")]
    oldest = [await _from_reports(store, each, kind, run_ids, found) for each in keys]
    untold = {run_id for run_id in run_ids if not any(each.record for each in found[run_id])}
    await _from_records(store, kind, untold, pending, found)
    histories = {run_id: merged(found[run_id]) for run_id in run_ids}
    named = sorted({each.record for its in histories.values() for each in its if each.record})
    wanted = ArtifactFilter(id=ArtifactFilterId(any_=named))
    there = {each.id async for each in store.read(wanted, page=RECORDS_PAGE)} if named else set()
    for run_id, its in histories.items():
        histories[run_id] = [
            each if each.record is None or each.record in there else await _after_purge(store, run_id, each)
            for each in its
        ]
    return histories, min(filter(None, oldest), default=None)


async def _after_purge(store: ArtifactStore, run_id: str, event: RunEvent) -> RunEvent:
    """The same with the record that was written again without other runs; without one where this run was purged."""
    found = await find_records(store, event.flow_run_id, None) if event.flow_run_id else {}
    record = next((of_intent[run_id].artifact_id for of_intent in found.values() if run_id in of_intent), None)
    return event.model_copy(update={"record": record, "is_record_deleted": record is None})


async def _from_events(store: ArtifactStore, kind: RunKind, run_id: str) -> list[RunEvent]:
    wanted = EventFilter(resource=EventResourceFilter(id=[run_resource(kind, run_id)]), order=EventOrder.ASC)
    reading = store.client.read_events(filter=wanted, limit=EVENTS_PAGE)
    page = await store.asked("events cannot be read", reading)
    events = list(page.events)
    while page.next_page is not None:
        page = await store.asked("events cannot be read", store.client.read_events_page(str(page.next_page)))
        events += page.events
    found = (from_event(each.event, each.occurred, each.payload, _flow_run(each)) for each in events)
    return [each for each in found if each is not None]


async def _from_reports(
    store: ArtifactStore, keys: str, kind: RunKind, run_ids: Sequence[str], found: dict[str, list[RunEvent]]
) -> datetime | None:
    wanted = ArtifactFilter(key=ArtifactFilterKey(like_=keys), type=ArtifactFilterType(any_=["markdown"]))
    since: datetime | None = None
    count = 0
    async for page in store.read(wanted, page=REPORTS_PAGE, sort=ArtifactSort.CREATED_DESC):
        since, count = page.created or since, count + 1
        report = read_report(page.metadata_)
        if report is not None and report.kind is kind and page.created is not None:
            for run_id in run_ids:
                found[run_id] += from_report(report, run_id, page.created, page.flow_run_id)
        if count >= MOST_REPORTS:
            break
    return since


async def _from_records(
    store: ArtifactStore,
    kind: RunKind,
    untold: set[str],
    pending: Sequence[CancelIntent],
    found: dict[str, list[RunEvent]],
) -> None:
    """Find the records that no event and no report names: of a sweep that was killed before it could tell."""
    owners = {(each.flow_run_id, each.task_run_id) for each in pending if untold.intersection(each.recorded)}
    if untold:
        async for artifact, recorded in read_completed(store, kind):
            if untold & recorded:
                owners.add((artifact.flow_run_id, artifact.task_run_id))
    for flow_run_id, task_run_id in owners:
        for of_intent in (await find_records(store, flow_run_id, task_run_id)).values():
            for run_id in untold.intersection(of_intent):
                found[run_id] += from_record(of_intent[run_id], flow_run_id)


def _flow_run(event: Event) -> UUID | None:
    for each in event.related:
        if each.role == "flow-run":
            with contextlib.suppress(ValueError):
                return UUID(each.id.removeprefix(FLOW_RUN))
    return None
