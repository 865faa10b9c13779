"""Retries of a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import stamina

from prefect_extend_ai.client.responses import ApiResponse

__all__ = ["with_retries"]

ATTEMPTS = 5
"""Most attempts for a read; attempts that end in a 429 are not counted."""


async def with_retries(
    on: Callable[[Exception], bool | float], send: Callable[[], Awaitable[ApiResponse]]
) -> ApiResponse:
    """Send, and again after each error that `on` accepts: with a jittered back-off, or after the seconds it returns."""
    async for attempt in stamina.retry_context(
        on=on, attempts=ATTEMPTS, timeout=None, wait_initial=0.5, wait_max=5, wait_jitter=1
    ):
        with attempt:
            return await send()
    raise AssertionError("the last attempt returns or raises")  # pragma: no cover
