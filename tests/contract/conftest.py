"""The vendor's SDK as an independent client of the sandbox."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from extend_ai import AsyncExtend, Extend

from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox import Served, World, serve

ONCE = {"max_retries": 0}


class Sdk:
    """One way of calling the SDK, so that each test holds for both of its clients."""

    def __init__(self, url: str, http: httpx.Client | httpx.AsyncClient) -> None:
        self._url = url
        self._http = http
        self.options = ONCE
        self.connect()

    def connect(self, token: str = "sk_sandbox", version: str | None = None) -> None:
        """Use another key or version from now on."""
        sdk = AsyncExtend if isinstance(self._http, httpx.AsyncClient) else Extend
        self._client = sdk(base_url=self._url, token=token, httpx_client=self._http, extend_api_version=version)

    async def __call__(self, kind: RunKind, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call `client.<kind>_runs.<method>`; without the SDK's retries unless `options` say otherwise."""
        call = getattr(getattr(self._client, f"{kind}_runs"), method)
        answer = call(*args, **kwargs, request_options=self.options)
        return await answer if inspect.isawaitable(answer) else answer


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


@pytest.fixture(scope="session")
def doubles() -> ModuleType:
    """The engine's doubles, which are those of the unit tests."""
    spec = spec_from_file_location("engine_doubles", Path(__file__).parents[1] / "unit" / "conftest.py")
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
