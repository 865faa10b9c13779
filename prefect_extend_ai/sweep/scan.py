"""Look at everything in progress: one listing, all of it read before anything is cancelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prefect_extend_ai.client import ExtendClient, Page
from prefect_extend_ai.client.clocks import ClockDifference, compare_clocks
from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import PROCESSING, Run, RunKind, check_run_id
from prefect_extend_ai.sweep.guards import too_many
from prefect_extend_ai.sweep.holds import looks_held
from prefect_extend_ai.sweep.origin import contradiction, ignored_filter, unconfirmed_filters
from prefect_extend_ai.sweep.outage import outage_refusal
from prefect_extend_ai.sweep.pages import next_page, pages_in_progress
from prefect_extend_ai.sweep.report import Cancellation, Outcome
from prefect_extend_ai.sweep.staleness import (
    LEFT_OUT,
    Exempt,
    StalePolicy,
    age_band,
    assess,
    check_filters,
    check_limit,
)
from prefect_extend_ai.sweep.stop import Stop

__all__ = ["Survey", "Target", "guarded_survey", "take_survey"]


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

    @classmethod
    def of(cls, run: Run) -> Target:
        """The target that a listed run becomes."""
        return cls(run.id, run.updated_at, run.created_at, run.age_minutes, run.dashboard_url)

    def cancellation(self, outcome: Outcome, reason: str) -> Cancellation:
        """What became of it where nothing was sent or read for it."""
        return Cancellation(
            run_id=self.run_id,
            outcome=outcome,
            reason=reason,
            age_minutes=self.age_minutes,
            dashboard_url=self.dashboard_url,
        )


@dataclass(slots=True)
class Survey:
    """What a look at everything in progress found.

    Attributes:
        stale: the stale runs, oldest first.
        listed: how many runs the listing showed before it was stopped.
        exempt: why the others were left out, and how many.
        ages: how many runs in progress lie in which band of age.
        now: when the last page was read, by the earlier of Extend's clock and ours.
        overdue: how many of the listed runs are over their limit, those included that the policy leaves out.
        clocks: how far the two clocks differ, None where they agree.
        looks_held: ids of the stale runs whose metadata looks like a hold, and is none by the hold key.
        refusal: what a guard says against cancelling these, None where none does.
        unfinished: why the listing was not read to its end, so that nothing may be cancelled by it; None where it was.
    """

    stale: list[Target] = field(default_factory=list)
    listed: int = 0
    exempt: Counter[Exempt] = field(default_factory=Counter)
    ages: Counter[str] = field(default_factory=Counter)
    now: datetime | None = None
    overdue: int = 0
    clocks: ClockDifference | None = None
    looks_held: list[str] = field(default_factory=list)
    refusal: str | None = None
    unfinished: str | None = None

    def look_at(self, page: Page, now: datetime) -> None:
        """Take from a page what it says beside its runs."""
        self.now = now
        self.listed += page.unreadable
        self.exempt[Exempt.UNREADABLE] += page.unreadable
        moments = [moment for run in page.runs for moment in (run.created_at, run.updated_at)]
        found = compare_clocks(page.date, page.received_at, moments)
        if found is not None and (self.clocks is None or found.suspect is not None):
            self.clocks = found


async def take_survey(
    client: ExtendClient,
    kind: RunKind,
    max_processing_minutes: int,
    policy: StalePolicy,
    *,
    keep: Callable[[Run], object] | None = None,
    stop: Stop | None = None,
) -> Survey:
    """List what is PROCESSING, and sort it into stale and exempt; no guard is asked.

    Where Extend ignores a filter of the policy, so that the runs may be anybody's, the survey's `refusal` says so.

    Args:
        client: an open client.
        kind: the kind of run.
        max_processing_minutes: minutes since the last change after which a run is stale.
        policy: the rest of the rules.
        keep: called with every stale run as it was listed, for callers that want the objects themselves.
        stop: once set, no further page is read.

    Raises:
        ExtendInputError: the policy filters by something that listings of this kind do not know.
        ExtendUnexpectedResponseError: an answer without a readable `Date`, by which no age can be told.
        ExtendError: whatever else kept the listing from being read to its end.
    """
    check_limit(max_processing_minutes)
    check_filters(kind, policy)
    survey = Survey()
    seen: set[str] = set()
    unconfirmed: set[str] = set()
    pages = pages_in_progress(client, kind, max_processing_minutes, policy)
    while (found := await next_page(pages, stop)) is not None:
        page, now = found
        survey.look_at(page, now)
        for run in page.runs:
            if run.id in seen:
                continue
            seen.add(run.id)
            survey.listed += 1
            survey.refusal = survey.refusal or contradiction(run, policy)
            if run.status == PROCESSING and run.updated_at is not None:
                survey.ages[age_band(now - run.updated_at, timedelta(minutes=max_processing_minutes))] += 1
            exempt = _exemption(run, now, max_processing_minutes, policy)
            survey.overdue += exempt is None or exempt in LEFT_OUT
            if exempt is None:
                survey.stale.append(Target.of(run))
                unconfirmed |= unconfirmed_filters(run, policy)
                if looks_held(run, policy):
                    survey.looks_held.append(run.id)
                if keep is not None:
                    keep(run)
            else:
                survey.exempt[exempt] += 1
    if survey.refusal is None and unconfirmed:
        survey.refusal = await ignored_filter(client, kind, policy, unconfirmed, seen, stop=stop)
    survey.stale.sort(key=lambda target: (-(target.age_minutes or 0), target.run_id))
    survey.exempt = +survey.exempt
    return survey if stop is None or stop.reason is None else Survey(unfinished=stop.reason)


async def guarded_survey(
    client: ExtendClient, kind: RunKind, max_processing_minutes: int, policy: StalePolicy, *, stop: Stop | None = None
) -> Survey:
    """Take a survey to cancel by: the guards have been asked. Takes and raises what `take_survey` does."""
    survey = await take_survey(client, kind, max_processing_minutes, policy, stop=stop)
    survey.refusal = survey.refusal or too_many(len(survey.stale), policy)
    if survey.refusal is None and survey.stale and policy.outage_guard:
        survey.refusal = await outage_refusal(client, kind, survey.overdue, max_processing_minutes, policy, stop=stop)
    return survey if stop is None or stop.reason is None else Survey(unfinished=stop.reason)


def _exemption(run: Run, now: datetime, max_processing_minutes: int, policy: StalePolicy) -> Exempt | None:
    try:
        check_run_id(run.id)
    except ExtendInputError:
        return Exempt.UNREADABLE
    return assess(run, now=now, max_processing_minutes=max_processing_minutes, policy=policy)
