"""Hooks on Prefect's client: ask a busy server again soon, and know when a request may have been carried out twice."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import httpx

__all__ = ["Sends", "ask_again_soon", "counting", "note_response", "note_send"]

AGAIN_AFTER = (0.05, 0.1, 0.3, 1, 8, 0)
"""Seconds after which Prefect's client asks a busy server again, up to five times; it waits after the last one too."""
NOT_CARRIED_OUT = (429, 503)
"""Statuses that say that a request was not carried out."""


@dataclass(slots=True)
class Sends:
    """How often one request was sent, and how often it certainly was not carried out."""

    sent: int = 0
    not_carried_out: int = 0
    since: float = field(default_factory=time.monotonic)

    @property
    def may_be_double(self) -> bool:
        """Whether more than one of them may have been carried out: an answer was lost, or a gateway gave it."""
        return self.sent - self.not_carried_out > 1

    def lasted(self) -> timedelta:
        """How long it has taken until now."""
        return timedelta(seconds=time.monotonic() - self.since)


_current: contextvars.ContextVar[Sends | None] = contextvars.ContextVar("sends", default=None)


@contextlib.contextmanager
def counting() -> Iterator[Sends]:
    """Count how often the request made within is sent by a client that has these hooks."""
    sends = Sends()
    token = _current.set(sends)
    try:
        yield sends
    finally:
        _current.reset(token)


async def note_send(_: httpx.Request) -> None:
    """A request hook: one more was sent."""
    if (sends := _current.get()) is not None:
        sends.sent += 1


async def note_response(response: httpx.Response) -> None:
    """A response hook: it says that nothing was done."""
    if (sends := _current.get()) is not None and response.status_code in NOT_CARRIED_OUT:
        sends.not_carried_out += 1


async def ask_again_soon(response: httpx.Response) -> None:
    """A response hook: give Prefect's client a shorter wait than its own 2, 4, 8 seconds.

    A server on SQLite answers 503 at once to a write that meets another; a moment later it takes it. That happens a few
    times in a sweep of hundreds of runs, and the records behind it would wait those seconds each time.
    """
    if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or "Retry-After" in response.headers:
        return
    asked: int = response.request.extensions.setdefault("asked", 0)
    if asked < len(AGAIN_AFTER):
        response.request.extensions["asked"] = asked + 1
        response.headers["Retry-After"] = str(AGAIN_AFTER[asked])
