"""What a sweep has to say: one Outcome a run, and the report that adds them up."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from prefect_extend_ai.runs import RunKind

__all__ = ["Cancellation", "Outcome", "SweepReport"]


class Outcome(enum.StrEnum):
    """What became of a selected run. The set is closed; the counts in a report add up to the runs selected."""

    CANCELLED = "cancelled"
    """We asked, and the API says the run is cancelled (or FAILED with ABORTED, which is the same)."""
    ALREADY_CANCELLED = "already_cancelled"
    """It was cancelled before any cancel of ours, or its own times say that somebody else's came first."""
    FINISHED_FIRST = "finished_first"
    """PROCESSED or FAILED before a cancel took."""
    SPARED = "spared"
    """No longer stale, held, or gone on to review, before a cancel took."""
    NOT_FOUND = "not_found"
    """The API knows no such run in this workspace."""
    UNCONFIRMED = "unconfirmed"
    """A cancel was sent and may take, but the run had not ended by its deadline; the reason says what was answered."""
    REFUSED = "refused"
    """The API refuses the cancel and the run is still PROCESSING."""
    ERROR = "error"
    """It could not be found out; the reason says why."""
    DEFERRED = "deferred"
    """Left for the next sweep: over the cap, out of time, stopped, or turned away by the rate limit throughout."""
    WOULD_CANCEL = "would_cancel"
    """A dry run would have cancelled it."""

    @property
    def is_end(self) -> bool:
        """Whether the run is known to have ended, or to be gone."""
        return self in (Outcome.CANCELLED, Outcome.ALREADY_CANCELLED, Outcome.FINISHED_FIRST, Outcome.NOT_FOUND)

    @property
    def needs_attention(self) -> bool:
        """Whether a run with this outcome makes the flow end Failed."""
        return self in (Outcome.UNCONFIRMED, Outcome.REFUSED, Outcome.ERROR)


class Cancellation(BaseModel):
    """What became of one selected run, and why."""

    model_config = ConfigDict(frozen=True)

    run_id: str = Field(description="The run's id.")
    outcome: Outcome = Field(description="What became of it.")
    reason: str = Field(description="Why, in words for a person.")
    status: str | None = Field(default=None, description="The last status that was read, as the API wrote it.")
    age_minutes: float | None = Field(
        default=None, description="Minutes since its last change when it was last looked at, by the API's clock."
    )
    dashboard_url: str | None = Field(default=None, description="The run in Extend's dashboard.")
    request_ids: list[str] = Field(
        default=[], description="Request ids of its cancels and of failed calls, for Extend's support."
    )
    record: UUID | None = Field(default=None, description="The Prefect artifact that holds the final run object.")


class SweepReport(BaseModel):
    """What one sweep, or one cancellation by id, did: the flow's result."""

    kind: RunKind = Field(default=RunKind.CLASSIFY, description="The kind of run.")
    dry_run: bool = Field(default=False, description="Whether the sweep only looked.")
    limit_minutes: int | None = Field(default=None, description="The limit it ran with; None when called by id.")
    workspace_id: str | None = Field(default=None, description="The workspace, where the credentials name one.")
    looked_at: datetime | None = Field(default=None, description="The API's clock when it answered the listing.")
    listed: int = Field(default=0, description="How many runs the listing showed before it was stopped.")
    selected: int = Field(default=0, description="How many runs the sweep meant to cancel.")
    counts: Counter[Outcome] = Field(default=Counter(), description="How many runs ended in each outcome; else 0.")
    cancellations: list[Cancellation] = Field(default=[], description="Each selected run, oldest first.")
    exempt: dict[str, int] = Field(default={}, description="Why runs that were listed were left out, and how many.")
    ages: dict[str, int] = Field(default={}, description="How many runs in progress were how old, youngest first.")
    settled: int = Field(default=0, description="Runs of earlier, interrupted sweeps whose final object was recorded.")
    unrecorded: int = Field(default=0, description="Runs that ended and whose final object is still to be recorded.")
    trouble: str | None = Field(default=None, description="What stopped the sweep early, where an error did.")
    refusal: str | None = Field(default=None, description="What a guard said, where one refused the sweep.")

    def with_cancellations(self, cancellations: Iterable[Cancellation]) -> SweepReport:
        """The same report with these outcomes, counted."""
        listed = list(cancellations)
        counted = Counter(each.outcome for each in listed)
        counts = Counter({outcome: counted[outcome] for outcome in Outcome if counted[outcome]})
        return self.model_copy(update={"selected": len(listed), "counts": counts, "cancellations": listed})

    @property
    def needs_attention(self) -> bool:
        """Whether the flow ends Failed: a guard refused, an error stopped it, or a run needs a person."""
        attention = any(outcome.needs_attention for outcome in self.counts)
        return self.refusal is not None or self.trouble is not None or self.unrecorded > 0 or attention

    @property
    def headline(self) -> str:
        """One sentence for a person: "Cancelled 3 of 4 stale classify runs; 1 finished first"."""
        which = "stale " if self.limit_minutes is not None else ""
        if self.refusal is not None:
            return f"Refused, nothing was cancelled: {self.refusal}"
        if not self.selected and self.trouble:
            return f"Nothing was cancelled: {self.trouble}"
        done = Outcome.WOULD_CANCEL if self.dry_run else Outcome.CANCELLED
        verb = "Would cancel" if self.dry_run else "Cancelled"
        noun = "run" if self.selected == 1 else "runs"
        if not self.selected:
            first = f"No {which}{self.kind} runs to cancel{_why_none(self.exempt)}"
        else:
            first = f"{verb} {self.counts.get(done, 0)} of {self.selected} {which}{self.kind} {noun}"
        rest = [f"{count} {_WORDS[outcome]}" for outcome, count in self.counts.items() if outcome is not done]
        if self.settled:
            rest.append(f"{self.settled} of an earlier sweep recorded")
        if self.unrecorded:
            rest.append(f"{self.unrecorded} still to be recorded by the next sweep")
        told = "; ".join([first, *rest])
        return f"{told}. Stopped early: {self.trouble}" if self.trouble else told


_WORDS = {outcome: outcome.replace("_", " ") for outcome in Outcome} | {
    Outcome.ERROR: "could not be read or cancelled",
    Outcome.REFUSED: "refused by Extend",
}


def _why_none(exempt: dict[str, int]) -> str:
    left_out = ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in exempt.items())
    return f" ({left_out})" if left_out else ""
