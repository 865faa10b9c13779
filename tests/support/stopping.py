"""Stop a sweep between two of its requests."""

from __future__ import annotations

import asyncio


def stops_after(requests, world, stop):
    """A shared rate limit that stops the sweep where it would grant it one request more."""

    async def permit():
        if len(world.journal) == requests:
            stop.set("the sweep took too long")
            await asyncio.Event().wait()

    return permit
