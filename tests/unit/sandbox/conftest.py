"""A world with a clock that only a test moves, and a client of it without a network."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest

from prefect_extend_ai.sandbox import World
from support.in_process import to

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HEADERS = {"Authorization": "Bearer sk_sandbox", "x-extend-api-version": "2026-02-09"}


@pytest.fixture
def still() -> Callable[..., World]:
    """Makes worlds in which it is noon until the test says otherwise."""
    return lambda **options: World(clock=lambda: NOON, **options)


@pytest.fixture
def reach() -> Callable[[World], httpx.AsyncClient]:
    """Makes clients that call a world's application in process, with the right key and version."""

    def client(world: World) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=to(world), base_url="http://sandbox", headers=HEADERS)

    return client
