"""How far a long sweep has come, in words: after its scan, and at each tenth. Pure: the time is passed in."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefect_extend_ai.runs import duration

__all__ = ["LONG_SECONDS", "Progress"]

LONG_SECONDS = 5.0
"""A sweep that takes longer than this tells how far it has come."""

OVERHEAD = 1.05
"""What a sweep takes beyond the rate limit (docs/benchmarks.md)."""

STEPS = 10


@dataclass(slots=True)
class Progress:
    """The way of one sweep through its runs.

    Attributes:
        total: how many runs it asks for.
        stale, listed: how many it found stale, and how many its listing showed.
        rate: requests a second, for reads and for cancels each.
        begun: when it began to cancel, in seconds.
        done: for how many runs it is known how they ended.
    """

    total: int
    stale: int
    listed: int
    rate: float
    begun: float
    done: int = 0
    _told: int = field(default=0)

    @property
    def seconds(self) -> float:
        """How long all of it takes where each run takes one read and one cancel."""
        return self.total / self.rate * OVERHEAD

    @property
    def is_long(self) -> bool:
        """Whether anybody wants to know how far it is."""
        return self.seconds > LONG_SECONDS

    @property
    def percent(self) -> float:
        """How much is done, from 0 to 100."""
        return round(100 * self.done / self.total, 1) if self.total else 100.0

    def announcement(self) -> str:
        """`400 stale of 520 in progress; at 10 a second about 42 s`."""
        stale = f"{self.stale:,} stale of {self.listed:,} in progress" if self.listed else f"{self.total:,} runs by id"
        capped = f", {self.total:,} of them in this sweep" if self.total < self.stale else ""
        return f"{stale}{capped}; at {self.rate:g} a second about {duration(self.seconds)}"

    def settle(self, now: float) -> str | None:
        """Count one more run; at each tenth, what to say of it."""
        self.done += 1
        tenth = self.done * STEPS // self.total if self.total else STEPS
        if tenth <= self._told:
            return None
        self._told = tenth
        took = now - self.begun
        left = took / self.done * (self.total - self.done)
        rest = f", about {duration(left)} left" if self.done < self.total else ""
        return f"{self.done:,} of {self.total:,} runs done in {duration(took)}{rest}"
