"""What a sweep has to say: one Outcome a run, and the report that adds them up."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from prefect_extend_ai.client.clocks import Suspect, span
from prefect_extend_ai.errors import ExtendError
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.learning import LearnedLimit
from prefect_extend_ai.sweep.limits import Limit

__all__ = ["Cancellation", "OpenElsewhere", "Outcome", "PendingCancel", "SweepFailed", "SweepRefused", "SweepReport"]


class Outcome(enum.StrEnum):
    """How a selected run ended. The set is closed; the counts in a report add up to the runs selected."""

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
    """Left for the next sweep: over the cap, out of time, stopped, or throttled throughout."""
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
    """The outcome of one selected run, and why."""

    model_config = ConfigDict(frozen=True)

    run_id: str = Field(description="The run's id.")
    outcome: Outcome = Field(description="How it ended.")
    reason: str = Field(description="Why, in words for a person.")
    status: str | None = Field(default=None, description="The last status that was read, as the API wrote it.")
    age_minutes: float | None = Field(
        default=None, description="Minutes since its last change when it was last looked at, by the API's clock."
    )
    limit: Limit | None = Field(
        default=None, description="The limit that made it stale, and who set it; None where it was named by its id."
    )
    dashboard_url: str | None = Field(default=None, description="The run in Extend's dashboard.")
    request_ids: list[str] = Field(
        default=[], description="Request ids of its cancels and of failed calls, for Extend's support."
    )
    record: UUID | None = Field(default=None, description="The Prefect artifact that holds the final run object.")


class PendingCancel(BaseModel):
    """A run of an earlier sweep that has not ended, or whose final object could not be recorded."""

    model_config = ConfigDict(frozen=True)

    run_id: str = Field(description="The run's id.")
    since: datetime = Field(description="When it was first asked for.")
    attempts: int | None = Field(
        default=None, description="Cancels sent for it in all sweeps; None where a sweep was interrupted in between."
    )
    outcome: Outcome | None = Field(
        default=None, description="How the last sweep that asked for it left it; None where that was interrupted."
    )
    status: str | None = Field(default=None, description="The last status that was read, as the API wrote it.")
    request_ids: list[str] = Field(default=[], description="Request ids of its cancels, for Extend's support.")
    alarms: int = Field(default=1, ge=0, description="How many times a person was alarmed about it.")
    is_news: bool = Field(
        default=False, description="Whether this sweep raises an alarm for it: it has lasted 1, 6 or 24 hours."
    )
    set_aside: bool = Field(
        default=False, description="Whether sweeps ask for it no more: it has lasted 24 hours, and that was reported."
    )


class OpenElsewhere(BaseModel):
    """Cancel intents of the same kind that this account cannot read: of another workspace, environment or address."""

    model_config = ConfigDict(frozen=True)

    intents: int = Field(description="How many cancel intents are open.")
    runs: int = Field(description="How many runs they name.")
    since: datetime = Field(description="When the oldest was logged.")


class SweepReport(BaseModel):
    """What one sweep, or one cancellation by id, did: the flow's result."""

    kind: RunKind = Field(default=RunKind.CLASSIFY, description="The kind of run.")
    dry_run: bool = Field(default=False, description="Whether the sweep only looked.")
    limit_minutes: int | None = Field(default=None, description="The limit it ran with; None when called by id.")
    workspace_id: str | None = Field(default=None, description="The workspace, where the credentials name one.")
    looked_at: datetime | None = Field(
        default=None, description="When the listing was read, by the earlier of Extend's clock and ours."
    )
    clock_difference_seconds: float | None = Field(
        default=None, description="How far Extend's clock is ahead of ours, where they differ by over two minutes."
    )
    clock_suspect: Suspect | None = Field(
        default=None, description="Whose clock is then likely wrong, `extend` or `ours`; None where it is not known."
    )
    looks_held: list[str] = Field(
        default=[], description="Stale runs whose metadata looks like a hold, and is none by the hold key."
    )
    learned_limits: list[LearnedLimit] = Field(
        default=[], description="Longer limits of processors whose recent healthy runs took long."
    )
    not_learned: str | None = Field(
        default=None, description="Why no limits could be learned, where that failed: then the policy's limits held."
    )
    ignored_limits: list[str] = Field(
        default=[], description="Listed runs whose own limit, `prefect_max_minutes`, was ignored: it is not a number."
    )
    listed: int = Field(default=0, description="How many runs the listing showed before it was stopped.")
    selected: int = Field(default=0, description="How many runs the sweep meant to cancel.")
    counts: Counter[Outcome] = Field(default=Counter(), description="How many runs ended in each outcome; else 0.")
    cancellations: list[Cancellation] = Field(default=[], description="Each selected run, oldest first.")
    exempt: dict[str, int] = Field(default={}, description="Why runs that were listed were left out, and how many.")
    ages: dict[str, int] = Field(default={}, description="How many runs in progress were how old, youngest first.")
    recovered: list[Cancellation] = Field(
        default=[], description="Runs of earlier sweeps that this one recorded: how each ended, and where it is."
    )
    unrecorded: int = Field(default=0, description="Runs that ended and whose final object is still to be recorded.")
    pending: list[PendingCancel] = Field(
        default=[], description="Runs of earlier sweeps that have not ended, or are still to be recorded; oldest first."
    )
    open_elsewhere: OpenElsewhere | None = Field(
        default=None, description="Cancel intents of the same kind that this account cannot read, where there are any."
    )
    missing_protections: dict[str, str] = Field(
        default={},
        description="What the deployment's policy protects from and this run's, given by hand, does not: by field.",
    )
    trouble: str | None = Field(default=None, description="What stopped the sweep early, where an error did.")
    skipped: str | None = Field(
        default=None, description="Why a sweep that came late did nothing, where another had done its work."
    )
    refusal: str | None = Field(default=None, description="What a guard said, where one refused the sweep.")

    def with_cancellations(self, cancellations: Iterable[Cancellation]) -> SweepReport:
        """The same report with these outcomes, counted."""
        listed = list(cancellations)
        counted = Counter(each.outcome for each in listed)
        counts = Counter({outcome: counted[outcome] for outcome in Outcome if counted[outcome]})
        return self.model_copy(update={"selected": len(listed), "counts": counts, "cancellations": listed})

    @property
    def needs_attention(self) -> bool:
        """Whether the flow ends Failed: a guard refused, an error stopped it, or something new needs a person."""
        stopped = self.refusal is not None or self.trouble is not None
        return stopped or self.unrecorded > 0 or bool(self.news)

    @property
    def news(self) -> set[str]:
        """Ids of runs that need a person and were not reported before, or were reported and have lasted too long.

        A run that is called by its id is news each time: somebody asked.
        """
        by_id = self.limit_minutes is None
        known = set() if by_id else {each.run_id for each in self.pending}
        new = {each.run_id for each in self.cancellations if each.outcome.needs_attention} - known
        return new if by_id else new | {each.run_id for each in self.pending if each.is_news}

    @property
    def still_pending(self) -> bool:
        """Whether all that needs a person was reported by an earlier sweep, and some of it goes on."""
        goes_on = any(not each.set_aside for each in self.pending)
        return not self.needs_attention and goes_on and self.limit_minutes is not None and not self.dry_run

    @property
    def headline(self) -> str:
        """One sentence for a person: "Cancelled 3 of 4 stale classify runs; 1 finished first"."""
        which = "stale " if self.limit_minutes is not None else ""
        if self.skipped is not None:
            return f"Skipped: {self.skipped}"
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
        if going_on := sum(not each.set_aside for each in self.pending):
            rest.append(f"{going_on} still pending from earlier sweeps")
        if set_aside := sum(each.set_aside for each in self.pending):
            rest.append(f"{set_aside} set aside")
        if self.recovered:
            rest.append(f"{len(self.recovered)} of an earlier sweep recorded")
        if self.clock_difference_seconds is not None:
            apart = span(timedelta(seconds=abs(self.clock_difference_seconds)))
            rest.append(f"the clocks here and at Extend differ by {apart}")
        if self.unrecorded:
            rest.append(f"{self.unrecorded} still to be recorded by the next sweep")
        headline = "; ".join([first, *rest])
        return f"{headline}. Stopped early: {self.trouble}" if self.trouble else headline


_WORDS = {outcome: outcome.replace("_", " ") for outcome in Outcome} | {
    Outcome.ERROR: "could not be read or cancelled",
    Outcome.REFUSED: "refused by Extend",
}


def _why_none(exempt: dict[str, int]) -> str:
    left_out = ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in exempt.items())
    return f" ({left_out})" if left_out else ""


class SweepFailed(ExtendError):
    """A sweep ended with something a person must look at.

    Attributes:
        report: the sweep's `SweepReport`: what was cancelled all the same, and what was not.
    """

    def __init__(self, message: str, report: SweepReport) -> None:
        self.report = report
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.report)


class SweepRefused(SweepFailed):
    """A guard refused the sweep: nothing was cancelled."""
