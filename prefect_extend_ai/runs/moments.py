"""Times: the age of a read by the monotonic and the wall clock, and durations as text."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["FRESH", "Moment", "duration", "loop_time"]

FRESH = 9.5
"""Seconds that a check is valid: from the moment its request left to the moment the bytes of the cancel leave.
Ten are promised; half a second is for the way to the server."""


def loop_time() -> float:
    """Seconds by the clock that every wait goes by: the event loop's, which is monotonic."""
    return asyncio.get_running_loop().time()


def duration(seconds: float) -> str:
    """Seconds as text: `40 s`, `45 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 120:
        return f"{max(round(seconds), 0)} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, rest = divmod(hours, 24)
    return f"{days} d {rest} h" if rest else f"{days} d"


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment by two clocks, because neither is enough.

    The monotonic clock stops while a machine sleeps (Linux), and the wall clock may be set back. Both continue while a
    process is stopped.

    Attributes:
        monotonic: seconds, by the event loop's clock.
        wall: seconds since 1970, by the local clock.
    """

    monotonic: float
    wall: float

    @classmethod
    def at(cls, time: datetime, monotonic: float = 0.0) -> Moment:
        """The moment with this wall-clock time and monotonic time."""
        return cls(monotonic, time.timestamp())

    @property
    def time(self) -> datetime:
        """The wall-clock time, in UTC."""
        return datetime.fromtimestamp(self.wall, UTC)

    def age(self, now: Moment) -> float:
        """Seconds from this moment until `now`: the larger of the two clocks' differences."""
        return max(now.monotonic - self.monotonic, now.wall - self.wall)

    def before(self, seconds: float) -> Moment:
        """The moment `seconds` earlier."""
        return Moment(self.monotonic - seconds, self.wall - seconds)
