"""What happened to one run: what events, reports, records and pending entries say of it, put together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefect_extend_ai.sweep.journal import CancelIntent, Recorded
from prefect_extend_ai.sweep.plans import ResubmitPlan
from prefect_extend_ai.sweep.recovery.unfinished import MAY_BE_SUBMITTED, TO_BE_SUBMITTED
from prefect_extend_ai.sweep.report import Cancellation, SweepReport
from prefect_extend_ai.sweep.resubmission.results import unknown

__all__ = ["RunEvent", "from_event", "from_intent", "from_record", "from_report", "merged"]

OPEN = "still open"
PENDING = "pending"
"""Outcome of a run that an interrupted sweep was about to cancel, or whose document is still to be submitted again."""
RESUBMITTED = "resubmitted"
"""Outcome of a document whose run was cancelled before: what its event is called."""


class RunEvent(BaseModel):
    """One thing that happened to a run.

    Attributes:
        at: when.
        outcome: the `Outcome` it had in a sweep; `pending`, or the name of another event of the run, else.
        reason: why, in words.
        flow_run_id: the sweep.
        record: the artifact that holds the final object; None without one, and where it was deleted.
        is_record_deleted: whether there was one, and it was deleted.
        resubmitted_as: the run that its document was submitted again as.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    outcome: str
    reason: str | None = None
    flow_run_id: UUID | None = None
    record: UUID | None = None
    is_record_deleted: bool = Field(default=False, exclude=True)
    resubmitted_as: str | None = None


def from_event(name: str, at: datetime, payload: Mapping[str, Any], flow_run_id: UUID | None) -> RunEvent | None:
    """What an event of the run says, `extend.classify_run.cancelled` say; None where it cannot be read."""
    what = name.rpartition(".")[2]
    resubmitted_as = payload.get("resubmitted_as")
    outcome = payload.get("outcome") if what == "cancelled" else what
    try:
        return RunEvent(
            at=at,
            outcome=outcome or "cancelled",
            flow_run_id=flow_run_id,
            record=payload.get("record") or None,
            resubmitted_as=resubmitted_as or None,
        )
    except ValidationError:
        return None


def from_report(report: SweepReport, run_id: str, at: datetime, flow_run_id: UUID | None) -> Iterator[RunEvent]:
    """What a sweep's report says of the run; nothing where it was a dry run."""
    if report.dry_run:
        return
    for each in (*report.cancellations, *report.recovered):
        if each.run_id == run_id:
            yield RunEvent(
                at=at,
                outcome=each.outcome.value,
                reason=_reason(each),
                flow_run_id=flow_run_id,
                record=each.record,
                resubmitted_as=each.resubmitted_as,
            )
    for again in report.resubmissions:
        if again.run_id == run_id and (again.is_news or (again.resubmission and not again.is_looked_for)):
            yield RunEvent(
                at=at,
                outcome=RESUBMITTED if again.resubmission == "submitted" else again.resubmission or PENDING,
                reason=again.reason or None,
                flow_run_id=flow_run_id,
                resubmitted_as=again.resubmitted_as,
            )


def from_intent(intent: CancelIntent, run_id: str) -> RunEvent | None:
    """What an open entry says of the run, or of its document; None where neither is open there."""
    if run_id not in intent.run_ids:
        plan = intent.resubmit.get(run_id)
        return None if plan is None else _from_plan(intent, run_id, plan)
    known = intent.known.get(run_id)
    if known is None:
        reason = "a sweep was about to cancel it and is not known to have ended: the next one reads it again"
        return RunEvent(at=intent.opened_at, outcome=PENDING, reason=reason, flow_run_id=intent.flow_run_id)
    sent = "no cancel" if known.attempts == 0 else f"{known.attempts or 'some'} cancels"
    after = "sweeps ask for it no more" if known.set_aside else "sweeps read it again"
    return RunEvent(
        at=known.since,
        outcome=known.outcome.value if known.outcome else PENDING,
        reason=f"{OPEN}: {sent} sent, last status {known.status or 'unknown'}; {after}",
        flow_run_id=intent.flow_run_id,
    )


def from_record(recorded: Recorded, flow_run_id: UUID | None) -> Iterator[RunEvent]:
    """What a record says of the run, where nothing else tells of it."""
    if recorded.recorded_at is not None:
        yield RunEvent(
            at=recorded.recorded_at,
            outcome=recorded.outcome or "recorded",
            reason="known from its record alone: the sweep ended before it could report",
            flow_run_id=flow_run_id,
            record=recorded.artifact_id,
        )


def _from_plan(intent: CancelIntent, run_id: str, plan: ResubmitPlan) -> RunEvent:
    why = {"planned": TO_BE_SUBMITTED, "sending": MAY_BE_SUBMITTED, "unknown": unknown(run_id, plan).reason}
    at = plan.sent_at or plan.planned_at or intent.opened_at
    return RunEvent(at=at, outcome=PENDING, reason=why[plan.state], flow_run_id=intent.flow_run_id)


def merged(found: Iterable[RunEvent]) -> list[RunEvent]:
    """Oldest first; what several sources say of one outcome in one flow run is one entry, with all that they know."""
    entries: dict[tuple[object, str], RunEvent] = {}
    for each in sorted(found, key=lambda each: each.at):
        # Without a flow run nothing tells two apart but the time.
        key = (each.flow_run_id or each.at, each.outcome)
        before = entries.get(key)
        entries[key] = each if before is None else _joined(before, each)
    for (sweep, outcome), again in list(entries.items()):
        # A document is submitted again because its run was cancelled: one thing, where one sweep did both.
        if outcome == RESUBMITTED and (cancelled := entries.get((sweep, "cancelled"))) is not None:
            entries[(sweep, "cancelled")] = _joined(cancelled, again)
            del entries[(sweep, outcome)]
    return sorted(entries.values(), key=lambda each: each.at)


def _joined(one: RunEvent, other: RunEvent) -> RunEvent:
    reasons = dict.fromkeys(reason for reason in (one.reason, other.reason) if reason is not None)
    return one.model_copy(
        update={
            # What a sweep said comes before what has been open since.
            "reason": "; ".join(sorted(reasons, key=lambda reason: reason.startswith(OPEN))) or None,
            "record": one.record or other.record,
            "resubmitted_as": one.resubmitted_as or other.resubmitted_as,
        }
    )


def _reason(each: Cancellation) -> str:
    return "; ".join(part for part in (each.why_stale, each.reason) if part)
