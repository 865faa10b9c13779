"""How runs ended: one `Outcome` each, and what is known of runs that earlier sweeps left open."""

from __future__ import annotations

import enum
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from prefect_extend_ai.sweep.chains import AGAIN, ChainedRun, Resubmission
from prefect_extend_ai.sweep.rules.limits import Limit

__all__ = ["Cancellation", "OpenElsewhere", "Outcome", "PendingCancel"]


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
    last_change: datetime | None = Field(
        default=None, description="When it last changed before any cancel of this sweep."
    )
    resubmission: Resubmission | None = Field(
        default=None, description="What came of submitting its document again; None where that was not to be, or is to."
    )
    resubmitted_as: str | None = Field(default=None, description="The run that replaces it.")
    resubmission_reason: str = Field(default="", description="Why, in words for a person; part of the reason too.")
    attempt: int | None = Field(
        default=None, description="The number of the run that replaces it, or is to; the first one has 1."
    )
    chain: list[ChainedRun] = Field(default=[], description="The earlier runs of its document, the first run first.")

    @property
    def why_stale(self) -> str | None:
        """Why the sweep selected it: "no change for 81 min, limit 60 min"; None where it was named."""
        if self.limit is None:
            return None
        age = f"no change for {self.age_minutes:.0f} min, " if self.age_minutes is not None else ""
        return f"{age}limit {self.limit.minutes:,} min {self.limit.source.in_words}".rstrip()

    @property
    def first_run(self) -> str:
        """The first run of its document."""
        return self.chain[0].run_id if self.chain else self.run_id

    @property
    def again_in_words(self) -> str:
        """What came of submitting its document again, for the headline; empty where it was not to be."""
        would = self.outcome is Outcome.WOULD_CANCEL
        if self.is_to_be_submitted:
            return "would be submitted again" if would else "to be submitted again"
        if would and self.resubmission == "given_up":
            return "would be given up"
        return AGAIN[self.resubmission] if self.resubmission is not None else ""

    @property
    def is_to_be_submitted(self) -> bool:
        """Whether its document is to be submitted again, and has not been yet; in a dry run, whether it would be."""
        ends = self.outcome in (Outcome.CANCELLED, Outcome.WOULD_CANCEL)
        return ends and self.attempt is not None and self.resubmission is None


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
