"""One run: check it, cancel it, confirm it, and say truthfully what became of it.

What a read means is decided in `steps`; `cancel_one` is the driver around it. Each cancel leaves right after a read
that said that it should, over the same connection, and what came of it is told by a read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.runs import Run, RunKind, loop_time
from prefect_extend_ai.sweep.attempt import Attempt, Settled
from prefect_extend_ai.sweep.decision import Step
from prefect_extend_ai.sweep.report import Outcome
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.stop import Stop
from prefect_extend_ai.sweep.witness import ACCOUNT_ERRORS, AccountWitness, ListingWitness

__all__ = ["ACCOUNT_ERRORS", "FIRST_PAUSE", "LONGEST_PAUSE", "Settled", "cancel_one"]

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Seconds between reads that wait for an accepted cancel to take: doubling from the first to the longest."""


async def cancel_one(
    client: ExtendClient,
    kind: RunKind,
    target: Target,
    *,
    spare: Callable[[Run, Target], str | None],
    stop: Stop,
    slot: AbstractAsyncContextManager[object],
    confirm_seconds: float,
    account: AccountWitness | None = None,
    listing: ListingWitness | None = None,
) -> Settled:
    """Check one run, cancel it if it still has to be, and wait until that is confirmed.

    Raises nothing for what may happen to one run; an error that concerns the whole account sets `stop`.

    Args:
        client: an open client.
        kind: the kind of run.
        target: the run.
        spare: says why no cancel may go out for a run as just read, None where one may.
        stop: once set, no further cancel goes out.
        slot: held until the run's first cancel is answered: so many runs are in hand at once.
        confirm_seconds: seconds from the first cancel's answer until a run that has not ended is unconfirmed.
        account: tells an error of this run from one of the whole account; shared by all runs of a sweep.
        listing: vouches for the times of a run whose single read tells none; shared by all runs of a sweep. None for
            kinds that tell them, and for runs that somebody named, whatever their age.
    """
    account = account or AccountWitness(client, kind, stop)
    attempt = Attempt(client, kind, target, spare=spare, stop=stop, account=account, listing=listing)
    step: Outcome | Step = Step.AGAIN
    pause = FIRST_PAUSE
    async with slot:
        while not isinstance(step, Outcome) and not attempt.tried.posts:
            if step is Step.WAIT:
                await asyncio.sleep(pause)
                pause *= 2
            step = await attempt.once()
    attempt.deadline, pause = loop_time() + confirm_seconds, FIRST_PAUSE
    while not isinstance(step, Outcome):
        if step is Step.WAIT:
            await asyncio.sleep(max(min(pause, min(attempt.deadline, stop.deadline) - loop_time()), 0))
            pause = min(pause * 2, LONGEST_PAUSE)
        step = await attempt.once()
    return attempt.settled(step)
