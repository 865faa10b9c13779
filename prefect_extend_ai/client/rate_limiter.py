"""The rate limiter for one category of requests."""

from __future__ import annotations

import asyncio
import math

from prefect_extend_ai.runs import loop_time

__all__ = ["LEAD", "RateLimiter", "TooLate"]

HEADROOM = 0.98
"""Share of the configured rate that is used; the rest absorbs jitter in the network and in responses."""
FLOOR = 1 / 16
"""Lowest rate, as a share of the full rate."""
PROVEN = 0.75
"""Share of the rate at which the API last throttled that is assumed safe."""
QUICK_STEP = 1 / 20
"""Recovery per success up to that rate, as a share of it."""
SLOW_STEP = 1 / 200
"""Recovery per success above that rate, as a share of the full rate."""
LEAD = 1.0
"""Seconds at most between the return of `reserve` and the reserved turn."""
LATENESS = 0.01
"""Seconds that a request may leave late without delaying the next one; at most half an interval."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Pause in seconds without a `Retry-After`: the first one, doubled each epoch, up to the longest."""


class TooLate(Exception):  # a signal inside the transport, not an error
    """The turn would come after the caller's deadline."""


class RateLimiter:
    """Spaces requests evenly at a rate that adapts to throttling; first come, first served.

    Evenly, because a server that counts strictly throttles bursts: no second sees more requests than the rate.
    The full rate is 98% of the configured one, because at exactly the limit any network jitter causes a 429. The
    delay of a request that left late, up to 10 ms, is subtracted from the next interval, so that late wake-ups of the
    event loop do not add up.

    `on_throttled` halves the rate, down to a sixteenth of the full rate. Each `on_success` raises it: quickly up to
    three quarters of the rate at which the API last throttled, slowly above. After an isolated 429 the full rate is
    back after 55 successes, from the lowest rate after 188.

    A request that needs preparation reserves its turn: `reserve` returns about a second before the turn, and once the
    preparation is done, `acquire` waits for the turn as usual. Turns go in the order of `acquire`, so slow preparation
    delays no other request; and no preparation starts long before the end of a pause.

    Not aiolimiter: its rate cannot be changed while tasks wait on it.

    Args:
        per_second: the configured rate, in requests a second.
    """

    def __init__(self, per_second: float) -> None:
        self._full = per_second * HEADROOM
        self._per_second = self._full
        self._too_many = self._full
        self._next = float("-inf")
        self._paused_until = float("-inf")
        self._epoch = 0
        self._reserved = 0
        self._pause = FIRST_PAUSE
        self._queue = asyncio.Lock()  # wakes its waiters in order
        self._reserving = asyncio.Lock()

    @property
    def per_second(self) -> float:
        """The current rate, in requests a second."""
        return self._per_second

    async def reserve(self, latest: float = math.inf) -> None:
        """Return about a second before a turn. Call `end_reservation` once the turn was acquired or is not needed.

        Raises TooLate where the turn would come after `latest`, by the event loop's clock.
        """
        async with self._reserving:
            # Computed again after each sleep, as in `acquire`.
            while (wait := (turn := self._turn_after(self._reserved)) - LEAD - loop_time()) > 0:
                if turn > latest:
                    raise TooLate
                await asyncio.sleep(wait)
            self._reserved += 1

    def end_reservation(self) -> None:
        """A reserved turn was acquired or is not needed."""
        self._reserved -= 1

    def _turn_after(self, others: int) -> float:
        return max(self._next, loop_time()) + others / self._per_second

    async def acquire(self, latest: float = math.inf) -> int:
        """Wait until the next request may leave.

        Returns the request's epoch, to be passed to `on_throttled` or `on_success` with the outcome of the request.
        An epoch is the time between two reductions of the rate.

        Raises TooLate, and takes no turn, where it would come after `latest`, by the event loop's clock.
        """
        async with self._queue:
            # Computed again after each sleep: a response may have started a pause in the meantime.
            while (wait := self._next - loop_time()) > 0 and self._next <= latest:  # noqa: ASYNC110  # to a known time
                await asyncio.sleep(wait)
            if max(self._next, loop_time()) > latest:
                raise TooLate
            interval = 1 / self._per_second
            self._next = max(self._next, loop_time() - min(LATENESS, interval / 2)) + interval
            return self._epoch

    def release(self) -> None:
        """A turn was not used: the next request takes its place, unless a pause is in force."""
        self._next = max(self._next - 1 / self._per_second, self._paused_until)

    def on_throttled(self, epoch: int, retry_after: float | None = None) -> None:
        """The API throttled a request of this epoch.

        No request leaves for `retry_after` seconds; where that is None, for a pause that grows from epoch to epoch.
        The rate is halved once an epoch: a request that left before the last reduction says nothing about the
        present rate.
        """
        is_current = epoch == self._epoch
        if is_current:
            self._epoch += 1
            self._too_many = self._per_second
            self._per_second = max(self._per_second / 2, self._full * FLOOR)
        pause = self._pause if retry_after is None else retry_after
        if is_current and retry_after is None:
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if is_current or retry_after is not None:
            self._paused_until = max(self._paused_until, loop_time() + pause)
            self._next = max(self._next, self._paused_until)

    def on_success(self, epoch: int) -> None:
        """The API accepted a request of this epoch: raise the rate one step towards the full rate."""
        if epoch == self._epoch:
            is_proven = self._per_second < PROVEN * self._too_many
            step = QUICK_STEP * self._too_many if is_proven else SLOW_STEP * self._full
            self._per_second = min(self._per_second + step, self._full)
            self._pause = FIRST_PAUSE
