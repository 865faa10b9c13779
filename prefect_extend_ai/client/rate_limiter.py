"""How fast requests of one category may go out."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

__all__ = ["LEAD", "Pace", "TooLate"]

HEADROOM = 0.98
"""The share of the configured rate that is used: the rest is for answers' and networks' uneven speed."""
FLOOR = 1 / 16
"""The slowest a pace gets, as a share of its full rate."""
PROVEN = 0.75
"""The share of the rate at which the API last said "too many" that is taken for safe."""
QUICK_STEP = 1 / 20
"""What one success gives back up to there, as a share of that rate."""
SLOW_STEP = 1 / 200
"""What one success gives back beyond, as a share of the full rate."""
LEAD = 1.0
"""Seconds before its turn at most that whoever reserved it is told to begin."""
LATENESS = 0.01
"""Seconds, but half an interval at most, that a request may go late without its successor losing time."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Seconds to pause where the API does not say how long: the first, doubled by each wave up to the longest."""


class TooLate(Exception):  # no error: it never leaves the transport
    """The turn would come later than it is good for."""


class Pace:
    """Lets requests go one by one, first come first served, evenly spaced at a rate that the API may lower.

    Evenly, because a limiter that counts strictly throttles a burst: no second sees more requests than the rate.
    The full rate is 98% of the configured one, for at exactly the limit every unevenness on the way is a 429. A
    request that went late gives up to 10 ms of its delay back to the next one, so that late wake-ups of the event
    loop do not add up.

    The rate answers to the API. `slow_down` halves it, down to a sixteenth of the full rate. Each `recovered`
    gives some back: quickly up to three quarters of where the API last said "too many", slowly beyond. So after an
    isolated 429 the full rate is back after 55 successes, from the floor after 188.

    What has to be done right before a request is reserved for: `reserve` returns about a second before the request's
    turn, and when all is ready, `turn` is asked for as ever. Who is ready goes, in the order of being ready, so that
    one who takes long delays nobody; and nobody begins long before a pause that the API asked for is over.

    Not aiolimiter: its rate cannot be changed while people wait on it.

    Args:
        per_second: the configured rate, in requests a second.
        clock: seconds, monotonic.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._full = per_second * HEADROOM
        self._per_second = self._full
        self._too_many = self._full
        self._clock = clock
        self._sleep = sleep
        self._next = float("-inf")
        self._paused_until = float("-inf")
        self._wave = 0
        self._reserved = 0
        self._pause = FIRST_PAUSE
        self._queue = asyncio.Lock()  # wakes its waiters in the order they came
        self._reserving = asyncio.Lock()

    @property
    def per_second(self) -> float:
        """The rate at present, in requests a second."""
        return self._per_second

    async def reserve(self, latest: float = math.inf) -> None:
        """Return about a second before a turn; `release` it when the turn was taken, or is not wanted any more.

        Raises TooLate where the turn would come after `latest`, in the clock's seconds.
        """
        async with self._reserving:
            # Asked again after each sleep, as below.
            while (wait := (turn := self._turn_after(self._reserved)) - LEAD - self._clock()) > 0:
                if turn > latest:
                    raise TooLate
                await self._sleep(wait)
            self._reserved += 1

    def release(self) -> None:
        """A reserved turn was taken, or is not wanted any more."""
        self._reserved -= 1

    def _turn_after(self, others: int) -> float:
        return max(self._next, self._clock()) + others / self._per_second

    async def turn(self, latest: float = math.inf) -> int:
        """Return when the next request may go.

        The number returned is the wave that the request belongs to: hand it back to `slow_down` or
        `recovered` with what became of the request.

        Raises TooLate, and takes no turn, where it comes after `latest`, in the clock's seconds.
        """
        async with self._queue:
            # Asked again after each sleep: the API may have called for a pause in the meantime.
            while (wait := self._next - self._clock()) > 0 and self._next <= latest:
                await self._sleep(wait)
            if max(self._next, self._clock()) > latest:
                raise TooLate
            interval = 1 / self._per_second
            self._next = max(self._next, self._clock() - min(LATENESS, interval / 2)) + interval
            return self._wave

    def give_back(self) -> None:
        """A turn was not used: the next in line need not wait for it, only for a pause that the API asked for."""
        self._next = max(self._next - 1 / self._per_second, self._paused_until)

    def slow_down(self, wave: int, retry_after: float | None = None) -> None:
        """The API said "too many" to a request of this wave.

        Nobody goes before `retry_after` seconds from now; where the API gave none, before a pause that grows
        from wave to wave. The rate is halved once a wave: requests that were under way already when the last
        slow-down was heard say nothing new.
        """
        news = wave == self._wave
        if news:
            self._wave += 1
            self._too_many = self._per_second
            self._per_second = max(self._per_second / 2, self._full * FLOOR)
        pause = self._pause if retry_after is None else retry_after
        if news and retry_after is None:
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if news or retry_after is not None:
            self._paused_until = max(self._paused_until, self._clock() + pause)
            self._next = max(self._next, self._paused_until)

    def recovered(self, wave: int) -> None:
        """The API granted a request of this wave: a step back towards the full rate."""
        if wave == self._wave:
            is_proven = self._per_second < PROVEN * self._too_many
            step = QUICK_STEP * self._too_many if is_proven else SLOW_STEP * self._full
            self._per_second = min(self._per_second + step, self._full)
            self._pause = FIRST_PAUSE
