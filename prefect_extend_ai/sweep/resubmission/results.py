"""The result of submitting a document again, and what that leaves to be done: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.chains import Resubmission
from prefect_extend_ai.sweep.journal import CancelIntent
from prefect_extend_ai.sweep.outcomes import Cancellation
from prefect_extend_ai.sweep.plans import PlansLeft, Request, ResubmitPlan

__all__ = [
    "HANDLED",
    "LATER",
    "MAYBE_OURS",
    "ResubmitResult",
    "later",
    "new_runs",
    "plans_left",
    "unknown",
    "with_resubmit",
]

HANDLED = "another sweep submits it again, or has"
LATER = "the next sweep submits it again"


@dataclass(frozen=True, slots=True)
class ResubmitResult:
    """The result of submitting a document again.

    Attributes:
        resubmission: as in a report; None where it is still to be, or another sweep does it.
        reason: why, in words.
        new_run: the run that replaces the old one.
        plan: what is left to be done; None where nothing is.
        created: the new run, as the response to its create showed it.
        in_vain: whether a create was sent, and refused by Extend.
    """

    resubmission: Resubmission | None
    reason: str
    new_run: str | None = None
    plan: ResubmitPlan | None = None
    created: Run | None = None
    in_vain: bool = False

    def added_to(self, cancellation: Cancellation) -> Cancellation:
        """The outcome of the cancelled run, with this."""
        changed = {
            "resubmission": self.resubmission,
            "resubmitted_as": self.new_run,
            "attempt": cancellation.attempt if self.resubmission is not None or self.plan is not None else None,
            "reason": f"{cancellation.reason}; {self.reason}",
            "resubmission_reason": self.reason,
        }
        return cancellation.model_copy(update=changed)


def with_resubmit(result: ResubmitResult | None, cancellation: Cancellation) -> Cancellation:
    """The outcome of a cancelled run, with the result of submitting its document again, if any."""
    return cancellation if result is None else result.added_to(cancellation)


MAYBE_OURS = ResubmitResult(
    "ineligible", "not submitted again: whether an earlier sweep's cancel ended it is not certain"
)


def unknown(run_id: str, plan: ResubmitPlan) -> ResubmitResult:
    """What to say of a run whose creation was not answered, and that is not found: both ids to look for."""
    first = "" if plan.first_run == run_id else f" and prefect_extend_first_run {plan.first_run}"
    reason = (
        "it may have been submitted again: no clear response came, and no new run is found. Never sent again. Look in "
        f"Extend for a run whose metadata has prefect_extend_resubmit_of {run_id}{first}; later sweeps look for 24 "
        "hours"
    )
    return ResubmitResult("unknown", reason, plan=plan.now("unknown"))


def plans_left(
    intent: CancelIntent,
    still_open: Collection[str],
    results: Mapping[str, ResubmitResult],
    requests: Iterable[Request] = (),
) -> PlansLeft:
    """What is left of an intent's plans: those of runs that have not ended, and what came of the others.

    Args:
        intent: the intent.
        still_open: its runs that have not ended.
        results: the results of those that were to be submitted.
        requests: what is still to be submitted.
    """
    left = {run_id: plan for run_id, plan in intent.resubmit.items() if run_id in still_open}
    left |= {each.run_id: each.plan for each in requests}
    for run_id, again in results.items():
        left.pop(run_id, None)
        if again.plan is not None:
            left[run_id] = again.plan
    refused = {run_id: again.reason for run_id, again in results.items() if again.resubmission and not again.new_run}
    refused = {run_id: why for run_id, why in refused.items() if run_id not in left}
    return PlansLeft(left, new_runs(results), refused, [run_id for run_id in refused if results[run_id].in_vain])


def later(requests: Iterable[Request], why: str) -> dict[str, ResubmitResult]:
    """What to say of requests that could not be sent now."""
    return {each.run_id: ResubmitResult(None, f"{LATER}: {why}", plan=each.plan) for each in requests}


def new_runs(results: Mapping[str, ResubmitResult]) -> dict[str, str]:
    """The runs that were created, or found, by the run that each replaces."""
    return {run_id: again.new_run for run_id, again in results.items() if again.new_run is not None}
