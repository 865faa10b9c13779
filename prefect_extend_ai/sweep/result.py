"""How one run ended: its outcome for the report, and its final object for the record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.decision import CancelHistory, went_on
from prefect_extend_ai.sweep.plans import Request
from prefect_extend_ai.sweep.report import Cancellation, Outcome
from prefect_extend_ai.sweep.targets import Target

__all__ = ["Result"]


@dataclass(frozen=True, slots=True)
class Result:
    """How one run ended.

    Attributes:
        cancellation: the outcome, for the report.
        final: the final run object, complete; None where the run has not ended, or was not found.
        open: whether a cancel of ours may still take effect, so that a later sweep has to read the run again.
        attempts: how many cancels were sent, throttled ones included.
        may_be_ours: whether a cancel was accepted, or its answer lost.
        request: the request that submits its document again, where it is to be.
    """

    cancellation: Cancellation
    final: Run | None = None
    open: bool = False
    attempts: int = 0
    may_be_ours: bool = False
    request: Request | None = None

    def seen(self, age_minutes: float | None, last_change: datetime | None) -> Result:
        """The same with the age and the last change that the run's own reads showed."""
        seen = {"age_minutes": age_minutes, "last_change": last_change}
        return replace(self, cancellation=self.cancellation.model_copy(update=seen))

    def recorded_in(self, record: UUID | None) -> Cancellation:
        """The outcome, with the artifact that holds the final object."""
        return self.cancellation.model_copy(update={"record": record})

    @classmethod
    def of(
        cls,
        outcome: Outcome,
        reason: str,
        target: Target,
        history: CancelHistory,
        latest: Run | None,
    ) -> Result:
        """The result of a run, given what was sent for it and its latest read."""
        final = latest if latest and latest.is_terminal and outcome is not Outcome.NOT_FOUND else None
        cancellation = Cancellation(
            run_id=target.run_id,
            outcome=outcome,
            reason=reason,
            status=latest.status if latest else None,
            age_minutes=target.age_minutes,
            last_change=target.updated_at,
            limit=target.limit,
            dashboard_url=(latest.dashboard_url if latest else None) or target.dashboard_url,
            request_ids=history.request_ids,
        )
        # Whatever its response, a cancel may have taken effect; and a run that was not found may exist all the same.
        has_moved_on = outcome is Outcome.SPARED and latest is not None and went_on(latest)
        return cls(
            cancellation,
            final,
            open=history.attempts > 0 and final is None and not has_moved_on,
            attempts=len(history.responses),
            may_be_ours=history.may_have_taken_effect,
        )
