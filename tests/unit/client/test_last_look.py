"""The last check before a cancel comes after every wait and right before its bytes, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import httpx
import pytest
from pydantic import SecretStr

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.client.transport import Transport
from prefect_extend_ai.errors import ExtendNotSentError
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sweep.cancelling import cancel_one
from prefect_extend_ai.sweep.report import Outcome
from prefect_extend_ai.sweep.scan import Target
from prefect_extend_ai.sweep.stop import Stop

HOST = "extend.test"
BODY = b'{"id": "clr_1", "status": "PROCESSING"}'


class Server:
    """An Extend behind a proxy, over real sockets. Time goes on only where a test lets it.

    `leaps` says by how many seconds, at: connect (each time that a tunnel is asked for), handshake, head (before an
    response), body (between its two halves).
    """

    def __init__(self, certificate=None, *, keeps=True, **leaps):
        self.certificate, self.keeps, self.leaps = certificate, keeps, leaps
        self.time = 0.0
        self.requests = []
        self.connections = 0

    def leap(self, where):
        self.time += self.leaps.get(where, 0.0)

    async def serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            if self.certificate is not None:
                await reader.readuntil(b"\r\n\r\n")
                self.leap("connect")
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await writer.drain()
                self.leap("handshake")
                await writer.start_tls(self.certificate)
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head.split()[0].decode())
                self.leap("head")
                await self.response(writer)
                if not self.keeps:
                    break
        writer.close()

    async def response(self, writer):
        date = "date: Sun, 01 Mar 2026 12:00:00 GMT\r\n"
        kept = "" if self.keeps else "connection: close\r\n"
        writer.write(f"HTTP/1.1 200 OK\r\n{date}{kept}content-length: {len(BODY)}\r\n\r\n".encode() + BODY[:9])
        await writer.drain()
        self.leap("body")
        writer.write(BODY[9:])
        await writer.drain()

    @contextlib.asynccontextmanager
    async def client(self, monkeypatch):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        if self.certificate is not None:
            monkeypatch.setenv("HTTPS_PROXY", url)
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            url = f"https://{HOST}"
        transport = Transport(
            url, SecretStr("sk_test"), api_version="v", requests_per_second=1000, wall_clock=lambda: self.time
        )
        try:
            async with ExtendClient(transport) as client:
                yield client
        finally:
            server.close()


@pytest.fixture
def trusted(certificate, monkeypatch):
    """The server's side, while clients trust it."""
    context, path = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return context


async def cancelled(client, server):
    return await asyncio.wait_for(
        cancel_one(
            client,
            RunKind.CLASSIFY,
            Target("clr_1"),
            recheck=lambda *_: None,
            stop=Stop(),
            slot=contextlib.nullcontext(),
            confirm_seconds=0.2,
        ),
        20,
    )


@pytest.mark.parametrize(("where", "seconds"), [("head", 25), ("body", 25)])
async def test_a_response_that_is_held_back_is_as_old_as_its_request(where, seconds, monkeypatch):
    server = Server(**{where: seconds})
    async with server.client(monkeypatch) as client:
        run = await client.get_run("clr_1")
        assert run.asked_at.age(client.now()) == pytest.approx(seconds, abs=5)
        settled = await cancelled(client, server)
    assert (settled.cancellation.outcome, server.requests) == (Outcome.ERROR, ["GET"] * 4)


@pytest.mark.parametrize("where", ["connect", "handshake"])
async def test_a_check_is_not_older_for_what_its_connection_took(where, monkeypatch, trusted):
    server = Server(trusted, **{where: 25})
    async with server.client(monkeypatch) as client, client.reserve_cancel("clr_1") as reserved:
        run = await reserved.check()
        assert run.asked_at.age(client.now()) < 10
        await reserved.send(lambda: None, 10)
    assert (server.requests, server.connections) == (["GET", "POST"], 1)


@pytest.mark.parametrize("where", ["connect", "handshake"])
async def test_no_cancel_leaves_where_its_connection_took_too_long(where, monkeypatch, trusted):
    """The server keeps no connection: the cancel has to make another, behind a slow proxy."""
    server = Server(trusted, keeps=False, **{where: 25})
    async with server.client(monkeypatch) as client:
        settled = await cancelled(client, server)
    assert settled.cancellation.outcome is Outcome.ERROR
    assert "25 s old when its cancel could be sent" in settled.cancellation.reason
    assert server.requests == ["GET"] * 3
    assert server.connections == 6


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("proxied", [True, False])
async def test_the_last_look_is_right_before_the_bytes(keeps, proxied, monkeypatch, trusted):
    server = Server(trusted if proxied else None, keeps=keeps)
    looked = []

    def look():
        looked.append((list(server.requests), server.connections))

    async with server.client(monkeypatch) as client, client.reserve_cancel("clr_1") as reserved:
        await reserved.check()
        await reserved.send(look, 10)
    ((requests, connections),) = looked
    assert requests == ["GET"]
    # The connection is made first; without TLS, the server may see it only later.
    assert connections == (1 if keeps else 2) or not proxied
    assert server.requests == ["GET", "POST"]


async def test_what_the_last_look_stops_never_reaches_the_server(monkeypatch):
    server = Server()

    def look():
        raise ExtendNotSentError("not wanted any more")

    async with server.client(monkeypatch) as client:
        async with client.reserve_cancel("clr_1") as reserved:
            await reserved.check()
            with pytest.raises(ExtendNotSentError, match="not wanted any more"):
                await reserved.send(look, 10)
        # The connection that was made for it is closed, and another takes its place.
        assert (await client.get_run("clr_1")).id == "clr_1"
    assert server.requests == ["GET", "GET"]


async def test_a_cancel_that_finds_no_server_any_more_was_not_sent(monkeypatch):
    server = Server(keeps=False)
    async with server.client(monkeypatch) as client, client.reserve_cancel("clr_1") as reserved:
        await reserved.check()
        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", _refused)
        with pytest.raises(ExtendNotSentError, match="could not connect"):
            await reserved.send(lambda: None, 10)
    assert server.requests == ["GET"]


async def _refused(*_):
    raise httpx.ConnectError("refused")


async def test_an_http_stack_that_does_not_tell_is_asked_after_a_look(monkeypatch):
    """A release of it may name its events otherwise: a response then looks older than it is, and never younger."""
    server = Server(head=3)
    handle = httpx.AsyncHTTPTransport.handle_async_request

    async def silent(self, request):
        request.extensions = {name: value for name, value in request.extensions.items() if name != "trace"}
        return await handle(self, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", silent)
    looked = []
    async with server.client(monkeypatch) as client, client.reserve_cancel("clr_1") as reserved:
        run = await reserved.check()
        assert run.asked_at.age(client.now()) == 3
        await reserved.send(lambda: looked.append(list(server.requests)), 10)
    assert looked == [["GET"]]
