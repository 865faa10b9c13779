"""How old the reads are that a cancel rests on: pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta

from prefect_extend_ai.runs import Moment, Run

__all__ = ["age_of", "sent_at", "too_old"]


def age_of(reads: Iterable[Run | None], now: Moment) -> float:
    """Seconds since the oldest of these reads was requested, by any clock; infinite where one is missing."""
    asked = (run.asked_at if run else None for run in reads)
    return max(math.inf if moment is None else moment.age(now) for moment in asked)


def sent_at(response: Run, now: Moment) -> datetime | None:
    """When the request of a response was sent, at the earliest, by the API's clock."""
    if response.read_at is None or response.asked_at is None:
        return None
    return response.read_at - timedelta(seconds=response.asked_at.age(now))


def too_old(seconds: float) -> str:
    """Why a check was too old, and where to look."""
    return (
        f"the last was {seconds:.0f} s old when its cancel could be sent: look for slow responses of Extend, a "
        "slow proxy, or a machine that was suspended"
    )
