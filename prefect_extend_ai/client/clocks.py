"""Extend's clock and the local one: the earlier of both, their difference, and which is likely wrong.

Pure functions. Neither clock is trusted alone: a wrong clock must not make a run look older than it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from prefect_extend_ai.runs import duration

__all__ = [
    "CLOCK_GRAIN",
    "ClockDifference",
    "Suspect",
    "clock_words",
    "compare_clocks",
    "earlier",
]

AGREE_WITHIN = timedelta(minutes=2)
"""The largest difference that is not reported."""

CLOCK_GRAIN = timedelta(seconds=2)
"""HTTP dates have whole seconds, so the last change of a run may seem to be this far in the future."""

Suspect = Literal["extend", "ours"]
"""Which clock is likely wrong."""


@dataclass(frozen=True, slots=True)
class ClockDifference:
    """A difference between the clocks that is worth a report.

    Attributes:
        seconds: how far Extend's clock is ahead of the local one; negative where it is behind.
        suspect: which is likely wrong; None where the times of runs do not show it.
    """

    seconds: float
    suspect: Suspect | None


def earlier(extend: datetime | None, ours: datetime | None) -> datetime | None:
    """The time that the ages of runs are measured at: the earlier of both clocks, None where one is unknown."""
    return None if extend is None or ours is None else min(extend, ours)


def compare_clocks(
    extend: datetime | None, ours: datetime | None, moments: Iterable[datetime | None] = ()
) -> ClockDifference | None:
    """How far the clocks differ and which is likely wrong; None where they agree or one is unknown.

    The evidence is the times of the runs. A time in the future of the earlier clock shows that this clock is behind. A
    newest time just before the earlier clock suggests that the later one is ahead: otherwise nothing would have
    happened for just as long as the clocks differ.

    Args:
        extend: the `Date` of a response.
        ours: the local time when it arrived.
        moments: when runs were created and last changed. Times in the future of both clocks are ignored.
    """
    if extend is None or ours is None or abs(extend - ours) <= AGREE_WITHIN:
        return None
    first, last = min(extend, ours), max(extend, ours)
    behind: Suspect = "extend" if extend < ours else "ours"
    ahead: Suspect = "ours" if extend < ours else "extend"
    newest = max((moment for moment in moments if moment and moment - last <= CLOCK_GRAIN), default=None)
    suspect: Suspect | None = None
    if newest is not None and newest - first > CLOCK_GRAIN:
        suspect = behind
    elif newest is not None and first - newest <= (last - first) / 10:
        suspect = ahead
    return ClockDifference((extend - ours).total_seconds(), suspect)


def clock_words(seconds: float, suspect: Suspect | None) -> str:
    """What a difference means and what to do about it, as text."""
    way = "ahead of" if seconds > 0 else "behind"
    match suspect:
        case "ours":
            which = "The local clock is likely the wrong one, judging by the times of the runs: set it (NTP)"
        case "extend":
            which = (
                "Extend's is likely the wrong one, judging by the times of the runs: look for a proxy or a cache that "
                "sets the Date header"
            )
        case _:
            which = "The times of the runs do not show which is wrong: compare the local clock with another one"
    return (
        f"Extend's clock is {duration(abs(seconds))} {way} the local one. {which}. Ages are measured "
        "by the earlier of the two, so no run is cancelled too early, and some may be cancelled late."
    )
