"""A run that a sweep is to cancel, with the little that the rest of the sweep needs of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.plans import ResubmitPlan
from prefect_extend_ai.sweep.report import Cancellation, Outcome
from prefect_extend_ai.sweep.rules.limits import Limit, LimitSource

__all__ = ["Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """A run that somebody wants cancelled, with the little that the rest of the sweep needs of it.

    The run object itself is let go: a backlog of 50,000 would not fit into memory with its documents.
    """

    run_id: str
    updated_at: datetime | None = None
    created_at: datetime | None = None
    age_minutes: float | None = None
    dashboard_url: str | None = None
    processor_id: str | None = None
    limit: Limit | None = None
    learned_minutes: int | None = None
    plan: ResubmitPlan | None = None

    @classmethod
    def of(cls, run: Run, limit: Limit | None = None) -> Target:
        """The target that a listed run becomes, and the limit that it has passed."""
        return cls(
            run.id,
            run.updated_at,
            run.created_at,
            run.age_minutes,
            run.dashboard_url,
            processor_id=run.processor_id,
            limit=limit,
        )

    def cancellation(self, outcome: Outcome, reason: str) -> Cancellation:
        """Its outcome where nothing was sent or read for it."""
        return Cancellation(
            run_id=self.run_id,
            outcome=outcome,
            reason=reason,
            age_minutes=self.age_minutes,
            limit=self.limit,
            dashboard_url=self.dashboard_url,
        )

    def would_cancel(self, rule: str) -> Cancellation:
        """What a dry run says of it: whether its document would be submitted again too."""
        cancellation = self.cancellation(Outcome.WOULD_CANCEL, f"dry run; {rule}")
        if self.plan is None:
            return cancellation
        why = self.plan.why_not
        again = "given_up" if self.plan.gives_up else "ineligible" if why is not None else None
        words = {"given_up": "would be given up", "ineligible": f"would not be submitted again: {why}"}
        said = words.get(again or "", f"would be submitted again, as number {self.plan.attempt}")
        return cancellation.model_copy(
            update={
                "resubmission": again,
                "attempt": self.plan.attempt,
                "reason": f"{cancellation.reason}; {said}",
                "resubmission_reason": said if again == "ineligible" else "",
            }
        )

    def has_learned(self, minutes: int) -> Target:
        """The same with the learned limit of its processor."""
        longer = self.limit is not None and self.limit.source is not LimitSource.TOTAL and minutes > self.limit.minutes
        limit = Limit(minutes, LimitSource.LEARNED) if longer else self.limit
        return replace(self, limit=limit, learned_minutes=minutes)

    def is_within(self, minutes: int, total_minutes: int | None) -> bool:
        """Whether it had passed neither this limit, nor the total one, when it was listed."""
        if self.age_minutes is None or self.age_minutes > minutes:
            return False
        if total_minutes is None or self.created_at is None or self.updated_at is None:
            return True
        return self.age_minutes + (self.updated_at - self.created_at).total_seconds() / 60 <= total_minutes
