"""Scan what is in progress: one listing, read completely before anything is cancelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prefect_extend_ai.client import ExtendClient, Page
from prefect_extend_ai.client.clocks import ClockDifference, compare_clocks
from prefect_extend_ai.errors import ExtendError, ExtendInputError
from prefect_extend_ai.runs import PROCESSING, Run, RunKind, check_run_id
from prefect_extend_ai.sweep.origin import contradiction, ignored_filter, unconfirmed_filters
from prefect_extend_ai.sweep.rules.guards import too_many
from prefect_extend_ai.sweep.rules.holds import looks_held
from prefect_extend_ai.sweep.rules.learning import LEARNERS, FinishedRuns, LearnedLimit, learn
from prefect_extend_ai.sweep.rules.limits import ignores_own_limit
from prefect_extend_ai.sweep.rules.outage import outage_refusal
from prefect_extend_ai.sweep.rules.pages import next_page, pages_in_progress
from prefect_extend_ai.sweep.rules.staleness import (
    LEFT_OUT,
    Exempt,
    StalePolicy,
    age_band,
    assess,
    check_filters,
    check_limit,
    limit_passed,
)
from prefect_extend_ai.sweep.stop import Stop
from prefect_extend_ai.sweep.targets import Target

__all__ = ["Scan", "Target", "guarded_scan", "learned_scan", "scan_runs"]


@dataclass(slots=True)
class Scan:
    """What a listing of everything in progress showed.

    Attributes:
        stale: the stale runs, oldest first.
        listed: how many runs the listing showed before it was stopped.
        exempt: why the others were left out, and how many.
        ages: how many runs in progress lie in which band of age.
        now: when the last page was read, by the earlier of Extend's clock and ours.
        overdue: how many of the listed runs are over their limit, those included that the policy leaves out.
        clocks: how far the two clocks differ, None where they agree.
        looks_held: ids of the stale runs whose metadata looks like a hold, and is none by the hold key.
        ignored_limits: ids of the listed runs whose own limit is ignored, because it is not a number.
        learned: the limits that were learned, and how many runs each spared.
        not_learned: why none could be learned, where that failed.
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
    ignored_limits: list[str] = field(default_factory=list)
    learned: list[LearnedLimit] = field(default_factory=list)
    not_learned: str | None = None
    refusal: str | None = None
    unfinished: str | None = None

    def add_page(self, page: Page, now: datetime) -> None:
        """Take from a page what it says beside its runs."""
        self.now = now
        self.listed += page.unreadable
        self.exempt[Exempt.UNREADABLE] += page.unreadable
        moments = [moment for run in page.runs for moment in (run.created_at, run.updated_at)]
        found = compare_clocks(page.date, page.received_at, moments)
        if found is not None and (self.clocks is None or found.suspect is not None):
            self.clocks = found

    def spare(self, learned: Mapping[str, LearnedLimit], policy: StalePolicy) -> None:
        """Leave out the stale runs that have not passed the learned limit of their processor."""
        kept: list[Target] = []
        spared: Counter[str] = Counter()
        for target in self.stale:
            limit = learned.get(target.processor_id or "")
            if limit is None:
                kept.append(target)
            elif target.is_within(limit.minutes, policy.max_total_minutes):
                spared[limit.processor] += 1
            else:
                kept.append(target.has_learned(limit.minutes))
        self.learned = [each.model_copy(update={"spared": spared[name]}) for name, each in learned.items()]
        self.stale, ids = kept, {target.run_id for target in kept}
        self.looks_held = [run_id for run_id in self.looks_held if run_id in ids]
        if spared:
            self.exempt[Exempt.USUAL_FOR_PROCESSOR] = spared.total()


async def scan_runs(
    client: ExtendClient,
    kind: RunKind,
    max_processing_minutes: int,
    policy: StalePolicy,
    *,
    keep: Callable[[Run], object] | None = None,
    stop: Stop | None = None,
) -> Scan:
    """List what is PROCESSING, and sort it into stale and exempt; no guard is asked.

    Where Extend ignores a filter of the policy, so that the runs may be anybody's, the scan's `refusal` says so.

    Args:
        client: an open client.
        kind: the kind of run.
        max_processing_minutes: minutes since the last change after which a run is stale.
        policy: the rest of the rules.
        keep: called with every stale run as it was listed, for callers that want the objects themselves.
        stop: once set, no further page is read.

    Raises:
        ExtendInputError: the policy filters by something that listings of this kind do not know.
        ExtendUnexpectedResponseError: a response without a readable `Date`: no age is known.
        ExtendError: whatever else kept the listing from being read to its end.
    """
    check_limit(max_processing_minutes)
    check_filters(kind, policy)
    scan = Scan()
    seen: set[str] = set()
    unconfirmed: set[str] = set()
    pages = pages_in_progress(client, kind, max_processing_minutes, policy)
    while (found := await next_page(pages, stop)) is not None:
        page, now = found
        scan.add_page(page, now)
        for run in page.runs:
            if run.id in seen:
                continue
            seen.add(run.id)
            scan.listed += 1
            scan.refusal = scan.refusal or contradiction(run, policy)
            if run.status == PROCESSING and run.updated_at is not None:
                scan.ages[age_band(now - run.updated_at, timedelta(minutes=max_processing_minutes))] += 1
            exempt = _exemption(run, now, max_processing_minutes, policy)
            scan.overdue += exempt is None or exempt in LEFT_OUT
            if ignores_own_limit(run):
                scan.ignored_limits.append(run.id)
            if exempt is None:
                scan.stale.append(Target.of(run, limit_passed(run, now, max_processing_minutes, policy)))
                unconfirmed |= unconfirmed_filters(run, policy)
                if looks_held(run, policy):
                    scan.looks_held.append(run.id)
                if keep is not None:
                    keep(run)
            else:
                scan.exempt[exempt] += 1
    if scan.refusal is None and unconfirmed:
        scan.refusal = await ignored_filter(client, kind, policy, unconfirmed, seen, stop=stop)
    scan.stale.sort(key=lambda target: (-(target.age_minutes or 0), target.run_id))
    scan.exempt = +scan.exempt
    return scan if stop is None or stop.reason is None else Scan(unfinished=stop.reason)


async def learned_scan(
    client: ExtendClient,
    kind: RunKind,
    max_processing_minutes: int,
    policy: StalePolicy,
    *,
    keep: Callable[[Run], object] | None = None,
) -> Scan:
    """Take a scan of what a sweep would select: limits are learned, and no guard is asked.

    Takes and raises what `scan_runs` does.
    """
    scan = await scan_runs(client, kind, max_processing_minutes, policy, keep=keep)
    learned, _ = await _learn(scan, client, kind, max_processing_minutes, policy, stop=None)
    scan.spare(learned, policy)
    return scan


async def guarded_scan(
    client: ExtendClient, kind: RunKind, max_processing_minutes: int, policy: StalePolicy, *, stop: Stop | None = None
) -> Scan:
    """Take a scan to cancel by: the guards have been asked, and limits are learned.

    The guards count by the limits that are not learned: learning must not hide an outage. Takes and raises what
    `scan_runs` does.
    """
    scan = await scan_runs(client, kind, max_processing_minutes, policy, stop=stop)
    scan.refusal = scan.refusal or too_many(len(scan.stale), policy)
    if scan.refusal is None and scan.stale:
        learned, finished = await _learn(scan, client, kind, max_processing_minutes, policy, stop=stop)
        if policy.outage_guard:
            scan.refusal = await outage_refusal(
                client, kind, scan.overdue, max_processing_minutes, policy, stop=stop, finished=finished
            )
        if scan.refusal is None:
            scan.spare(learned, policy)
    return scan if stop is None or stop.reason is None else Scan(unfinished=stop.reason)


async def _learn(
    scan: Scan,
    client: ExtendClient,
    kind: RunKind,
    max_processing_minutes: int,
    policy: StalePolicy,
    *,
    stop: Stop | None,
) -> tuple[dict[str, LearnedLimit], FinishedRuns | None]:
    """The learned limits, and the listing they were learned from; a scan without stale runs asks for nothing."""
    if not (policy.learn_limits and kind in LEARNERS and scan.stale):
        return {}, None
    finished = FinishedRuns(client, kind)
    try:
        page = await finished.first(stop)
    except ExtendError as error:
        # Learning can only recheck: without it the limits of the policy hold.
        scan.not_learned = str(error)
        return {}, None
    return learn(page.runs, max_processing_minutes, policy) if page is not None else {}, finished


def _exemption(run: Run, now: datetime, max_processing_minutes: int, policy: StalePolicy) -> Exempt | None:
    try:
        check_run_id(run.id)
    except ExtendInputError:
        return Exempt.UNREADABLE
    return assess(run, now=now, max_processing_minutes=max_processing_minutes, policy=policy)
