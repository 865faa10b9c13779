"""Extend's rate limits: requests a second for reading, for writing and for creating runs, each counted separately."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Literal

__all__ = ["Category", "Limiter", "retry_after_header"]

Category = Literal["GET", "WRITE", "RUN"]
"""GET reads and lists, WRITE changes without starting work (a cancel, a deletion), RUN submits documents
(vendor's page on rate limits)."""


class Limiter:
    """A token bucket for each category, which holds one second's requests and starts full.

    So an evenly paced client is never throttled, and over any t seconds at most `rate * (t + 1)` requests pass.
    A throttled request costs nothing.
    """

    def __init__(self, requests_per_second: float | None) -> None:
        self._rate = requests_per_second
        self._buckets: dict[Category, tuple[float, datetime]] = {}

    def wait(self, category: Category, now: datetime) -> float:
        """Take one request of a category. Returns 0 when it may pass, else the seconds until one may."""
        if self._rate is None:
            return 0.0
        capacity = max(1.0, self._rate)
        tokens, since = self._buckets.get(category, (capacity, now))
        # The clock may be set back; a bucket loses no tokens by that.
        tokens = min(capacity, tokens + max(0.0, (now - since).total_seconds()) * self._rate)
        passes = tokens >= 1
        self._buckets[category] = (tokens - 1 if passes else tokens, now)
        return 0.0 if passes else (1 - tokens) / self._rate


def retry_after_header(form: str, seconds: float, now: datetime) -> dict[str, str]:
    """The header with the wait, in one of the forms of `Behaviour.retry_after`; empty for `absent`."""
    whole = max(1, math.ceil(seconds))
    match form:
        case "integer":
            return {"Retry-After": str(whole)}
        case "fraction":
            return {"Retry-After": f"{seconds:.2f}"}
        case "date":
            return {"Retry-After": format_datetime(now + timedelta(seconds=whole), usegmt=True)}
        case "zero":
            return {"Retry-After": "0"}
        case "reset":
            return {"X-RateLimit-Reset": str(math.ceil(now.timestamp() + seconds))}
        case _:
            return {}
