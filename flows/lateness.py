"""A scheduled sweep that comes late, and whose work another has done meanwhile."""

from datetime import timedelta

from prefect.context import FlowRunContext

from prefect_extend_ai.prefect_io.journal import PrefectJournal
from prefect_extend_ai.sweep import Selector

__all__ = ["why_skipped"]

START_AND_END = timedelta(minutes=10)
"""What a sweep may take beside its cancels: until it begins with them, and to record the last."""


async def why_skipped(journal: PrefectJournal, selector: Selector, *, dry_run: bool) -> str | None:
    """Why this sweep has nothing to do; None where it has to look. Prefect is asked only about one that is late."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or selector.is_named or dry_run:
        return None
    policy = selector.policy
    longest = timedelta(minutes=policy.max_sweep_minutes, seconds=policy.confirm_seconds) + START_AND_END
    other = await journal.flow_runs.superseding(context.flow_run, longest)
    if other is None:
        return None
    due = context.flow_run.expected_start_time
    how = "has completed" if other.completed else "is at work"
    return f"it was due at {due:%Y-%m-%d %H:%M} UTC, and {other.name}, which began at {other.started:%H:%M} UTC, {how}"
