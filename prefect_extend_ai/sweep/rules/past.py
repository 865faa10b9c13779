"""The runs that ended last: how, and how long they took; read once, kept as numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prefect_extend_ai.client import LARGEST_PAGE, ExtendClient, Page
from prefect_extend_ai.errors import ExtendRefusedError
from prefect_extend_ai.runs import CANCELLED, FAILED, PROCESSED, Run, RunKind
from prefect_extend_ai.sweep.rules.durations import duration_of, elapsed
from prefect_extend_ai.sweep.rules.ordering import Order

__all__ = ["PastRuns", "Tally", "read_past"]

SMALL_PAGE = 100
"""Runs a page where Extend refuses the largest."""


@dataclass(slots=True)
class Tally:
    """The runs of one processor, as durations. Those of failed and cancelled runs are from creation to last change.

    Attributes:
        finished: the runs that are PROCESSED, neither reviewed nor edited.
        failed: the runs that failed.
        cancelled: the runs that were cancelled, by anybody.
        in_progress: the runs that have not ended, and how long ago they were created.
        others: how many runs ended with a duration that says nothing: reviewed, edited, or with unreadable times.
    """

    finished: list[timedelta] = field(default_factory=list)
    failed: list[timedelta] = field(default_factory=list)
    cancelled: list[timedelta] = field(default_factory=list)
    in_progress: list[timedelta] = field(default_factory=list)
    others: int = 0

    @property
    def ended(self) -> int:
        """How many runs ended, in whatever way."""
        return len(self.finished) + len(self.failed) + len(self.cancelled) + self.others

    def add(self, other: Tally) -> None:
        """Take in the runs of another."""
        self.finished += other.finished
        self.failed += other.failed
        self.cancelled += other.cancelled
        self.in_progress += other.in_progress
        self.others += other.others


@dataclass(slots=True)
class PastRuns:
    """The runs of one kind that ended last, and those in progress, by processor.

    Attributes:
        kind: the kind of run.
        read_at: when they were read, by Extend's clock.
        since: the last change of the oldest PROCESSED run that was read; None where all were read. Failed and cancelled
            runs are counted from there on.
        by_processor: what is known of each processor; None is that of runs without one, which have an inline config.
        not_listed: statuses that Extend refuses to list.
    """

    kind: RunKind
    read_at: datetime | None = None
    since: datetime | None = None
    by_processor: dict[str | None, Tally] = field(default_factory=lambda: defaultdict(Tally))
    not_listed: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def see(self, run: Run, now: datetime | None) -> None:
        """Count a run as it was listed; a run that was counted before, and one that ended too long ago, is passed over.

        Args:
            run: the run.
            now: when it was listed, by Extend's clock.
        """
        if run.id in self._seen or (run.is_terminal and self._is_before(run)):
            return
        self._seen.add(run.id)
        tally = self.by_processor[run.processor_id]
        took = elapsed(run)
        if run.status == PROCESSED:
            duration = duration_of(run)
            if duration is None:
                tally.others += 1
            else:
                tally.finished.append(duration)
        elif took is None and run.is_terminal:
            tally.others += 1
        elif took is not None and (run.status == CANCELLED or run.was_aborted):
            tally.cancelled.append(took)
        elif took is not None and run.status == FAILED:
            tally.failed.append(took)
        elif run.status in run.kind.cancellable and run.created_at is not None and now is not None:
            tally.in_progress.append(max(now - run.created_at, timedelta()))

    def _is_before(self, run: Run) -> bool:
        return self.since is not None and run.updated_at is not None and run.updated_at < self.since

    @property
    def total(self) -> Tally:
        """All processors together."""
        total = Tally()
        for tally in self.by_processor.values():
            total.add(tally)
        return total


async def read_past(client: ExtendClient, kind: RunKind, max_runs: int) -> PastRuns:
    """Read the runs that are PROCESSED, latest first, and what failed, was cancelled or is in progress since.

    Args:
        client: an open client.
        kind: the kind of run.
        max_runs: how many runs of each status are read at most.

    Raises ExtendError where finished runs cannot be listed.
    """
    past = PastRuns(kind)
    oldest: datetime | None = None
    read = 0
    async for page in _pages(client, kind, PROCESSED, max_runs):
        past.read_at = past.read_at or page.date or page.read_at
        for run in page.runs[: max_runs - read]:
            past.see(run, page.date)
            read += 1
            if run.updated_at is not None:
                oldest = run.updated_at if oldest is None else min(oldest, run.updated_at)
    past.since = oldest if read >= max_runs else None
    for status in (CANCELLED, FAILED, *sorted(kind.cancellable)):
        try:
            await _read_others(client, past, status, max_runs)
        except ExtendRefusedError:
            # Whether parse runs can be listed as CANCELLED is not documented.
            past.not_listed.append(status)
    return past


async def _read_others(client: ExtendClient, past: PastRuns, status: str, max_runs: int) -> None:
    order = Order(descending=True)
    read = 0
    async for page in _pages(client, past.kind, status, max_runs):
        for run in page.runs[: max_runs - read]:
            read += 1
            order.see(run)
            if run.status == status:
                past.see(run, page.date or page.read_at)
        is_past = past.since is not None and order.last is not None and order.last < past.since
        if status in past.kind.terminal and is_past and order.is_shown and past.kind.sortable:
            return


async def _pages(client: ExtendClient, kind: RunKind, status: str, max_runs: int) -> AsyncIterator[Page]:
    """Pages of a status, latest change first, until this many runs were listed."""
    size = min(LARGEST_PAGE, max_runs)
    read = 0
    try:
        async for page in client.iter_pages(kind, status=status, sort_dir="desc", page_size=size):
            yield page
            read += len(page.runs) + page.unreadable
            if read >= max_runs:
                return
    except ExtendRefusedError:
        # How large a page may be is not documented for this version of the API.
        if read or size <= SMALL_PAGE:
            raise
        async for page in client.iter_pages(kind, status=status, sort_dir="desc", page_size=SMALL_PAGE):
            yield page
            read += len(page.runs) + page.unreadable
            if read >= max_runs:
                return
