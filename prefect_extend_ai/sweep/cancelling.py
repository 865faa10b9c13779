"""Check one run, cancel it, and confirm how it ended.

`decision` says what a read means; `cancel_one` is the driver around it. Each cancel is sent right after the read that
asks for it, over the same connection, and only a further read confirms it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.runs import Run, RunKind, loop_time
from prefect_extend_ai.sweep.attempt import Attempt
from prefect_extend_ai.sweep.decision import Step
from prefect_extend_ai.sweep.report import Outcome
from prefect_extend_ai.sweep.result import Result
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.stop import Stop
from prefect_extend_ai.sweep.witness import AccountWitness, ListingWitness

__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "cancel_one"]

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Seconds between reads that confirm a cancel: doubled from the first to the longest."""


async def cancel_one(
    client: ExtendClient,
    kind: RunKind,
    target: Target,
    *,
    recheck: Callable[[Run, Target], str | None],
    stop: Stop,
    slot: AbstractAsyncContextManager[object],
    confirm_seconds: float,
    account: AccountWitness | None = None,
    listing: ListingWitness | None = None,
) -> Result:
    """Check one run, cancel it if it still has to be, and wait until that is confirmed.

    Raises nothing for what may happen to one run; an error that concerns the whole account sets `stop`.

    Args:
        client: an open client.
        kind: the kind of run.
        target: the run.
        recheck: why a run must not be cancelled as it was just read; None where it must still be.
        stop: once set, no further cancel is sent.
        slot: held until the response to the run's first cancel; it bounds the runs in progress at once.
        confirm_seconds: seconds from the first cancel's response until a run that has not ended is unconfirmed.
        account: distinguishes an error of this run from one of the whole account; shared by all runs of a sweep.
        listing: says when a run last changed, for kinds whose single read does not; shared by all runs of a sweep. None
            for other kinds, and for named runs, whose age does not matter.
    """
    account = account or AccountWitness(client, kind, stop)
    attempt = Attempt(client, kind, target, recheck=recheck, stop=stop, account=account, listing=listing)
    step: Outcome | Step = Step.AGAIN
    pause = FIRST_PAUSE
    async with slot:
        while not isinstance(step, Outcome) and not attempt.history.attempts:
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
    return attempt.result(step)
