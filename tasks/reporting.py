"""The task that writes a sweep's report: a page and a table, each under a key whose history is that of the sweeps."""

import json
from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from prefect_extend_ai.prefect_io import PrefectJournal, record_url
from prefect_extend_ai.prefect_io.links import url_for
from prefect_extend_ai.rendering import report_page, report_table, unmarked
from prefect_extend_ai.sweep.report import SweepReport

__all__ = ["write_report"]


@task(name="write-sweep-report", cache_policy=NO_CACHE)
async def write_report(journal: PrefectJournal, report: SweepReport, rules: Sequence[tuple[str, str]]) -> None:
    """Write the report's page, and its table of runs. Raises RecordError."""
    what = "sweep" if report.limit_minutes is not None else "by-id"
    key = f"extend-{what}-{journal.scope.slug}"
    flow_run_url = url_for("flow-run", obj_id=journal.flow_run_id) if journal.flow_run_id else None
    page = report_page(report, policy_lines=rules, record_url=record_url, flow_run_url=flow_run_url)
    artifact = await journal.write(key=key, type="markdown", description=unmarked(report.headline), data=page)
    get_run_logger().info("The report: %s", record_url(artifact.id) or f"artifact {artifact.id}")
    # Without rows too: the newest table is the newest sweep's.
    rows = json.dumps(report_table(report, record_url))
    await journal.write(key=f"{key}-runs", type="table", description=unmarked(report.headline), data=rows)
