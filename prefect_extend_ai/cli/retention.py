"""Does anything ever delete records, which hold people's data?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from prefect.client.base import ServerType
from prefect.client.orchestration import PrefectClient
from pydantic import TypeAdapter

from prefect_extend_ai.cli.findings import Finding, Verdict

__all__ = ["check_retention", "judge_retention"]

SUBJECT = "Retention"
VACUUM = "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs"
ALL = ("flow_runs", "events", "orphans")


async def check_retention(prefect: PrefectClient) -> Finding | None:
    """A finding on what deletes records; None where the server does not tell."""
    if prefect.server_type is ServerType.CLOUD:
        return Finding(SUBJECT, Verdict.OK, "Prefect Cloud deletes records when they are as old as your plan says")
    answer = await prefect._client.get("/admin/settings")  # noqa: SLF001  # Prefect's client has no method for it
    found = answer.json().get("server", {}).get("services", {}).get("db_vacuum") if answer.is_success else None
    return judge_retention(found) if isinstance(found, dict) else None


def judge_retention(vacuum: Mapping[str, Any]) -> Finding:
    """Whether the server's vacuum deletes old flow runs, whose artifacts go with them.

    Args:
        vacuum: its settings, as the server tells them.
    """
    enabled = vacuum.get("enabled")
    kinds = ALL if enabled is True else enabled if isinstance(enabled, list) else ()
    if "flow_runs" not in kinds:
        return Finding(
            SUBJECT,
            Verdict.WARN,
            "nothing ever deletes records, and they hold people's data: set "
            f"{VACUUM} where the server starts, or schedule prefect-extend-ai purge --older-than DAYS",
        )
    # An ISO 8601 duration, P90D say, or a number of seconds.
    days = TypeAdapter(timedelta).validate_python(vacuum.get("retention_period") or 0) / timedelta(days=1)
    if days < 2:
        what = f"flow runs are deleted after {days:.1f} days, and open entries are renewed once a day: keep them for 2"
        return Finding(SUBJECT, Verdict.WARN, what)
    return Finding(SUBJECT, Verdict.OK, f"the server deletes flow runs, and records with them, after {days:.0f} days")
