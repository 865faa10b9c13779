"""The machine-readable report of a sweep, which lies beside the page that people read.

It is in the metadata of the page's artifact, as compressed JSON, so that a sweep writes no artifact for it.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    ArtifactFilterType,
)
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import ObjectNotFound

from prefect_extend_ai.errors import ExtendInputError, RecordError
from prefect_extend_ai.prefect_io.addresses import without_password
from prefect_extend_ai.prefect_io.artifacts import ArtifactStore
from prefect_extend_ai.prefect_io.pieces import in_pieces, joined
from prefect_extend_ai.sweep.report import SweepReport

__all__ = ["read_report", "report_metadata", "sweep_report"]

REPORT_META = "extend_report"
"""Metadata: the report, in pieces."""


async def sweep_report(flow_run_id: UUID | str) -> SweepReport:
    """The report of a sweep, from what it left in Prefect; the sweep's result need not be persisted for it.

    For code that started the sweep from elsewhere, with `run_deployment` say. It is there once the flow run has ended,
    completed or failed.

    Args:
        flow_run_id: The flow run of `cancel_stale_runs` or `cancel_runs`.

    Raises:
        ExtendInputError: This is not the id of a flow run.
        RecordError: Prefect knows no such flow run, it has left no report (yet), or Prefect cannot be read.
    """
    try:
        wanted = flow_run_id if isinstance(flow_run_id, UUID) else UUID(str(flow_run_id))
    except ValueError:
        raise ExtendInputError(f"{str(flow_run_id)[:60]!r} is not the id of a flow run") from None
    async with get_client() as client:
        store = ArtifactStore(client)
        pages = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[wanted]),
            key=ArtifactFilterKey(like_="extend-%"),
            type=ArtifactFilterType(any_=["markdown"]),
        )
        # The newest first: where Prefect has run the flow again, its last attempt's.
        async for page in store.read(pages, sort=ArtifactSort.CREATED_DESC):
            if (report := read_report(page.metadata_)) is not None:
                return report
        raise RecordError(await _why_none(store, wanted))


def report_metadata(report: SweepReport) -> dict[str, str]:
    """The report as metadata of its page's artifact."""
    text = base64.b64encode(zlib.compress(report.model_dump_json().encode())).decode()
    return in_pieces(REPORT_META, text)


def read_report(metadata: Mapping[str, str] | None) -> SweepReport | None:
    """The report that an artifact's metadata hold; None where they hold none, or not the whole of one."""
    text = joined(REPORT_META, metadata)
    if text is None:
        return None
    try:
        return SweepReport.model_validate_json(zlib.decompress(base64.b64decode(text)))
    except (ValueError, zlib.error, binascii.Error):
        return None


async def _why_none(store: ArtifactStore, flow_run_id: UUID) -> str:
    try:
        run = await store.asked("a flow run cannot be read", store.client.read_flow_run(flow_run_id))
    except ObjectNotFound:
        where = without_password(store.client.api_url)
        return f"Prefect at {where} knows no flow run {flow_run_id}: check the id, and PREFECT_API_URL"
    if run.state is None or not run.state.is_final():
        return f"flow run {flow_run_id} is {run.state_name or 'new'}: it leaves its report when it ends"
    message = f": {run.state.message}" if run.state.message else ""
    return (
        f"flow run {flow_run_id} has left no report. It is not a sweep, ended before it could write one, or its report "
        f"was deleted. It ended {run.state_name}{message}"
    )
