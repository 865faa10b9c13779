"""Limits that a sweep learns from the runs that finished last. It can only spare runs, never select any.

The runs are one page of the same listing that the outage guard asks for a sign of life.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from prefect_extend_ai.client import LARGEST_PAGE, ExtendClient, Page
from prefect_extend_ai.runs import PROCESSED, Run, RunKind
from prefect_extend_ai.sweep.rules.durations import P99, Durations, duration_of
from prefect_extend_ai.sweep.rules.pages import next_page
from prefect_extend_ai.sweep.rules.policy import LONGEST_MINUTES, StalePolicy
from prefect_extend_ai.sweep.stop import Stop

__all__ = ["LEARNERS", "MOST_TIMES", "FinishedRuns", "LearnedLimit", "learn"]

LEARNERS = frozenset({RunKind.CLASSIFY, RunKind.EXTRACT, RunKind.SPLIT})
"""Kinds of run whose limits are learned: those that have a processor, and whose listing is sorted."""

MOST_TIMES = 4
"""How many times the sweep's limit a learned one is at most: after an outage all recent runs took long."""


class LearnedLimit(BaseModel):
    """A longer limit for one processor, because its recent healthy runs took long."""

    model_config = ConfigDict(frozen=True)

    processor: str = Field(description="The processor's id.")
    minutes: int = Field(description="Its limit.")
    finished: int = Field(description="From how many finished runs it was learned.")
    p99_minutes: float = Field(description="How long 99 % of them took at most.")
    spared: int = Field(default=0, description="How many runs over the sweep's limit were left out for it.")


def learn(runs: Iterable[Run], max_processing_minutes: int, policy: StalePolicy) -> dict[str, LearnedLimit]:
    """The learned limits, by processor.

    Args:
        runs: runs that finished lately; others among them are passed over.
        max_processing_minutes: the sweep's limit.
        policy: the sweep's policy. A processor that `minutes_by_processor` names learns nothing.
    """
    found: dict[str, list[timedelta]] = defaultdict(list)
    for run in {run.id: run for run in runs}.values():
        processor, duration = run.processor_id, duration_of(run)
        if processor is not None and duration is not None and processor not in policy.minutes_by_processor:
            found[processor].append(duration)
    learned: dict[str, LearnedLimit] = {}
    for processor, each in sorted(found.items()):
        durations = Durations(each)
        suggestion, p99 = durations.suggestion(), durations.quantile(P99)
        if suggestion is not None and p99 is not None and durations.exceeds(max_processing_minutes):
            minutes = min(suggestion, MOST_TIMES * max_processing_minutes, LONGEST_MINUTES)
            learned[processor] = LearnedLimit(
                processor=processor,
                minutes=minutes,
                finished=len(durations),
                p99_minutes=round(p99 / timedelta(minutes=1), 3),
            )
    return learned


class FinishedRuns:
    """The listing of finished runs, latest first, whose first page is asked for once: to learn from, and by the guard.

    Args:
        client: an open client.
        kind: the kind of run.
    """

    def __init__(self, client: ExtendClient, kind: RunKind) -> None:
        self._rest = client.iter_pages(kind, status=PROCESSED, sort_dir="desc", page_size=LARGEST_PAGE)
        self._first: Page | None = None

    async def first(self, stop: Stop | None) -> Page | None:
        """The first page; None where the sweep was stopped meanwhile. Raises ExtendError."""
        if self._first is None:
            self._first = await next_page(self._rest, stop)
        return self._first

    async def pages(self) -> AsyncIterator[Page]:
        """Every page, from the first on. Raises ExtendError."""
        if self._first is not None:
            yield self._first
        async for page in self._rest:
            yield page
