"""Reports in Prefect's artifacts: pages under keys whose versions are the history of sweeps, and a table to search.

A sweep that found nothing leaves one artifact.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactCollectionFilterKey

from prefect_extend_ai.errors import RecordRefusedError
from prefect_extend_ai.prefect_io.artifacts import record_url
from prefect_extend_ai.prefect_io.journal import PrefectJournal
from prefect_extend_ai.prefect_io.links import events_url, url_for
from prefect_extend_ai.prefect_io.pieces import in_pieces, joined
from prefect_extend_ai.prefect_io.saved_reports import report_metadata
from prefect_extend_ai.rendering import report_page, report_table, unmarked
from prefect_extend_ai.sweep.history import HOLDS_META, SWEEPS_META, History
from prefect_extend_ai.sweep.journal import Scope
from prefect_extend_ai.sweep.report import Outcome, SweepReport

__all__ = ["last_cancelled_key", "read_history", "report_key", "write_report"]


async def read_history(journal: PrefectJournal) -> History:
    """What the latest report of a real sweep of this scope says of the sweeps before it. Raises RecordError."""
    wanted = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=[_key("sweep", journal.scope)]))
    reading = journal.store.client.read_latest_artifacts(artifact_filter=wanted, limit=1)
    found = await journal.store.asked("the history of sweeps cannot be read", reading)
    return _history(found[0].metadata_) if found else History()


async def write_report(
    journal: PrefectJournal, report: SweepReport, rules: Sequence[tuple[str, str]], history: History
) -> str:
    """Write the report, and its table of runs where it has any; the report's address. Raises RecordError.

    Args:
        journal: the journal of the sweep.
        report: what it did.
        rules: names and values of the policy it ran with.
        history: the sweeps up to this one.
    """
    key = report_key(report, journal.scope)
    flow_run_url = url_for("flow-run", obj_id=journal.flow_run_id) if journal.flow_run_id else None
    page = report_page(
        report,
        policy_lines=rules,
        record_url=record_url,
        flow_run_url=flow_run_url,
        events_url=events_url,
        history=history.sweeps,
    )
    facts = {"type": "markdown", "description": unmarked(report.headline), "data": page}
    # Only a real sweep is history.
    kept = _history_metadata(history) if key == _key("sweep", journal.scope) else {}
    writes: list[Awaitable[Any]] = [journal.write(key=key, metadata_=kept | report_metadata(report), **facts)]
    if report.cancellations:
        writes.append(_write_table(journal, f"{key}-runs", report, report_table(report, record_url)))
    if report.counts[Outcome.CANCELLED]:
        writes.append(journal.write(key=last_cancelled_key(journal.scope), **facts))
    # Each is tried, whatever became of the others: without a table there is still a report.
    written: list[Any] = await asyncio.gather(*writes, return_exceptions=True)
    for failure in written:
        if isinstance(failure, BaseException):
            raise failure
    artifact = written[0]
    return record_url(artifact.id) or f"artifact {artifact.id}"


def _history_metadata(history: History) -> dict[str, str]:
    """What a sweep tells the next one, as metadata of its report."""
    return {key: piece for name, text in history.dump().items() for key, piece in in_pieces(name, text).items()}


def _history(metadata: Mapping[str, str] | None) -> History:
    return History.load({name: joined(name, metadata) for name in (SWEEPS_META, HOLDS_META)})


async def _write_table(journal: PrefectJournal, key: str, report: SweepReport, shown: list[dict[str, Any]]) -> None:
    """Write the table, or as many of its first rows as Prefect takes. Raises RecordError."""
    runs = len(report.cancellations)
    while True:
        cut = f" (the first {len(shown):,} of {runs:,} runs: the table holds no more)" if len(shown) < runs else ""
        description = unmarked(report.headline) + cut
        try:
            await journal.write(key=key, type="table", description=description, data=json.dumps(shown))
        except RecordRefusedError:
            if len(shown) <= 1:
                raise
            shown = shown[: len(shown) // 2]
        else:
            return


def report_key(report: SweepReport, scope: Scope) -> str:
    """The key of a report: those of sweeps, of dry runs and of runs cancelled by id are apart."""
    return _key("by-id" if report.limit_minutes is None else "dry-run" if report.dry_run else "sweep", scope)


def last_cancelled_key(scope: Scope) -> str:
    """The key under which the latest report is found that tells of a cancelled run."""
    return _key("last-cancelled", scope)


def _key(what: str, scope: Scope) -> str:
    return f"extend-{what}-{scope.slug}"
