"""Connections to Extend's host: who takes one has it to itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import httpx
from pydantic import SecretStr

__all__ = ["Connect", "Connections"]

Connect = Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]]
"""Gives a connection to oneself, for one request and its answer."""

CONNECTIONS = 96
"""More than runs are between their check and their cancel at once, each of which keeps one: reads go on beside them."""


class Connections:
    """Up to so many connections, opened when they are needed and used again, the latest first.

    Each is an httpx client of its own. One client would keep them all in one pool, and that asks every connection at
    every request, and again whenever two requests were given the same one: with 64 of them it takes more time than the
    requests themselves (httpcore 1.0.9).

    Args:
        base_url: where requests go.
        api_key: put on each request as it leaves.
        headers: the rest of what each request carries.
        connect_timeout: seconds to connect.
        read_timeout: seconds without a byte.
        transport: stands in for the network in tests.
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
        self._base_url = base_url
        self._auth = _Bearer(api_key)
        self._headers = headers
        self._timeout = httpx.Timeout(read_timeout, connect=connect_timeout)
        self._transport = transport
        self._is_plain = url.scheme == "http"
        self.traces = transport is None or isinstance(transport, httpx.AsyncHTTPTransport)
        """Whether requests tell when they leave, by httpcore's `trace` extension. Stand-ins for the network do not."""
        # Once for all of them: reading the certificates takes 20 ms. Where nothing is encrypted there are none.
        self._tls = False if self._is_plain else httpx.create_ssl_context()
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._all: list[httpx.AsyncClient] = []
        self._free: list[httpx.AsyncClient] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """A connection to oneself; waits while all are taken. One that was closed meanwhile is used no more."""
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
        """One connection for several requests after one another: taken for the first, given back at the end."""
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


class _Bearer(httpx.Auth):
    """Puts the key on a request as it leaves, so that no frame of ours ever holds it in plain."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request
