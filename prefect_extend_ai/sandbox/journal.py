"""The log of requests, for tests and rehearsals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prefect_extend_ai.sandbox.limits import Category

__all__ = ["Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One request and its response.

    Attributes:
        time: when the response was ready, by the sandbox's clock.
        operation: `list`, `get`, `cancel`, `create`, `delete` or `other`.
        status: the answer's status; None where the connection was dropped without one.
        acted: whether the request reached the runs: false if it was rejected or failed before.
        trouble: the trouble that struck it, as it was written.
        body_length: bytes of the answer's body.
    """

    time: datetime
    method: str
    path: str
    query: str
    operation: str
    category: Category
    run_id: str | None
    status: int | None
    acted: bool
    trouble: str | None
    request_id: str
    body_length: int
