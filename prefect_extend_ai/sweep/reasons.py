"""Why a run has its outcome, for the report: what was sent, the responses, what was read."""

from __future__ import annotations

from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.decision import CancelHistory, may_have_ended_before, went_on
from prefect_extend_ai.sweep.report import Outcome

__all__ = ["reason", "requests_sent"]


def requests_sent(history: CancelHistory) -> str:
    """How many cancels were sent, and the response to each."""
    if not history.responses:
        return "no cancel was sent"
    sent = f"{len(history.responses)} cancel{'s' if len(history.responses) != 1 else ''} sent"
    responses = ", ".join(history.responses)
    return f"{sent} ({responses})" if responses == "accepted" else f"{sent} (responses: {responses})"


def reason(outcome: Outcome, history: CancelHistory, run: Run | None, *, skip: str | None, unsent: str) -> str:
    """Why this outcome.

    Args:
        outcome: how it ended.
        history: what was sent.
        run: the run as last read; None where no read came.
        skip: why it must not be cancelled, if so.
        unsent: why no cancel could be sent, if so.
    """
    status = run.status if run else None
    failure = f" ({run.failure_reason})" if run and run.failure_reason else ""
    problem = history.problems[-1] if history.problems else ""
    sent = requests_sent(history)
    match outcome:
        case Outcome.CANCELLED:
            return f"{sent}, status is {status}{failure}{_how_sure(history, run, problem)}"
        case Outcome.ALREADY_CANCELLED:
            if not history.was_sent:
                return "cancelled already at its check, before anything was sent for it"
            return f"somebody else's cancel: it last changed before ours was sent; {sent}"
        case Outcome.FINISHED_FIRST:
            return f"ended as {status}{failure} before a cancel took"
        case Outcome.SPARED:
            why = f"went on to review ({status})" if run and went_on(run) else skip or "no longer stale"
            return f"{why}; {sent}" if history.was_sent else why
        case Outcome.NOT_FOUND:
            where = f"gone; {sent}" if history.was_sent else "not in this workspace and environment"
            return f"{where}: {problem}"
        case Outcome.UNCONFIRMED:
            return _unconfirmed(history, run, problem)
        case Outcome.REFUSED:
            return f"Extend refuses the cancel and the run is still {status}: {problem}; {sent}"
        case Outcome.DEFERRED:
            return unsent
        case _:
            return f"{unsent or _error(history, status, problem)}; {sent}"


def _error(history: CancelHistory, status: str | None, problem: str) -> str:
    if history.reads_since and history.only_refused:
        return f"Extend refuses the cancel, and {status} is neither in progress nor an end: {problem}"
    return problem


def _how_sure(history: CancelHistory, run: Run | None, problem: str) -> str:
    """What else is known of whose cancel it was."""
    if "accepted" not in history.responses and not history.may_have_taken_effect:
        return (
            "; Extend did not accept it, but it was not cancelled at the check right before: a request may arrive "
            "twice, or somebody else cancelled it in between"
        )
    if "accepted" in history.responses and run is not None and may_have_ended_before(run, history):
        return f"; Extend accepts the cancel of a {run.kind} run that has ended too, so another may have come first"
    return f"; confirmed by a read after: {problem}" if problem else ""


def _unconfirmed(history: CancelHistory, run: Run | None, problem: str) -> str:
    status = run.status if run else None
    after = f"; last problem: {problem}" if problem else ""
    none = "" if "accepted" in history.responses else ", none accepted, though one may have taken effect all the same"
    if run is not None and went_on(run):
        found = f"it went on to review ({status}), and ends when somebody has reviewed it"
    else:
        found = f"the status was still {status} at the deadline"
    return f"{requests_sent(history)}{none}; {found}{after}"
