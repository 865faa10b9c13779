"""Wait for one run to end, in the rhythm of the vendor's SDK and up to a deadline that a restart does not renew."""

from __future__ import annotations

import asyncio
import math
import random

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import ExtendNetworkError, ExtendRateLimitError, ExtendServerError, ExtendTransportError
from prefect_extend_ai.runs import Run, RunKind

__all__ = ["poll_pause", "seconds_left", "wait_until_ended"]

FAST_SECONDS, FAST_PAUSE = 30.0, 1.0
GROWTH, LONGEST_PAUSE = 1.15, 30.0
JITTER = 0.25
"""The rhythm of `create_and_poll` in the vendor's SDK 1.20.0."""


def poll_pause(waited: float, luck: float) -> float:
    """Seconds until the next read: about one for the first 30 seconds, then longer and longer, up to about 30.

    Args:
        waited: seconds since the first read.
        luck: from 0 to 1, for the jitter of a quarter either way.
    """
    # The pauses of the slow phase add up to the time since it began: their number follows from that time.
    slow = max(waited - FAST_SECONDS, 0.0)
    number = math.log1p(slow * (GROWTH - 1) / FAST_PAUSE) / math.log(GROWTH)
    pause = min(FAST_PAUSE * GROWTH ** int(number), LONGEST_PAUSE) if slow else FAST_PAUSE
    return pause * (1 + JITTER * (2 * luck - 1))


def seconds_left(run: Run, timeout_seconds: float) -> float:
    """Seconds until a run's creation plus the time-out, as it was just read; all of them where it tells no times."""
    if run.created_at is None or run.read_at is None:
        return timeout_seconds
    return max(timeout_seconds - (run.read_at - run.created_at).total_seconds(), 0.0)


async def wait_until_ended(client: ExtendClient, run_id: str, kind: RunKind, timeout_seconds: float) -> Run:
    """The run once it has ended, or its state at the deadline.

    An outage of Extend is waited out up to the deadline; its last error is raised then. Raises ExtendNotFoundError,
    ExtendAccountError and other errors of a read at once.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    deadline = started + timeout_seconds
    while True:
        try:
            run = await client.get_run(run_id, kind)
        except ExtendNetworkError:
            raise  # a setting of this machine, which does not pass by
        except (ExtendTransportError, ExtendServerError, ExtendRateLimitError):
            if loop.time() >= deadline:
                raise
        else:
            # Never later than the time-out after the call, whatever a clock says.
            deadline = min(deadline, loop.time() + seconds_left(run, timeout_seconds))
            if run.is_terminal or loop.time() >= deadline:
                return run
        pause = poll_pause(loop.time() - started, random.random())  # noqa: S311  # jitter
        await asyncio.sleep(max(min(pause, deadline - loop.time()), 0))
