"""What is known of a run that an earlier sweep left open, and what to say of it once it has ended: pure."""

from __future__ import annotations

from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.decision import ended
from prefect_extend_ai.sweep.journal import CancelIntent, Recorded
from prefect_extend_ai.sweep.pending import interrupted
from prefect_extend_ai.sweep.report import Cancellation, Outcome, PendingCancel

__all__ = ["known_of", "recorded_before", "result_of", "unrecorded"]


def known_of(intent: CancelIntent, run_id: str) -> PendingCancel:
    """What is known of one of an intent's runs."""
    return intent.known.get(run_id) or interrupted(run_id, intent.opened_at)


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
