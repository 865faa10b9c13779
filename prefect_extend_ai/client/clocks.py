"""Two clocks, Extend's and ours: what time it is by both, how far they differ, and which is likely wrong.

Everything here is pure. Neither clock is believed alone: a wrong one must make no run older than it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

__all__ = [
    "CLOCK_GRAIN",
    "ClockDifference",
    "Suspect",
    "clock_words",
    "compare_clocks",
    "earlier",
    "span",
]

AGREE_WITHIN = timedelta(minutes=2)
"""How far the clocks may differ before anybody is told."""

CLOCK_GRAIN = timedelta(seconds=2)
"""HTTP dates are cut to whole seconds, so a run changed just now may seem to lie that far in the future."""

Suspect = Literal["extend", "ours"]
"""Whose clock is likely wrong."""


@dataclass(frozen=True, slots=True)
class ClockDifference:
    """How far two clocks differ that do not agree.

    Attributes:
        seconds: how far Extend's is ahead of ours; negative where it is behind.
        suspect: whose is likely wrong; None where the times of runs do not tell.
    """

    seconds: float
    suspect: Suspect | None


def earlier(extend: datetime | None, ours: datetime | None) -> datetime | None:
    """The time that runs are aged by: the earlier of both clocks, None where one of them is not known."""
    return None if extend is None or ours is None else min(extend, ours)


def compare_clocks(
    extend: datetime | None, ours: datetime | None, moments: Iterable[datetime | None] = ()
) -> ClockDifference | None:
    """How far the clocks differ and which is likely wrong; None where they agree, or one is not known.

    What runs say of their times is the witness. A time that has not come yet by the earlier clock shows that this one
    is behind. A newest time just before the earlier clock shows that the later one is ahead: it would be a strange
    chance that nothing had happened since, for just as long as the clocks differ.

    Args:
        extend: the `Date` of a response.
        ours: the time here when it arrived.
        moments: when runs were created and last changed. What lies in the future of both clocks tells nothing.
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
    """What a difference means and what to do about it, for people."""
    way = "ahead of" if seconds > 0 else "behind"
    match suspect:
        case "ours":
            which = "The clock here is likely the wrong one, going by the runs' own times: set it (NTP)"
        case "extend":
            which = (
                "Extend's is likely the wrong one, going by the runs' own times: look for a proxy or a cache that sets "
                "the Date header"
            )
        case _:
            which = "The runs' own times do not tell which of the two is wrong: compare the clock here with another"
    return (
        f"Extend's clock is {span(timedelta(seconds=abs(seconds)))} {way} the one here. {which}. Runs are aged by the "
        "earlier of the two, so none is cancelled too early, and some may be cancelled late."
    )


def span(time: timedelta) -> str:
    """A length of time in the largest unit of which there are two or more."""
    seconds = max(round(time.total_seconds()), 0)
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}s"
    return f"{seconds} seconds"
