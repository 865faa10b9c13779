"""Listings as evidence: for the times of a run, and for an error of the whole account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from prefect_extend_ai.client import LARGEST_PAGE, ExtendClient, Page
from prefect_extend_ai.errors import (
    ExtendAccountError,
    ExtendError,
    SharedLimitError,
)
from prefect_extend_ai.runs import PROCESSING, Moment, Run, RunKind
from prefect_extend_ai.sweep.rules.staleness import StalePolicy
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.stop import Stop

__all__ = ["ACCOUNT_ERRORS", "AccountWitness", "ListingWitness"]

ACCOUNT_ERRORS = (ExtendAccountError, SharedLimitError)
"""Errors that may concern the whole account: every further call would fail too."""

RECENT = 3.0
"""Seconds for which a listing is used again."""

LISTINGS = 3
"""Complete listings in a row without a run that show that it is gone: a shrinking set skips some while it is paged."""


class AccountWitness:
    """Distinguishes an error of one run from one of the whole account, by requesting a listing.

    Args:
        client: an open client.
        kind: the kind of run.
        stop: set where the error is the account's.
    """

    def __init__(self, client: ExtendClient, kind: RunKind, stop: Stop) -> None:
        self._client = client
        self._kind = kind
        self._stop = stop
        self._asking = asyncio.Lock()
        self._listed_at: Moment | None = None

    async def is_at_fault(self, error: ExtendError) -> bool:
        """Whether an error among ACCOUNT_ERRORS concerns the whole account; then it stops the sweep.

        One listing serves all that ask at the same time or within some seconds after it.
        """
        if isinstance(error, SharedLimitError):
            return self._blame(error)
        async with self._asking:
            if isinstance(self._stop.error, ACCOUNT_ERRORS):
                return True
            asked_at = self._client.now()
            if self._listed_at is not None and self._listed_at.age(asked_at) <= RECENT:
                return False
            try:
                async with _closing(self._client.iter_pages(self._kind, page_size=1)) as pages:
                    await anext(pages, None)
            except ExtendError:
                return self._blame(error)
            self._listed_at = asked_at
            return False

    def _blame(self, error: ExtendError) -> bool:
        self._stop.set(f"the sweep was stopped by an error: {error}", error)
        return True


@dataclass(slots=True)
class _Wanted:
    """A run that is looked up."""

    target: Target
    found: asyncio.Future[Run | None]
    waiting: int = 0
    missed: int = 0


@dataclass(slots=True)
class _Order:
    """Whether a listing is in order so far, and its last time."""

    first: datetime | None = None
    last: datetime | None = None
    kept: bool = True

    def take(self, runs: list[Run]) -> None:
        """The next page."""
        for moment in (run.updated_at for run in runs if run.updated_at is not None):
            self.kept = self.kept and (self.last is None or self.last <= moment)
            self.first, self.last = self.first or moment, moment

    def is_beyond(self, moment: datetime | None) -> bool:
        """Whether a run that last changed then cannot follow. One time alone shows no order."""
        if moment is None or self.last is None or self.last == self.first:
            return False
        return self.kept and moment < self.last


class ListingWitness:
    """Shows how runs are listed right now, for kinds whose single read does not say when a run last changed.

    Pages are read only while a run is waited for, one listing at a time for all of them, and used as they
    arrive: the first page of a long listing is not old by the time that the last one is read.

    Args:
        client: an open client.
        kind: the kind of run.
        policy: its filters apply, as when the runs were selected.
    """

    def __init__(self, client: ExtendClient, kind: RunKind, policy: StalePolicy) -> None:
        self._kind = kind
        self._now: Callable[[], Moment] = client.now
        self._list: Callable[[], AsyncIterator[Page]] = lambda: client.iter_pages(
            kind,
            page_size=LARGEST_PAGE,
            source=policy.source,
            batch_id=policy.batch_id,
            file_name_contains=policy.file_name_contains,
        )
        self._shown: dict[str, Run] = {}
        self._wanted: dict[str, _Wanted] = {}
        self._reading: asyncio.Task[None] | None = None

    async def find(self, target: Target) -> Run | None:
        """The run as a listing of the last seconds shows it; None where it is no longer listed as in progress.

        Raises ExtendError where the listing cannot be read.
        """
        shown = self._shown.get(target.run_id)
        if shown is not None and self._is_recent(shown):
            return shown
        fresh = _Wanted(target, asyncio.get_running_loop().create_future())
        wanted = self._wanted.setdefault(target.run_id, fresh)
        wanted.waiting += 1
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        try:
            return await asyncio.shield(wanted.found)
        finally:
            wanted.waiting -= 1
            if not wanted.waiting and self._wanted.get(target.run_id) is wanted:
                del self._wanted[target.run_id]

    def _is_recent(self, run: Run) -> bool:
        return run.asked_at is not None and run.asked_at.age(self._now()) <= RECENT

    async def _read(self) -> None:
        """List repeatedly while a run is waited for."""
        try:
            while self._wanted:
                await self._read_once()
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            for wanted in list(self._wanted.values()):
                self._resolve(wanted, error)

    async def _read_once(self) -> None:
        waiting_since_the_start = list(self._wanted.values())
        self._shown = {}
        order = _Order()
        async with _closing(self._list()) as pages:
            async for page in pages:
                order.take(page.runs)
                self._shown = {run_id: run for run_id, run in self._shown.items() if self._is_recent(run)}
                for run in page.runs:
                    if run.status == PROCESSING:
                        self._shown[run.id] = run
                        if (wanted := self._wanted.get(run.id)) is not None:
                            self._resolve(wanted, run)
                if not self._wanted or (self._kind.sortable and self._none_can_come(order)):
                    break
        for wanted in waiting_since_the_start:
            wanted.missed += 1
            if wanted.missed == LISTINGS and not wanted.found.done():
                self._resolve(wanted, None)

    def _none_can_come(self, order: _Order) -> bool:
        """Whether the rest of a sorted listing cannot show a run that is waited for, if none has changed meanwhile."""
        return all(order.is_beyond(each.target.updated_at) for each in self._wanted.values())

    def _resolve(self, wanted: _Wanted, what: Run | Exception | None) -> None:
        if self._wanted.get(wanted.target.run_id) is wanted:
            del self._wanted[wanted.target.run_id]
        if wanted.found.done():
            return
        if isinstance(what, Exception):
            wanted.found.set_exception(what)
        else:
            wanted.found.set_result(what)


@asynccontextmanager
async def _closing(pages: AsyncIterator[Page]) -> AsyncIterator[AsyncIterator[Page]]:
    """A listing that may be left before its end."""
    try:
        yield pages
    finally:
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()
