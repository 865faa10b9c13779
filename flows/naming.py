"""What lists of flow runs show of a sweep: whose runs of which kind, and at the end what it did."""

from typing import Any

from prefect import runtime

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.prefect_io.journal import PrefectJournal
from prefect_extend_ai.prefect_io.naming import current_name, is_made_up, keep_given_name
from prefect_extend_ai.rendering import name_at_end, name_at_start
from prefect_extend_ai.runs.ids import guess_kind, split_run_ids
from prefect_extend_ai.sweep.report import SweepReport

__all__ = ["rename", "sweep_name"]


def sweep_name() -> str:
    """The name with which a flow run of either flow begins."""
    return keep_given_name(_name(runtime.flow_run.parameters))


def _name(parameters: dict[str, Any]) -> str:
    named = parameters.get("run_ids")
    kind = parameters["kind"] or guess_kind(split_run_ids(named or []))
    return name_at_start(
        _whose(parameters["credentials"]), kind, dry_run=bool(parameters.get("dry_run")), by_id=named is not None
    )


async def rename(journal: PrefectJournal, credentials: ExtendCredentials, report: SweepReport) -> None:
    """Say in the flow run's name what it did, where it did anything, and where nobody has given it another name."""
    by_id = report.limit_minutes is None
    before = name_at_start(_whose(credentials), report.kind, dry_run=report.dry_run, by_id=by_id)
    after = name_at_end(before, report)
    if journal.flow_run_id is not None and after != before and is_made_up(current_name(), before):
        await journal.flow_runs.rename(journal.flow_run_id, after, before)


def _whose(credentials: ExtendCredentials) -> str | None:
    return credentials._block_document_name or credentials.workspace_id  # noqa: SLF001  # Prefect has no other
