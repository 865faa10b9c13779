"""The end of a sweep before it is through: too late, told to stop, or no use in going on."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from prefect_extend_ai.errors import ExtendError

__all__ = ["GivenUp", "Stop", "unless"]

LOOK_EVERY = 0.5
"""Seconds between looks whether to give up."""

T = TypeVar("T")


class GivenUp(Exception):  # no error: it never leaves a sweep
    """What was waited for is not wanted any more, and was called off."""


async def unless(give_up: Callable[[], bool], doing: Awaitable[T]) -> T:
    """The result of `doing`, which is called off once `give_up` says so; that raises GivenUp."""
    task = asyncio.ensure_future(doing)
    try:
        while not (await asyncio.wait({task}, timeout=LOOK_EVERY))[0]:
            if give_up():
                raise GivenUp
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    return await task


class Stop:
    """Tells every part of a sweep that no further cancel may go out, and why.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reason: str | None = None
        self._timer: tuple[float, str] | None = None
        self.deadline = math.inf
        """When waiting for accepted cancels ends too."""
        self.error: ExtendError | None = None
        """The error that stopped the sweep, where one did."""

    def set(self, reason: str, error: ExtendError | None = None) -> None:
        """Stop now; the first reason stays."""
        self._reason = self._reason or reason
        self.error = self.error or error

    def after(self, seconds: float, reason: str) -> None:
        """Stop by itself so many seconds from now."""
        self._timer = (self._clock() + seconds, reason)

    def hurry(self, seconds: float) -> None:
        """Wait no longer than so many seconds from now for accepted cancels to take."""
        self.deadline = min(self.deadline, self._clock() + seconds)

    @property
    def reason(self) -> str | None:
        """Why no further cancel may go out; None while one may."""
        if self._reason is None and self._timer is not None and self._clock() >= self._timer[0]:
            self._reason = self._timer[1]
        return self._reason
