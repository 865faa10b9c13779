"""What is known of a run that an earlier sweep left open, and what to say of it once it has ended: pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.decision import ended
from prefect_extend_ai.sweep.journal import CancelIntent, Recorded
from prefect_extend_ai.sweep.plans import ResubmitPlan
from prefect_extend_ai.sweep.recovery.pending import interrupted
from prefect_extend_ai.sweep.report import Cancellation, OpenElsewhere, Outcome, PendingCancel

__all__ = ["known_of", "open_elsewhere", "plans_to_keep", "recorded_before", "result_of", "unrecorded"]


def known_of(intent: CancelIntent, run_id: str) -> PendingCancel:
    """What is known of one of an intent's runs."""
    return intent.known.get(run_id) or interrupted(run_id, intent.opened_at)


def plans_to_keep(intents: Sequence[CancelIntent], recorded: Collection[str]) -> dict[UUID, dict[str, ResubmitPlan]]:
    """Which intent keeps the plan for a run that several name: one plan for a run, in one intent.

    The plan that is furthest counts, and of several the newest. Where its run is still to be read, it goes to the
    newest intent that names the run, which is the one that keeps the run.

    Args:
        intents: the open intents, oldest first.
        recorded: runs that several name, and that one of them has recorded.
    """
    best: dict[str, tuple[int, CancelIntent]] = {}
    newest: dict[str, CancelIntent] = {}
    for intent in intents:
        newest |= dict.fromkeys(intent.run_ids, intent)
        for run_id, plan in intent.resubmit.items():
            is_read = run_id in recorded or run_id not in intent.run_ids
            rank = _RANK[plan.state] if plan.was_sent else int(is_read)
            if run_id not in best or rank >= best[run_id][0]:
                best[run_id] = (rank, intent)
    kept: dict[UUID, dict[str, ResubmitPlan]] = {intent.id: {} for intent in intents}
    for run_id, (rank, intent) in best.items():
        holder = intent if rank else newest[run_id]
        kept[holder.id][run_id] = intent.resubmit[run_id]
    return kept


_RANK = {"sending": 2, "unknown": 3}


def unrecorded(intent: CancelIntent, cancellation: Cancellation) -> PendingCancel:
    """What is known of a run that has ended and cannot be recorded."""
    before = known_of(intent, cancellation.run_id)
    return before.model_copy(update={"outcome": cancellation.outcome, "status": cancellation.status})


def recorded_before(run_id: str, where: Recorded) -> Cancellation:
    """The outcome of a run whose final object an earlier sweep has recorded."""
    outcome = Outcome(where.outcome) if where.outcome in list(Outcome) else Outcome.CANCELLED
    reason = "recorded by an earlier sweep, or an earlier attempt of this one"
    return Cancellation(run_id=run_id, outcome=outcome, reason=reason, record=where.artifact_id)


def result_of(run: Run, before: PendingCancel) -> Cancellation:
    """The outcome of a run that has ended since, and what of it is known for certain."""
    outcome = ended(run, ours=before.attempts != 0)
    since = f"{before.since:%Y-%m-%d %H:%M} UTC"
    if outcome is Outcome.ALREADY_CANCELLED:
        reason = f"cancelled by somebody else: an earlier sweep could send no cancel for it (since {since})"
    elif outcome is Outcome.FINISHED_FIRST:
        reason = f"ended as {run.status} although an earlier sweep was to cancel it (since {since})"
    elif before.attempts is None:
        reason = (
            f"{run.status} now. A sweep was about to cancel it at {since} and was interrupted: whether its cancel was "
            "sent, or somebody else cancelled the run, is not known"
        )
    else:
        sent = f"{before.attempts} cancel{'s' if before.attempts != 1 else ''}"
        reason = f"{run.status} now, after {sent} of earlier sweeps, the first at {since}"
    return Cancellation(
        run_id=run.id,
        outcome=outcome,
        reason=reason,
        status=run.status,
        dashboard_url=run.dashboard_url,
        request_ids=before.request_ids,
    )


def open_elsewhere(intents: Collection[CancelIntent]) -> OpenElsewhere | None:
    """What the report says of intents that this account cannot read; None where there are none."""
    if not intents:
        return None
    runs = {run_id for intent in intents for run_id in (*intent.run_ids, *intent.resubmit)}
    return OpenElsewhere(intents=len(intents), runs=len(runs), since=min(intent.opened_at for intent in intents))
