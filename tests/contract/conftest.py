"""The vendor's SDK as an independent client of the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox import Served, World, serve
from support.sdk import Sdk


@pytest.fixture(params=list(RunKind))
def kind(request: pytest.FixtureRequest) -> RunKind:
    return request.param


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(World(keys={"sk_sandbox": "ws_sandbox", "sk_org": None})) as running:
        yield running


@pytest.fixture
def world(served: Served) -> World:
    """The served world, emptied."""
    for record in list(served.world.runs.values()):
        served.world.remove(record)
    served.world.journal.clear()
    served.world.troubles.clear()
    return served.world


@pytest.fixture(params=["sync", "async"])
async def sdk(request: pytest.FixtureRequest, served: Served) -> AsyncIterator[Sdk]:
    if request.param == "sync":
        with httpx.Client() as http:
            yield Sdk(served.url, http)
    else:
        async with httpx.AsyncClient() as http:
            yield Sdk(served.url, http)
