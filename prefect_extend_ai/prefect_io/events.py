"""Events for Prefect automations, one for each cancelled run of any kind, and for each document submitted again.

Of the six kinds Extend sends a webhook for cancelled workflow runs only, `workflow_run.cancelled`.

Prefect itself relates an event to the flow run, the flow and the deployment that it is emitted in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prefect import runtime
from prefect.events import emit_event

from prefect_extend_ai.prefect_io.links import run_resource
from prefect_extend_ai.rendering import address
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.report import Cancellation, Outcome, PendingResubmission, SweepReport

__all__ = ["emit_cancelled", "emit_resubmission", "emit_sweep", "tell_cancelled"]

MOST_TOLD = 500
"""Cancelled runs that a sweep's event lists: the default cap of a sweep, some 100 KB."""


def emit_cancelled(kind: RunKind, cancellation: Cancellation) -> None:
    """Say that a run was cancelled: `extend.classify_run.cancelled`. Ids, times and links, nothing of the document.

    And what came of submitting its document again, see `emit_resubmission`.
    """
    if cancellation.outcome is not Outcome.CANCELLED:
        return
    emit_event(
        event=f"extend.{kind.object_name}.cancelled",
        resource={
            "prefect.resource.id": run_resource(kind, cancellation.run_id),
            "prefect.resource.name": cancellation.run_id,
            "extend.kind": kind.value,
        },
        payload=_facts(cancellation) | {"kind": kind.value, "outcome": cancellation.outcome.value},
    )
    emit_resubmission(kind, cancellation)


def emit_resubmission(kind: RunKind, run: Cancellation | PendingResubmission) -> None:
    """Say that a cancelled run's document was submitted again, or given up: `extend.classify_run.resubmitted`.

    Both runs, the document's first run and the number of the new one; `extend.classify_run.given_up` has no new run.
    """
    name = {"submitted": "resubmitted", "given_up": "given_up"}.get(run.resubmission or "")
    if name is None:
        return
    emit_event(
        event=f"extend.{kind.object_name}.{name}",
        resource={
            "prefect.resource.id": f"extend.{kind.object_name}.{run.run_id}",
            "prefect.resource.name": run.run_id,
            "extend.kind": kind.value,
        },
        payload={
            "run_id": run.run_id,
            "kind": kind.value,
            "first_run": run.first_run,
            "attempt": run.attempt,
            "resubmitted_as": run.resubmitted_as,
        },
    )


async def tell_cancelled(kind: RunKind, cancellations: Iterable[Cancellation]) -> None:
    """Emit the event of each run that was cancelled, while requests of other runs go first."""
    for cancellation in cancellations:
        emit_cancelled(kind, cancellation)
        await asyncio.sleep(0)


def emit_sweep(report: SweepReport, recovered: Iterable[Cancellation] = (), *, is_news: bool | None = None) -> None:
    """Say how a sweep ended: `extend.sweep.completed`, `.refused` or `.failed`.

    And what came of documents that earlier sweeps were to submit again, see `emit_resubmission`.

    Args:
        report: the sweep's report.
        recovered: what it recorded of earlier sweeps; no sweep before has reported what of it was cancelled.
        is_news: whether it needs a person for something that no sweep before it has reported; None where nobody knows
            what they reported.
    """
    for earlier in report.resubmissions:
        emit_resubmission(report.kind, earlier)
    ending = "refused" if report.refusal is not None else "failed" if report.needs_attention else "completed"
    cancelled = [each for each in (*report.cancellations, *recovered) if each.outcome is Outcome.CANCELLED]
    emit_event(
        event=f"extend.sweep.{ending}",
        resource={
            "prefect.resource.id": f"extend.sweep.{report.kind}.{report.workspace_id or 'default'}",
            "prefect.resource.name": f"Sweep of {report.kind} runs",
            "extend.kind": report.kind.value,
            # For automations to match: a schedule left on dry_run must not keep a dead man's switch quiet.
            "extend.dry_run": str(report.dry_run).lower(),
            # The same: a digest is for sweeps that cancelled something.
            "extend.cancelled": str(len(cancelled)),
            # The same: an outage refuses sweep after sweep, and is one trouble.
            "extend.news": str(report.needs_attention if is_news is None else is_news).lower(),
        },
        payload={
            "headline": report.headline,
            "kind": report.kind.value,
            "dry_run": report.dry_run,
            "selected": report.selected,
            "counts": {outcome.value: count for outcome, count in report.counts.items()},
            "exempt": report.exempt,
            "cancelled": [_facts(each) for each in cancelled[:MOST_TOLD]],
            "cancelled_total": len(cancelled),
            "flow_run_id": runtime.flow_run.id,
        },
    )


def _facts(cancellation: Cancellation) -> dict[str, str | float | None]:
    """Ids, times and links, nothing of the document."""
    return {
        "run_id": cancellation.run_id,
        "age_minutes": round(cancellation.age_minutes, 1) if cancellation.age_minutes is not None else None,
        "dashboard_url": address(cancellation.dashboard_url),
        "record": str(cancellation.record) if cancellation.record else None,
    }
