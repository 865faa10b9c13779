"""Why a run has its outcome, in words for a person: what was sent, what was answered, what was read."""

from __future__ import annotations

from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.decision import Tried, may_have_ended_before, went_on
from prefect_extend_ai.sweep.report import Outcome

__all__ = ["reason", "what_was_sent"]


def what_was_sent(tried: Tried) -> str:
    """How many cancels were sent, and what each was answered."""
    if not tried.answers:
        return "no cancel was sent"
    sent = f"{len(tried.answers)} cancel{'s' if len(tried.answers) != 1 else ''} sent"
    return (
        f"{sent} ({', '.join(tried.answers)})"
        if tried.answers == ["accepted"]
        else (f"{sent} (answered: {', '.join(tried.answers)})")
    )


def reason(outcome: Outcome, tried: Tried, run: Run | None, *, skip: str | None, why_not: str) -> str:
    """Why this outcome.

    Args:
        outcome: how it ended.
        tried: what was tried.
        run: the run as last read; None where no read came.
        skip: why no cancel may go out for it, where that is so.
        why_not: why no cancel could be sent, where that is so.
    """
    status = run.status if run else None
    failure = f" ({run.failure_reason})" if run and run.failure_reason else ""
    problem = tried.problems[-1] if tried.problems else ""
    sent = what_was_sent(tried)
    match outcome:
        case Outcome.CANCELLED:
            return f"{sent}, status is {status}{failure}{_how_sure(tried, run, problem)}"
        case Outcome.ALREADY_CANCELLED:
            before = f"somebody else's cancel: it last changed before ours left; {sent}"
            return before if tried.asked else "cancelled already when it was checked, before anything was sent for it"
        case Outcome.FINISHED_FIRST:
            return f"ended as {status}{failure} before a cancel took"
        case Outcome.SPARED:
            why = f"went on to review ({status})" if run and went_on(run) else skip or "no longer stale"
            return f"{why}; {sent}" if tried.asked else why
        case Outcome.NOT_FOUND:
            where = f"gone; {sent}" if tried.asked else "not in this workspace and environment"
            return f"{where}: {problem}"
        case Outcome.UNCONFIRMED:
            return _unconfirmed(tried, run, problem)
        case Outcome.REFUSED:
            return f"Extend refuses the cancel and the run is still {status}: {problem}; {sent}"
        case Outcome.DEFERRED:
            return why_not
        case _:
            return f"{why_not or _error(tried, status, problem)}; {sent}"


def _error(tried: Tried, status: str | None, problem: str) -> str:
    if tried.reads_since and tried.only_refused:
        return f"Extend refuses the cancel, and {status} is neither in progress nor an end: {problem}"
    return problem


def _how_sure(tried: Tried, run: Run | None, problem: str) -> str:
    """What else is known of whose cancel it was."""
    if "accepted" not in tried.answers and not tried.may_have_taken:
        return (
            "; Extend did not accept it, but it was not cancelled at the check right before: a request may arrive "
            "twice, or somebody else cancelled it in between"
        )
    if "accepted" in tried.answers and run is not None and may_have_ended_before(run, tried):
        return f"; Extend accepts the cancel of a {run.kind} run that has ended too, so another may have come first"
    return f"; confirmed by a read after: {problem}" if problem else ""


def _unconfirmed(tried: Tried, run: Run | None, problem: str) -> str:
    status = run.status if run else None
    after = f"; last problem: {problem}" if problem else ""
    none = "" if "accepted" in tried.answers else ", none accepted, though one may have taken all the same"
    if run is not None and went_on(run):
        found = f"it went on to review ({status}), and ends when somebody has reviewed it"
    else:
        found = f"the status was still {status} at the deadline"
    return f"{what_was_sent(tried)}{none}; {found}{after}"
