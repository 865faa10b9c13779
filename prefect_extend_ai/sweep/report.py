"""What a sweep has to say: one Outcome a run, and the report that adds them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from prefect_extend_ai.client.clocks import Suspect
from prefect_extend_ai.errors import ExtendError
from prefect_extend_ai.runs import RunKind, duration
from prefect_extend_ai.sweep.chains import ChainedRun, PendingResubmission, Resubmission, in_words
from prefect_extend_ai.sweep.outcomes import Cancellation, OpenElsewhere, Outcome, PendingCancel
from prefect_extend_ai.sweep.rules.learning import LearnedLimit

__all__ = [
    "Cancellation",
    "ChainedRun",
    "OpenElsewhere",
    "Outcome",
    "PendingCancel",
    "PendingResubmission",
    "Resubmission",
    "SweepFailed",
    "SweepRefused",
    "SweepReport",
]

SKIPPED = "Skipped: "
"""How the headline of a sweep begins that another made unnecessary."""


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
    resubmissions: list[PendingResubmission] = Field(
        default=[], description="Documents of earlier sweeps that were to be submitted again, and what came of it."
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
        return stopped or self.unrecorded > 0 or bool(self.news) or bool(self.unknown)

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
    def unknown(self) -> list[str]:
        """Ids of cancelled runs whose document may have been submitted again or not; each is news once."""
        ours = [each.run_id for each in self.cancellations if each.resubmission == "unknown"]
        return ours + [each.run_id for each in self.resubmissions if each.is_news]

    @property
    def still_pending(self) -> bool:
        """Whether all that needs a person was reported by an earlier sweep, and some of it goes on."""
        goes_on = any(not each.set_aside for each in self.pending) or any(
            each.is_looked_for for each in self.resubmissions
        )
        return not self.needs_attention and goes_on and self.limit_minutes is not None and not self.dry_run

    @property
    def _again(self) -> Counter[str]:
        """What came of submitting documents again, in words, and of how many."""
        return Counter(
            [
                *(words for each in self.cancellations if (words := each.again_in_words)),
                *(each.in_words for each in self.resubmissions),
            ]
        )

    def _about_earlier(self) -> list[str]:
        """What came of submitting documents again, and of what earlier sweeps left, for the headline."""
        going_on = sum(not each.set_aside for each in self.pending)
        counts = {
            in_words(self._again): True,
            f"{going_on} still pending from earlier sweeps": going_on,
            f"{len(self.pending) - going_on} set aside": len(self.pending) - going_on,
            f"{len(self.recovered)} of an earlier sweep recorded": len(self.recovered),
        }
        return [words for words, count in counts.items() if words and count]

    @property
    def headline(self) -> str:
        """One sentence for a person: "Cancelled 3 of 4 stale classify runs; 1 finished first"."""
        which = "stale " if self.limit_minutes is not None else ""
        if self.skipped is not None:
            return f"{SKIPPED}{self.skipped}"
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
        rest += self._about_earlier()
        if self.clock_difference_seconds is not None:
            apart = duration(abs(self.clock_difference_seconds))
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
