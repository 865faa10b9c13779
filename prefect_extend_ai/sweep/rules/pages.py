"""Read listings: as far as they may hold what is looked for, and no further."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import TypeVar

from prefect_extend_ai.client import ExtendClient, Page
from prefect_extend_ai.errors import ExtendRefusedError, ExtendUnexpectedResponseError
from prefect_extend_ai.runs import CANCELLING, FAILED, Run, RunKind
from prefect_extend_ai.sweep.rules.ordering import Order, SortBy
from prefect_extend_ai.sweep.rules.policy import StalePolicy
from prefect_extend_ai.sweep.rules.staleness import shortest_limit
from prefect_extend_ai.sweep.stop import GivenUp, Stop, run_until

__all__ = ["MOST_PAGES", "PAGES_UNSORTED", "count_latest", "next_page", "pages_in_progress"]

T = TypeVar("T")

PAGES_UNSORTED = 10
"""How far a guard reads a listing that is in no order (parse runs)."""

SHORT_PAGE, LONG_PAGE = 25, 100
"""Runs a page where a guard counts: enough to show the order that they are in."""

MOST_PAGES = 10_000
"""Pages after which a listing is taken to have no end: a million runs in progress."""


async def next_page(pages: AsyncIterator[T], stop: Stop | None) -> T | None:
    """The next page; None where there is none, or where it is not wanted any more."""

    async def read() -> T | None:
        return await anext(pages, None)

    if stop is None:
        return await read()
    try:
        return await run_until(stop, read()) if stop.reason is None else None
    except GivenUp:
        return None


async def pages_in_progress(
    client: ExtendClient, kind: RunKind, max_processing_minutes: int, policy: StalePolicy
) -> AsyncIterator[tuple[Page, datetime]]:
    """Every page that may hold a stale run, and when it was read, by the earlier of both clocks.

    By last change, and by creation too where a total limit is set. A listing ends at the first run that is too young,
    but only where it is shown to be in order: an ignored sort parameter must cost requests, not hide stale runs.

    Raises ExtendUnexpectedResponseError for a response without a readable `Date`, and for a listing without an end.
    """
    passes: list[tuple[SortBy, timedelta]] = [("updatedAt", shortest_limit(max_processing_minutes, policy))]
    if policy.max_total_minutes is not None and kind.sortable:
        passes.append(("createdAt", timedelta(minutes=policy.max_total_minutes)))
    for sort_by, limit in passes:
        order = Order(sort_by)
        pages = 0
        async for page in client.iter_pages(
            kind,
            sort_by=sort_by,
            source=policy.source,
            batch_id=policy.batch_id,
            file_name_contains=policy.file_name_contains,
        ):
            now = _read_at(page)
            pages += 1
            if pages > MOST_PAGES:
                raise ExtendUnexpectedResponseError(
                    f"The listing has no end: {MOST_PAGES} pages, and more. Nothing was cancelled."
                )
            yield page, now
            for run in page.runs:
                order.see(run)
            if kind.sortable and order.rest_is_young(now, limit):
                break


async def count_latest(
    client: ExtendClient,
    kind: RunKind,
    status: str,
    fits: Callable[[Run, datetime], bool],
    *,
    window: timedelta,
    enough: int,
    stop: Stop | None,
    listing: AsyncIterator[Page] | None = None,
) -> int:
    """How many runs of a status fit, latest change first; read no further than `enough`, and than `window` reaches.

    A listing that refuses the status is asked for all of them: not for every kind is each status documented.

    Args:
        client: an open client.
        kind: the kind of run.
        status: the status to list.
        fits: whether a run counts, given Extend's own clock.
        window: how long ago a run that counts can have changed.
        enough: how many there need be.
        stop: once set, no further page is read.
        listing: pages of this status, latest change first, where they are being read already.
    """
    pages = listing or _latest(client, kind, status)
    try:
        return await _count(pages, kind, fits, window=window, enough=enough, stop=stop)
    except ExtendRefusedError:
        if status == CANCELLING:
            return 0  # documented of workflow runs alone: a listing that does not know it shows no run in it
        return await _count(_latest(client, kind, None), kind, fits, window=window, enough=enough, stop=stop)


def _latest(client: ExtendClient, kind: RunKind, status: str | None) -> AsyncIterator[Page]:
    # Few failures are cancels, so that it takes many to count some.
    size = LONG_PAGE if status in (FAILED, None) else SHORT_PAGE
    return client.iter_pages(kind, status=status, sort_dir="desc", page_size=size)


async def _count(
    listing: AsyncIterator[Page],
    kind: RunKind,
    fits: Callable[[Run, datetime], bool],
    *,
    window: timedelta,
    enough: int,
    stop: Stop | None,
) -> int:
    order = Order(descending=True)
    counted: set[str] = set()
    for _ in range(PAGES_UNSORTED):
        page = await next_page(listing, stop)
        if page is None:
            break
        now = page.date or _read_at(page)
        for run in page.runs:
            order.see(run)
            if fits(run, now):
                counted.add(run.id)
        is_past = order.last is not None and now - order.last > window
        if len(counted) >= enough or (kind.sortable and is_past and order.is_shown):
            break
    return len(counted)


def _read_at(page: Page) -> datetime:
    if page.read_at is None:
        raise ExtendUnexpectedResponseError(
            "The listing came without a readable Date header, so no run's age is known by Extend's clock. "
            "Nothing was cancelled. Look for a proxy that drops the header."
        )
    return page.read_at
