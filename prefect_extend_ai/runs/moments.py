"""How old something is, by every clock that there is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["FRESH", "Moment"]

FRESH = 10.0
"""Seconds that a check is good for: from the moment its request left to the moment the bytes of its cancel leave."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment by two clocks, because neither sees everything.

    The monotonic clock stands still while a machine sleeps (Linux), the clock on the wall may be set back. Both go on
    while a process is stopped.

    Attributes:
        monotonic: seconds, monotonic.
        wall: seconds since 1970, as the machine tells them.
    """

    monotonic: float
    wall: float

    @classmethod
    def now(cls) -> Moment:
        """This moment."""
        return cls(time.monotonic(), time.time())

    @classmethod
    def at(cls, time: datetime, monotonic: float = 0.0) -> Moment:
        """The moment at which the clock on the wall says this; for those who have a clock of their own."""
        return cls(monotonic, time.timestamp())

    @property
    def time(self) -> datetime:
        """The moment by the clock on the wall."""
        return datetime.fromtimestamp(self.wall, UTC)

    def age(self, now: Moment) -> float:
        """Seconds from this moment until `now`: the larger of what the two clocks say."""
        return max(now.monotonic - self.monotonic, now.wall - self.wall)

    def before(self, seconds: float) -> Moment:
        """The moment so many seconds earlier."""
        return Moment(self.monotonic - seconds, self.wall - seconds)
