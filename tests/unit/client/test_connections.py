"""A connection belongs to one request at a time, and is used again."""

from __future__ import annotations

import asyncio
import ssl

import httpx
import pytest
from pydantic import SecretStr

from prefect_extend_ai.client.connections import CONNECTIONS, Connections


def connections():
    return Connections(
        "https://api.example",
        SecretStr("sk_secret-4711"),
        {"x-one": "1"},
        connect_timeout=1,
        read_timeout=1,
        transport=httpx.MockTransport(lambda request: httpx.Response(200, json=dict(request.headers))),
    )


@pytest.mark.parametrize("base_url", ["https://localhost", "HTTPS://localhost", "Https://localhost"])
async def test_a_certificate_is_always_asked_for(base_url):
    pool = Connections(base_url, SecretStr("sk_secret-4711"), {}, connect_timeout=1, read_timeout=1)
    async with pool.one() as http:
        context = http._transport._pool._ssl_context
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    await pool.aclose()


async def test_requests_at_once_share_no_connection():
    pool = connections()
    async with pool.one() as first:
        async with pool.one() as second:
            assert first is not second
        async with pool.one() as third:
            assert third is second
    async with pool.one() as fourth:
        assert fourth is first
    await pool.aclose()


async def test_connections_are_limited_and_waiting_requests_get_one():
    pool = connections()
    at_once, most, used = 0, 0, set()

    async def use():
        nonlocal at_once, most
        async with pool.one() as http:
            at_once += 1
            most = max(most, at_once)
            used.add(http)
            await asyncio.sleep(0)
            at_once -= 1

    await asyncio.gather(*(use() for _ in range(3 * CONNECTIONS)))
    assert most == len(used) == CONNECTIONS
    await pool.aclose()
    assert all(http.is_closed for http in used)


async def test_a_connection_comes_back_after_error_and_cancellation():
    pool = connections()

    async def fail(error):
        async with pool.one():
            raise error

    for error in (httpx.ReadError("x"), asyncio.CancelledError()):
        await asyncio.gather(fail(error), return_exceptions=True)
    async with pool.one() as http:
        assert (await http.get("/p")).json()["authorization"] == "Bearer sk_secret-4711"
    async with pool.one() as again:
        assert again is http
    await pool.aclose()
