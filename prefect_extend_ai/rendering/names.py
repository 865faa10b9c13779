"""Names of flow runs: what a sweep is, and at its end what it did."""

from __future__ import annotations

from prefect_extend_ai.rendering.inert import visible
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.report import Outcome, SweepReport

__all__ = ["name_at_end", "name_at_start"]


def name_at_start(whose: str | None, kind: RunKind | str, *, dry_run: bool = False, by_id: bool = False) -> str:
    """`acme extract`, `acme extract by id`, `acme extract dry run`: a dry run must not look like a sweep.

    Args:
        whose: the block's name, or the workspace; None where neither is known.
        kind: the kind of run.
        dry_run: whether it only looks.
        by_id: whether somebody named the runs.
    """
    how = " by id" if by_id else " dry run" if dry_run else ""
    return f"{visible(whose or 'extend', 60)} {kind}{how}"


def name_at_end(before: str, report: SweepReport) -> str:
    """`acme extract: cancelled 40 of 40, 2 failed`. One that had nothing to do keeps its name."""
    if report.skipped is not None:
        return f"{before}: skipped"
    did: list[str] = []
    if report.selected:
        outcome, verb = (Outcome.WOULD_CANCEL, "would cancel") if report.dry_run else (Outcome.CANCELLED, "cancelled")
        did.append(f"{verb} {report.counts[outcome]:,} of {report.selected:,}")
    if failed := sum(count for outcome, count in report.counts.items() if outcome.needs_attention):
        did.append(f"{failed:,} failed")
    if report.recovered:
        did.append(f"recorded {len(report.recovered):,} of an earlier sweep")
    if report.pending:
        did.append(f"{len(report.pending):,} pending")
    if report.trouble is not None:
        did.append("stopped early" if did else "nothing cancelled")
    return f"{before}: {', '.join(did)}" if did else before
