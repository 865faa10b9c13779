"""Connections to Extend's host, each lent to one user at a time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import httpx
from pydantic import SecretStr

from prefect_extend_ai.client.network import tls_context
from prefect_extend_ai.errors import ExtendNetworkError

__all__ = ["Connect", "Connections"]

Connect = Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]]
"""Lends a connection exclusively, for one request and its response."""

CONNECTIONS = 96
"""More than the runs between check and cancel at once, each of which keeps one, so that other reads continue."""


class Connections:
    """Up to `CONNECTIONS` connections, opened on demand and reused, the most recent first.

    Each is a separate httpx client. A single client's pool scans all its connections at every request, and again
    whenever two requests were given the same one: with 64 connections that takes longer than the requests themselves
    (httpcore 1.0.9).

    Args:
        base_url: the address that requests go to.
        api_key: added to each request as it leaves.
        headers: the other headers of each request.
        connect_timeout: in seconds.
        read_timeout: seconds without a byte.
        transport: replaces the network in tests.

    Raises ExtendNetworkError where the certificates that the environment names cannot be read.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr,
        headers: Mapping[str, str],
        *,
        connect_timeout: float,
        read_timeout: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        url = httpx.URL(base_url)
        self.host = url.host
        self.url = url
        self._base_url = base_url
        self._auth = _Bearer(api_key)
        self._headers = headers
        self._timeout = httpx.Timeout(read_timeout, connect=connect_timeout)
        self._transport = transport
        self._is_plain = url.scheme == "http"
        self.traces = transport is None or isinstance(transport, httpx.AsyncHTTPTransport)
        """Whether httpcore's `trace` extension reports when a request leaves. Transports of tests do not have it."""
        # Shared, because reading the certificates takes 20 ms. Not needed for plain http, nor by another transport.
        self._tls = False if self._is_plain or transport is not None else _authorities()
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._all: list[httpx.AsyncClient] = []
        self._free: list[httpx.AsyncClient] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """Lend a connection; waits while all are lent. A connection that was closed meanwhile is dropped."""
        async with self._places:
            http = self._free.pop() if self._free else self._open()
            try:
                yield http
            finally:
                if http.is_closed:
                    self._all.remove(http)
                else:
                    self._free.append(http)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[Connect]:
        """Lend one connection for consecutive requests: taken at the first, returned at the end."""
        async with AsyncExitStack() as kept:
            taken: list[httpx.AsyncClient] = []

            @asynccontextmanager
            async def the_same() -> AsyncIterator[httpx.AsyncClient]:
                if not taken or taken[-1].is_closed:
                    taken.append(await kept.enter_async_context(self.one()))
                yield taken[-1]

            yield the_same

    async def aclose(self) -> None:
        """Close them all."""
        await asyncio.gather(*(http.aclose() for http in list(self._all)))

    def _open(self) -> httpx.AsyncClient:
        http = httpx.AsyncClient(
            base_url=self._base_url,
            headers=self._headers,
            auth=self._auth,
            timeout=self._timeout,
            verify=self._tls,
            limits=httpx.Limits(max_connections=1),
            follow_redirects=False,
            trust_env=not self._is_plain,
            transport=self._transport,
        )
        self._all.append(http)
        return http


def _authorities() -> ssl.SSLContext:
    try:
        return tls_context()
    except ValueError as error:
        raise ExtendNetworkError(str(error)) from None


class _Bearer(httpx.Auth):
    """Adds the key to a request as it leaves, so that no frame of this package holds it as plain text."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request
