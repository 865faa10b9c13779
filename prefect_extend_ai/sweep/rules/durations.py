"""How long healthy runs took: one sample, and what follows from it. Everything here is pure.

Advice, backtest, suggestion and learned limit are all computed here, from the same runs, so that they never disagree.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from datetime import timedelta
from fractions import Fraction

from prefect_extend_ai.runs import PROCESSED, Run

__all__ = ["LEAST_FINISHED", "P50", "P95", "P99", "Durations", "duration_of", "elapsed"]

LEAST_FINISHED = 20
"""Finished runs from which on anything is suggested or learned."""

P50, P95, P99 = Fraction(50, 100), Fraction(95, 100), Fraction(99, 100)

STEP = 5
"""Minutes: a suggestion is a multiple."""
SHORTEST = 15
"""Minutes: the shortest suggestion."""


def duration_of(run: Run) -> timedelta | None:
    """How long a finished run took, from its creation to its last change; None for any other run.

    A run is finished when it is PROCESSED and nobody reviewed or edited it: a review changes it again. The time in the
    queue is included, because a run does not tell when its processing began: the duration is an upper bound.
    """
    return elapsed(run) if run.status == PROCESSED and not run.was_reviewed else None


def elapsed(run: Run) -> timedelta | None:
    """From a run's creation to its last change; None where its times cannot be read, or contradict each other."""
    if run.created_at is None or run.updated_at is None or run.updated_at < run.created_at:
        return None
    return run.updated_at - run.created_at


class Durations:
    """The durations of finished runs.

    Args:
        durations: in any order.
    """

    def __init__(self, durations: Iterable[timedelta]) -> None:
        self._sorted = sorted(durations)

    def __len__(self) -> int:
        return len(self._sorted)

    def quantile(self, share: Fraction) -> timedelta | None:
        """The shortest duration that at least this share of the runs did not exceed (nearest rank); None without runs.

        Args:
            share: above 0, and 1 at most.
        """
        if not self._sorted:
            return None
        return self._sorted[math.ceil(share * len(self._sorted)) - 1]

    @property
    def longest(self) -> timedelta | None:
        """The longest; None without runs."""
        return self._sorted[-1] if self._sorted else None

    def longer_than(self, minutes: float) -> int:
        """How many took longer: the healthy runs that this limit would have cancelled."""
        return len(self._sorted) - bisect.bisect_right(self._sorted, timedelta(minutes=minutes))

    def suggestion(self) -> int | None:
        """The suggested limit in minutes: one and a half times p99, rounded up to 5, at least 15.

        None for fewer than `LEAST_FINISHED` runs.
        """
        p99 = self.quantile(P99)
        if p99 is None or len(self._sorted) < LEAST_FINISHED:
            return None
        return max(SHORTEST, -(-(3 * p99) // (2 * timedelta(minutes=STEP))) * STEP)

    def exceeds(self, minutes: int) -> bool:
        """Whether one and a half times p99 is beyond this limit, so that it cancels too many healthy runs."""
        p99 = self.quantile(P99)
        return p99 is not None and len(self._sorted) >= LEAST_FINISHED and 3 * p99 > 2 * timedelta(minutes=minutes)
