"""Look at everything in progress: one listing, all of it read before anything is cancelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from prefect_extend_ai.client import ExtendClient, Page, check_run_id
from prefect_extend_ai.errors import ExtendInputError, ExtendOddAnswerError
from prefect_extend_ai.report import Cancellation, Outcome
from prefect_extend_ai.runs import PROCESSING, Run, RunKind
from prefect_extend_ai.staleness import (
    OUTAGE_FROM,
    Exempt,
    StalePolicy,
    age_band,
    assess,
    check_filters,
    check_limit,
    outage,
    shortest_limit,
    too_many,
)
from prefect_extend_ai.stop import GivenUp, Stop, unless

__all__ = ["Survey", "Target", "guarded_survey", "take_survey"]

T = TypeVar("T")

PAGES_UNSORTED = 10
"""How far the outage guard reads where the newest cannot be asked for first (parse runs)."""

MOST_PAGES = 10_000
"""Pages after which a listing is taken to have no end: a million runs in progress."""


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
        now: the API's clock at the last page.
        refusal: what a guard says against cancelling these, None where none does.
        unfinished: why the listing was not read to its end, so that nothing may be cancelled by it; None where it was.
    """

    stale: list[Target] = field(default_factory=list)
    listed: int = 0
    exempt: Counter[Exempt] = field(default_factory=Counter)
    ages: Counter[str] = field(default_factory=Counter)
    now: datetime | None = None
    refusal: str | None = None
    unfinished: str | None = None


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

    Args:
        client: an open client.
        kind: the kind of run.
        max_processing_minutes: minutes since the last change after which a run is stale.
        policy: the rest of the rules.
        keep: called with every stale run as it was listed, for callers that want the objects themselves.
        stop: once set, no further page is read.

    Raises:
        ExtendInputError: the policy filters by something that listings of this kind do not know.
        ExtendOddAnswerError: an answer without a readable `Date`, by which no age can be told.
        ExtendError: whatever else kept the listing from being read to its end.
    """
    check_limit(max_processing_minutes)
    check_filters(kind, policy)
    survey = Survey()
    seen: set[str] = set()
    pages = _pages(client, kind, max_processing_minutes, policy)
    while (found := await _next(pages, stop)) is not None:
        page, now = found
        survey.now = now
        survey.listed += page.unreadable
        survey.exempt[Exempt.UNREADABLE] += page.unreadable
        for run in page.runs:
            if run.id in seen:
                continue
            seen.add(run.id)
            survey.listed += 1
            if run.status == PROCESSING and run.updated_at is not None:
                survey.ages[age_band(now - run.updated_at, timedelta(minutes=max_processing_minutes))] += 1
            exempt = _exemption(run, now, max_processing_minutes, policy)
            if exempt is None:
                survey.stale.append(Target.of(run))
                if keep is not None:
                    keep(run)
            else:
                survey.exempt[exempt] += 1
    survey.stale.sort(key=lambda target: (-(target.age_minutes or 0), target.run_id))
    survey.exempt = +survey.exempt
    return survey if stop is None or stop.reason is None else Survey(unfinished=stop.reason)


async def guarded_survey(
    client: ExtendClient, kind: RunKind, max_processing_minutes: int, policy: StalePolicy, *, stop: Stop | None = None
) -> Survey:
    """Take a survey to cancel by: the guards have been asked. Takes and raises what `take_survey` does."""
    survey = await take_survey(client, kind, max_processing_minutes, policy, stop=stop)
    survey.refusal = too_many(len(survey.stale), policy)
    survey.refusal = survey.refusal or await _outage(client, kind, survey, max_processing_minutes, policy, stop=stop)
    return survey if stop is None or stop.reason is None else Survey(unfinished=stop.reason)


async def _next(pages: AsyncIterator[T], stop: Stop | None) -> T | None:
    """The next page; None where there is none, or where it is not wanted any more."""

    async def read() -> T | None:
        return await anext(pages, None)

    if stop is None:
        return await read()
    try:
        return await unless(lambda: stop.reason is not None, read()) if stop.reason is None else None
    except GivenUp:
        return None


def _exemption(run: Run, now: datetime, max_processing_minutes: int, policy: StalePolicy) -> Exempt | None:
    try:
        check_run_id(run.id)
    except ExtendInputError:
        return Exempt.UNREADABLE
    return assess(run, now=now, max_processing_minutes=max_processing_minutes, policy=policy)


async def _pages(
    client: ExtendClient, kind: RunKind, max_processing_minutes: int, policy: StalePolicy
) -> AsyncIterator[tuple[Page, datetime]]:
    """Every page that may hold a stale run: by last change, and by creation where a total limit is set."""
    passes: list[tuple[Literal["updatedAt", "createdAt"], timedelta]] = [
        ("updatedAt", shortest_limit(max_processing_minutes, policy))
    ]
    if policy.max_total_minutes is not None and kind.sortable:
        passes.append(("createdAt", timedelta(minutes=policy.max_total_minutes)))
    for sort_by, limit in passes:
        earliest: datetime | None = None
        latest: datetime | None = None
        in_order = True
        pages = 0
        async for page in client.iter_pages(
            kind,
            sort_by=sort_by,
            source=policy.source,
            batch_id=policy.batch_id,
            file_name_contains=policy.file_name_contains,
        ):
            if page.read_at is None:
                raise ExtendOddAnswerError(
                    "The listing came without a readable Date header, so no run's age can be told by Extend's clock. "
                    "Nothing was cancelled. Look for a proxy that drops the header."
                )
            pages += 1
            if pages > MOST_PAGES:
                raise ExtendOddAnswerError(
                    f"The listing has no end: {MOST_PAGES} pages, and more. Nothing was cancelled."
                )
            yield page, page.read_at
            for run in page.runs:
                moment = run.updated_at if sort_by == "updatedAt" else run.created_at
                if moment is not None:
                    in_order = in_order and (latest is None or latest <= moment)
                    earliest, latest = earliest or moment, moment
            # The listing may end at the first run that is too young, but only as long as it really is in order:
            # an ignored sort parameter must cost requests, not hide stale runs. One time alone shows no order.
            too_young = latest is not None and page.read_at - latest <= limit
            if kind.sortable and in_order and latest != earliest and too_young:
                break


async def _outage(
    client: ExtendClient,
    kind: RunKind,
    survey: Survey,
    max_processing_minutes: int,
    policy: StalePolicy,
    *,
    stop: Stop | None,
) -> str | None:
    """Ask the outage guard; it costs a request or two, and none below its threshold."""
    if not policy.outage_guard or len(survey.stale) < OUTAGE_FROM or survey.now is None:
        return None
    limit = timedelta(minutes=max_processing_minutes)
    verdict = None
    for status in kind.worked:
        pages = 0
        listing = client.iter_pages(kind, status=status, sort_dir="desc")
        while (page := await _next(listing, stop)) is not None:
            finished = [run.updated_at for run in page.runs if run.updated_at and not run.was_aborted]
            verdict = outage(len(survey.stale), finished, survey.now, limit, policy)
            pages += 1
            if verdict is None:
                return None
            if (kind.sortable and page.runs) or pages == PAGES_UNSORTED:
                break
    return verdict
