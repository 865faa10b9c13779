"""Ask Extend whether it is down: how many runs hang or were cancelled lately, and whether anything finishes.

The numbers come from Extend's own listings, not from what this or another sweep remembers: they count all cancels.
The rules of a policy that select runs do not apply to them: an outage is one however it is sliced.
"""

from __future__ import annotations

from datetime import timedelta

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.runs import PROCESSED, RunKind
from prefect_extend_ai.sweep.rules.guards import (
    is_sign_of_life,
    is_suspicious,
    outage_words,
    was_cancelled_lately,
    window_of,
)
from prefect_extend_ai.sweep.rules.learning import FinishedRuns
from prefect_extend_ai.sweep.rules.pages import PAGES_UNSORTED, count_latest, next_page, pages_in_progress
from prefect_extend_ai.sweep.rules.policy import OUTAGE_FROM, StalePolicy
from prefect_extend_ai.sweep.rules.staleness import is_overdue
from prefect_extend_ai.sweep.stop import Stop

__all__ = ["outage_refusal"]


async def outage_refusal(
    client: ExtendClient,
    kind: RunKind,
    overdue: int,
    max_processing_minutes: int,
    policy: StalePolicy,
    *,
    stop: Stop | None = None,
    finished: FinishedRuns | None = None,
) -> str | None:
    """Why the vendor seems to be down; None where it does not, or where the sweep was stopped meanwhile.

    Nothing is asked that cannot matter: what was cancelled only where fewer than the threshold hang, and a sign of
    life only from the threshold on.

    Args:
        client: an open client.
        kind: the kind of run.
        overdue: how many of the runs that the sweep listed are over their limit, whatever else the policy says.
        max_processing_minutes: the sweep's limit.
        policy: the sweep's policy.
        stop: once set, nothing more is read.
        finished: the listing of finished runs, where its first page was asked for already.
    """
    limit = timedelta(minutes=max_processing_minutes)
    cancelled = 0
    for status in kind.stopped:
        if is_suspicious(overdue, cancelled):
            break
        cancelled += await count_latest(
            client,
            kind,
            status,
            lambda run, now: was_cancelled_lately(run, now, limit),
            window=window_of(limit),
            enough=OUTAGE_FROM - overdue - cancelled,
            stop=stop,
        )
    if policy.narrows_listing and not is_suspicious(overdue, cancelled):
        need = OUTAGE_FROM - cancelled
        overdue = max(overdue, await _count_overdue(client, kind, need, max_processing_minutes, policy, stop=stop))
    if not is_suspicious(overdue, cancelled) or await _lives(client, kind, limit, stop=stop, finished=finished):
        return None
    return outage_words(overdue, cancelled, limit) if stop is None or stop.reason is None else None


async def _count_overdue(
    client: ExtendClient,
    kind: RunKind,
    enough: int,
    max_processing_minutes: int,
    policy: StalePolicy,
    *,
    stop: Stop | None,
) -> int:
    """How many runs are over their limit, the ones that the policy's filters keep out of its listing included."""
    counted: set[str] = set()
    pages = pages_in_progress(client, kind, max_processing_minutes, policy.without_filters())
    read = 0
    while len(counted) < enough and (found := await next_page(pages, stop)) is not None:
        page, now = found
        counted.update(run.id for run in page.runs if is_overdue(run, now, max_processing_minutes, policy))
        read += 1
        if not kind.sortable and read == PAGES_UNSORTED:
            break
    return len(counted)


async def _lives(
    client: ExtendClient, kind: RunKind, limit: timedelta, *, stop: Stop | None, finished: FinishedRuns | None
) -> bool:
    for status in kind.worked:
        alive = await count_latest(
            client,
            kind,
            status,
            lambda run, now: is_sign_of_life(run, now, limit),
            window=limit,
            enough=1,
            stop=stop,
            listing=finished.pages() if finished is not None and status == PROCESSED else None,
        )
        if alive:
            return True
    return False
