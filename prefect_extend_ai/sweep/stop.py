"""The end of a sweep before it is complete: out of time, terminated, or stopped by an error."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from prefect_extend_ai.errors import ExtendError
from prefect_extend_ai.runs import loop_time

__all__ = ["GivenUp", "Stop", "run_until"]

T = TypeVar("T")


class GivenUp(Exception):  # no error: it never leaves a sweep
    """The result is no longer wanted, and the call was cancelled."""


class Stop:
    """Whether further cancels may be sent, and until when accepted ones are waited for; shared by a whole sweep.

    Attributes:
        reason: why no further cancel may be sent; None while one may.
        error: the error that stopped the sweep, where one did.
        deadline: when waiting for accepted cancels ends too, by the event loop's clock.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.error: ExtendError | None = None
        self.deadline = math.inf
        self._changed: asyncio.Future[None] | None = None

    def set(self, reason: str, error: ExtendError | None = None) -> None:
        """Stop now; the first reason stays."""
        self.reason = self.reason or reason
        self.error = self.error or error
        self._notify()

    def overcome(self, error: ExtendError | None) -> None:
        """The error that stopped the sweep is over, and nothing was lost: it stays stopped, without an error."""
        if error is self.error:
            self.error = None

    def after(self, seconds: float, reason: str) -> None:
        """Stop in this many seconds."""
        asyncio.get_running_loop().call_later(seconds, self.set, reason)

    def hurry(self, seconds: float) -> None:
        """Wait for accepted cancels for this many seconds from now at most."""
        self.deadline = min(self.deadline, loop_time() + seconds)
        self._notify()

    def changed(self) -> asyncio.Future[None]:
        """Done at the next `set` or `hurry`; shared, so not to be cancelled."""
        changed = self._changed = self._changed or asyncio.get_running_loop().create_future()
        return changed

    def _notify(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set_result(None)


async def run_until(stop: Stop, awaitable: Awaitable[T], ends: Callable[[], float] | None = None) -> T:
    """The result of `awaitable`, which is cancelled once the sweep is stopped; that raises GivenUp.

    Args:
        stop: the sweep's.
        awaitable: what to wait for.
        ends: when to cancel it instead, by the event loop's clock. Asked again at each change of `stop`, and at the
            time that it gave before.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        while not task.done():
            # Before the question: a signal handler may stop the sweep between any two steps.
            change = stop.changed()
            when = ends() if ends is not None else math.inf if stop.reason is None else -math.inf
            if when <= loop_time():
                raise GivenUp
            timeout = None if when == math.inf else when - loop_time()
            either: list[asyncio.Future[Any]] = [task, change]
            await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    return await task
