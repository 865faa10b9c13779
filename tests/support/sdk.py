"""The vendor's SDK, called in one way by both of its clients."""

from __future__ import annotations

import inspect
from typing import Any

import httpx
from extend_ai import AsyncExtend, Extend

from prefect_extend_ai.runs import RunKind

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
