"""Requests are paced, repeated only where that is safe, and never give the key away."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time as real_time
import traceback
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx
import pytest
import stamina
from pydantic import SecretStr

from prefect_extend_ai.client import bodies, connections
from prefect_extend_ai.client.transport import Transport
from prefect_extend_ai.errors import (
    ExtendAuthError,
    ExtendCachedResponseError,
    ExtendError,
    ExtendNotSentError,
    ExtendRateLimitError,
    ExtendRefusedError,
    ExtendServerError,
    ExtendTransportError,
    ExtendUnexpectedResponseError,
    SharedLimitError,
)
from support.scripted import Scripted

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("no_back_off")]

KEY = "sk_do-not-show-4711"


class Api(Scripted):
    """An Extend that says what a test gives it."""

    def transport(self, **options):
        return super().transport("https://api.example/prefix", KEY, **({"requests_per_second": 10} | options))


FINE = (200, {"date": "Mon, 23 Nov 2026 12:00:00 GMT", "x-extend-request-id": "req_1"}, b'{"cost": 1.50}')


DATE = datetime(2026, 11, 23, 12, tzinfo=UTC)


async def test_a_response_is_kept_to_the_letter_with_its_date():
    response = await Api(FINE).transport().get("/classify_runs/clr_1")
    assert (response.status, response.text, response.request_id) == (200, '{"cost": 1.50}', "req_1")
    assert response.date == DATE


@pytest.mark.parametrize("ours", [DATE - timedelta(hours=2), DATE, DATE + timedelta(hours=2)])
async def test_a_response_was_read_at_the_earlier_of_both_clocks(ours):
    response = await Api(FINE).transport(wall_clock=ours.timestamp).get("/classify_runs/clr_1")
    assert (response.date, response.received_at, response.read_at) == (DATE, ours, min(DATE, ours))
    undated = await Api((200, {"date": "soon"}, b"{}")).transport(wall_clock=ours.timestamp).get("/classify_runs/clr_1")
    assert (undated.date, undated.received_at, undated.read_at) == (None, ours, None)


async def test_a_body_that_trickles_makes_no_run_older():
    here = [DATE]

    class Trickle(httpx.AsyncByteStream):
        async def __aiter__(self):
            for part in (b"{", b"}"):
                here[0] += timedelta(minutes=20)
                yield part

    headers = {"date": "Mon, 23 Nov 2026 14:00:00 GMT"}
    transport = Api((200, headers, Trickle())).transport(wall_clock=lambda: here[0].timestamp())  # noqa: PLW0108
    response = await transport.get("/classify_runs/clr_1")
    assert (response.text, response.read_at) == ("{}", DATE)


async def test_each_request_names_client_version_and_workspace():
    api = Api(FINE)
    await api.transport(workspace_id="ws_1").get("/classify_runs", {"status": "PROCESSING", "nextPageToken": "a==:b="})
    (request,) = api.requests
    assert request.url.raw_path == b"/prefix/classify_runs?status=PROCESSING&nextPageToken=a%3D%3D%3Ab%3D"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["x-extend-api-version"] == "2026-02-09"
    assert request.headers["x-extend-workspace-id"] == "ws_1"
    assert request.headers["user-agent"].startswith("prefect-extend-ai/")
    assert request.headers["accept"] == "application/json"
    assert request.headers["accept-encoding"] == "gzip"


async def test_no_workspace_header_is_sent_where_none_is_set():
    api = Api(FINE)
    await api.transport().get("/classify_runs")
    assert "x-extend-workspace-id" not in api.requests[0].headers


async def test_a_write_has_no_body():
    api = Api(FINE)
    await api.transport().post("/classify_runs/clr_1/cancel")
    (request,) = api.requests
    assert (request.method, request.content, request.headers["content-length"]) == ("POST", b"", "0")
    assert "content-type" not in request.headers


async def test_a_quoted_path_is_sent_as_it_is():
    api = Api(FINE)
    await api.transport().get("/classify_runs/clr_%C3%A9%3A%2B")
    assert api.requests[0].url.raw_path == b"/prefix/classify_runs/clr_%C3%A9%3A%2B"


@pytest.mark.parametrize(
    "trouble",
    [408, 500, 502, 503, 504, httpx.ConnectError("x"), httpx.ReadTimeout("x"), httpx.RemoteProtocolError("x")],
)
async def test_a_read_is_repeated_after_a_transient_error(trouble):
    api = Api(trouble, trouble, FINE)
    assert (await api.transport().get("/classify_runs")).status == 200
    assert len(api.requests) == 3


@pytest.mark.parametrize(
    ("trouble", "error"), [(500, ExtendServerError), (httpx.ConnectError("x"), ExtendTransportError)]
)
async def test_a_read_is_not_repeated_for_ever(trouble, error):
    api = Api(trouble)
    with pytest.raises(error):
        await api.transport().get("/classify_runs")
    assert len(api.requests) == 5


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 422, 302])
async def test_a_read_is_not_repeated_where_that_would_change_nothing(status):
    api = Api(status)
    with pytest.raises(ExtendError):
        await api.transport().get("/classify_runs")
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (500, ExtendServerError),
        (408, ExtendServerError),
        ((503, {"retry-after": "0"}, b""), ExtendServerError),
        (httpx.ReadTimeout("x"), ExtendTransportError),
        (httpx.ConnectError("x"), ExtendTransportError),
        (409, ExtendRefusedError),
    ],
)
async def test_a_write_is_never_repeated_blindly(trouble, error):
    api = Api(trouble, FINE)
    with pytest.raises(error):
        await api.transport().post("/classify_runs/clr_1/cancel")
    assert len(api.requests) == 1


@pytest.mark.parametrize("method", ["get", "post"])
async def test_a_429_is_waited_out_for_as_long_as_the_api_asks(method):
    api = Api((429, {"retry-after": "2.5"}, b""), (429, {"retry-after": "4"}, b""), FINE)
    assert (await getattr(api.transport(), method)("/p")).status == 200
    assert api.times == pytest.approx([0, 2.5, 6.5])


@pytest.mark.parametrize("method", ["get", "post"])
async def test_a_429_that_lasts_ends_with_the_calls_deadline(method):
    api = Api((429, {}, b'{"code": "RATE_LIMIT_EXCEEDED", "message": "easy", "requestId": "req_7"}'))
    with pytest.raises(ExtendRateLimitError, match=r"easy.*gave up after \d+ s") as caught:
        await getattr(api.transport(deadline=60), method)("/p")
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (429, "RATE_LIMIT_EXCEEDED", "req_7")
    assert 3 < len(api.requests) < 20
    assert max(api.times) < 60


async def test_a_429_longer_than_the_deadline_ends_the_call_at_once():
    api = Api((429, {"retry-after": "3600"}, b""))
    with pytest.raises(ExtendRateLimitError, match="asks to wait 3600 s"):
        await api.transport().get("/p")
    assert api.now == 0


@pytest.mark.parametrize("response", [(429, {"retry-after": "5"}, b""), (503, {"retry-after": "5"}, b"")])
async def test_being_throttled_slows_every_call_of_the_category(response):
    api = Api(response, FINE)
    transport = api.transport()
    first = asyncio.create_task(transport.post("/first"))
    await asyncio.wait([first, asyncio.create_task(transport.post("/second"))])
    assert first.exception() is None or isinstance(first.exception(), ExtendServerError)
    assert api.times[0] == 0
    assert min(api.times[1:]) >= 5


async def test_throttled_writes_slow_no_read():
    api = Api((503, {"retry-after": "5"}, b""), FINE)
    transport = api.transport()
    with pytest.raises(ExtendServerError):
        await transport.post("/p")
    await transport.get("/p")
    assert api.times == [0, 0]


async def test_reads_and_writes_have_a_rate_each():
    api = Api(FINE)
    transport = api.transport(requests_per_second=2)
    for _ in range(4):
        await transport.get("/p")
    read = api.now
    await transport.post("/p")
    assert read >= 1.25
    assert api.now == read


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"retry-after": "0"}, [0, 0]),
        ({"retry-after": "1.5"}, [1.5, 1.5]),
        ({"retry-after": "20"}, [20, 20]),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:09 GMT", "date": "Mon, 23 Nov 2026 12:00:00 GMT"}, [9, 9]),
    ],
)
async def test_a_read_is_repeated_after_as_long_as_the_api_asks(headers, waits):
    slept = await _back_offs(Api((500, headers, b""), (500, headers, b""), FINE))
    assert slept == pytest.approx(waits, abs=0.2)


async def test_a_read_is_repeated_after_a_growing_back_off():
    first, second, third, fourth = await _back_offs(Api(500, httpx.ReadError("x"), 502, 408, FINE))
    assert 0.5 <= first <= 1.5
    assert 1 <= second <= 2
    assert 2 <= third <= 3
    assert 4 <= fourth <= 5


async def _back_offs(api):
    """The seconds between the attempts of a read."""
    stamina.set_testing(False)  # it does without back-offs
    assert (await api.transport().get("/p")).status == 200
    return [later - earlier for earlier, later in pairwise(api.times)]


async def test_a_503_is_repeated_after_as_long_as_it_asks():
    api = Api((503, {"retry-after": "7"}, b""), FINE)
    await api.transport().get("/p")
    assert api.times == pytest.approx([0, 7])


async def test_a_503_longer_than_the_deadline_ends_the_call_at_once():
    api = Api((503, {"retry-after": "3600"}, b""))
    with pytest.raises(ExtendServerError):
        await api.transport().get("/p")
    assert len(api.requests) == 1


async def test_a_call_that_waits_too_long_for_its_turn_sends_nothing():
    api = Api(FINE)
    transport = api.transport(requests_per_second=0.01, deadline=30)
    await transport.get("/p")
    with pytest.raises(ExtendNotSentError, match=r"GET /p: gave up after \d+ s, waiting for a turn"):
        await transport.get("/p")
    assert len(api.requests) == 1


class Look:
    """The check right before a write: lets a number of them leave."""

    def __init__(self, most=99):
        self.most, self.left = most, 0

    def __call__(self):
        if self.left == self.most:
            raise ExtendNotSentError("not wanted any more")
        self.left += 1


async def write(transport, look, *, within=10.0, read=False):
    async with transport.reserve(60) as turn:
        if read:
            await transport.get("/p", connect=turn.connect)
        return await transport.post_reserved("/p", turn, within=within, before_send=look)


async def test_a_reserved_write_is_looked_at_right_before_it_leaves():
    api, look = Api(FINE), Look(1)
    assert (await write(api.transport(), look)).status == 200
    assert (look.left, len(api.requests)) == (1, 1)


async def test_a_reserved_write_not_wanted_any_more_is_not_sent():
    api = Api(FINE)
    with pytest.raises(ExtendNotSentError, match="not wanted any more"):
        await write(api.transport(), Look(0))
    assert api.requests == []


async def test_a_reserved_write_is_sent_once_a_429_included():
    api = Api((429, {"retry-after": "7"}, b'{"message": "easy"}'), FINE)
    transport = api.transport()
    with pytest.raises(ExtendRateLimitError, match="easy") as caught:
        await write(transport, Look())
    assert (caught.value.status, len(api.requests)) == (429, 1)
    await write(transport, Look())
    assert api.times == pytest.approx([0, 7])


async def test_a_reserved_write_that_would_come_too_late_is_not_sent():
    api, look = Api((429, {"retry-after": "30"}, b""), FINE), Look()
    transport = api.transport()
    async with transport.reserve(60) as turn:
        with pytest.raises(ExtendRateLimitError):
            await write(transport, look)
        with pytest.raises(ExtendRateLimitError, match="longer than a check is valid") as caught:
            await transport.post_reserved("/p", turn, within=10, before_send=look)
    assert caught.value.status is None
    assert (look.left, len(api.requests), api.now) == (1, 1, 0)


async def test_no_turn_is_reserved_that_comes_too_late():
    api = Api((429, {"retry-after": "3600"}, b""), FINE)
    transport = api.transport()
    with pytest.raises(ExtendRateLimitError):
        await write(transport, Look())
    with pytest.raises(ExtendRateLimitError, match="asks to wait longer than the 60 s"):
        await write(transport, Look())
    assert (len(api.requests), api.now) == (1, 0)


async def test_a_read_and_its_write_go_over_one_connection(monkeypatch):
    monkeypatch.setattr(connections, "CONNECTIONS", 1)
    over = []
    send = httpx.AsyncClient.send

    async def recording(self, request, **options):
        over.append((request.method, self))
        return await send(self, request, **options)

    monkeypatch.setattr(httpx.AsyncClient, "send", recording)
    await asyncio.wait_for(write(Api(FINE).transport(), Look(), read=True), 5)
    (read, first), (wrote, second) = over
    assert (read, wrote) == ("GET", "POST")
    assert first is second


async def test_a_reserved_write_is_looked_at_once_it_is_connected(monkeypatch):
    """What was checked before it waited for one may be old by then."""
    monkeypatch.setattr(connections, "CONNECTIONS", 1)
    answered = asyncio.Event()

    async def slow(request):
        if request.method == "GET":
            await answered.wait()
        return httpx.Response(200, content=b"{}")

    api, look = Api(FINE), Look(1)
    transport = api.transport(http_transport=httpx.MockTransport(slow))
    reading = asyncio.create_task(transport.get("/p"))
    await asyncio.sleep(0.01)
    writing = asyncio.create_task(write(transport, look))
    await asyncio.sleep(0.01)
    assert look.left == 0
    answered.set()
    await asyncio.gather(reading, writing)
    assert look.left == 1


async def test_a_write_that_gets_no_connection_in_time_was_not_sent(monkeypatch):
    monkeypatch.setattr(connections, "CONNECTIONS", 0)
    look = Look()
    with pytest.raises(ExtendNotSentError, match="waiting for a connection"):
        await write(Api(FINE).transport(deadline=0.05), look)
    assert look.left == 0


async def test_a_reserved_turn_that_is_not_used_delays_no_other():
    api = Api(FINE)
    transport = api.transport(requests_per_second=0.01)
    async with transport.reserve(60) as turn:
        await transport.get("/p", connect=turn.connect)
    with pytest.raises(ExtendNotSentError):
        await write(transport, Look(0))
    await write(transport, Look(1))
    assert api.now < 1


async def test_a_response_is_as_old_as_its_request():
    api = Api(FINE)

    async def slow(request):
        await asyncio.sleep(25)
        return httpx.Response(200, content=b"{}")

    transport = api.transport(http_transport=httpx.MockTransport(slow), requests_per_second=0.1)
    await transport.get("/p")
    response = await transport.get("/p")
    assert response.asked_at.age(transport.now()) == pytest.approx(25, abs=1)


async def test_a_response_is_older_by_what_a_cache_had_kept_it():
    api = Api((200, {"age": "7"}, b"{}"))
    transport = api.transport()
    response = await transport.get("/p")
    assert response.asked_at.age(transport.now()) == pytest.approx(7, abs=1)


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize("age", ["11", "3000", "0, 3000", "10.5"])
async def test_what_a_cache_had_kept_for_long_is_not_a_response(age, status):
    api = Api((status, {"age": age, "x-extend-request-id": f"req_{KEY}"}, b'{"id": "clr_1"}'))
    with pytest.raises(ExtendCachedResponseError, match="from a cache on the way") as caught:
        await api.transport().get("/p")
    assert caught.value.status == status
    assert KEY not in f"{caught.value} {vars(caught.value)}"


@pytest.mark.parametrize("age", ["", "0", "9", "-5", "soon"])
async def test_an_age_header_that_cannot_be_read_is_ignored(age):
    assert (await Api((200, {"age": age}, b"{}")).transport().get("/p")).status == 200


async def test_no_cache_is_asked_for_a_response():
    api = Api(FINE)
    await api.transport().get("/p")
    assert api.requests[0].headers["cache-control"] == "no-cache"


async def test_after_a_404_another_connection_is_asked(monkeypatch):
    opened = []
    make = httpx.AsyncClient.__init__
    monkeypatch.setattr(
        httpx.AsyncClient, "__init__", lambda self, **options: (opened.append(self), make(self, **options))[1]
    )
    api = Api(404, FINE)
    transport = api.transport()
    for status in (404, 200):
        if status == 404:
            with pytest.raises(ExtendError):
                await transport.get("/p")
        else:
            await transport.get("/p")
    assert [each.is_closed for each in opened] == [True, False]
    await transport.aclose()
    assert all(each.is_closed for each in opened)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            httpx.ConnectTimeout(""),
            r"^POST /p at api\.example: could not connect in time: check the network.*\(ConnectTimeout\)$",
        ),
        (httpx.ConnectError("no such host"), r"could not connect: check the network.*\(ConnectError: no such host\)$"),
        (httpx.ReadTimeout(""), r"no response in time \(ReadTimeout\)$"),
        (httpx.ReadError(""), r"the connection was lost \(ReadError\)$"),
        (OSError("a layer below"), r"the connection was lost \(OSError: a layer below\)$"),
        (httpx.LocalProtocolError(f"bad header {KEY}"), r"bad header \[key\]"),
    ],
)
async def test_a_request_without_a_response_says_what_happened(raised, said):
    with pytest.raises(ExtendTransportError, match=said):
        await Api(raised).transport().post("/p")


async def test_a_redirect_is_not_followed():
    api = Api((302, {"location": "https://evil.example/x"}, b""))
    with pytest.raises(ExtendUnexpectedResponseError, match=r"evil\.example.*not followed"):
        await api.transport().post("/classify_runs/clr_1/cancel")
    assert [request.url.host for request in api.requests] == ["api.example"]


async def test_a_success_that_is_not_utf_8_is_an_unexpected_response():
    api = Api((200, {}, b'{"id": "\xff"}'))
    with pytest.raises(ExtendUnexpectedResponseError, match="HTTP 200 a body that is not UTF-8"):
        await api.transport().get("/p")


async def test_an_error_that_is_not_utf_8_is_that_error_all_the_same():
    with pytest.raises(ExtendAuthError, match="401"):
        await Api((401, {}, b"\xff\xfe")).transport().get("/p")


async def test_a_body_that_cannot_be_decompressed_is_unexpected():
    api = Api((200, {"content-encoding": "gzip"}, httpx.ByteStream(b"this is no gzip")))
    with pytest.raises(ExtendUnexpectedResponseError, match="cannot be decompressed"):
        await api.transport().get("/p")


@pytest.mark.parametrize("packed", [False, True])
async def test_a_body_too_large_for_memory_is_not_read_to_its_end(monkeypatch, packed):
    monkeypatch.setattr(bodies, "LARGEST_BODY", 1024**2)
    body = b" " * 2 * 1024**2
    headers = {"content-encoding": "gzip"} if packed else {}
    body = httpx.ByteStream(gzip.compress(body) if packed else body)
    with pytest.raises(ExtendUnexpectedResponseError, match="a body of more than 1 MB"):
        await Api((200, headers, body)).transport().get("/p")


@pytest.mark.parametrize(("base_url", "trusted"), [("https://api.example", True), ("http://127.0.0.1:9", False)])
async def test_a_proxy_of_the_environment_never_sees_a_key_in_clear(base_url, trusted, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:8080")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    made = Transport(base_url, SecretStr(KEY), api_version="v", requests_per_second=1)
    async with made._wire.connect() as http:
        used = http._transport_for_url(httpx.URL(base_url))
        assert (used is not http._transport) == trusted
    await made.aclose()


# What follows talks to a real socket, because only the real HTTP stack has the header in its frames.


async def _request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    return head[head.index(b"Bearer ") + 7 :].split(b"\r\n")[0]


def _http(status, body, *headers):
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


TROUBLES = {
    "closed at once": lambda _key: b"",
    "no HTTP": lambda key: b"what? " + key + b"\r\n\r\n",
    "cut in the body": lambda _key: _http(200, b"x" * 50)[:-20],
    "echoed by a 200": lambda key: _http(200, b"\xff" + key, f"x-extend-request-id: {key.decode()}"),
    "echoed by a 400": lambda key: _http(400, b'{"message": "bad ' + key + b'", "code": "' + key + b'"}'),
    "echoed by a 401": lambda key: _http(401, b"who is " + key + b"?", f"x-extend-request-id: {key.decode()}"),
    "echoed by a 429": lambda key: _http(429, b'{"error": "' + key + b'"}', "retry-after: 3600"),
    "echoed by a 500": lambda key: _http(500, b"<html>" + key),
    "echoed by a redirect": lambda key: _http(302, key, f"location: https://{key.decode()}.example/?{key.decode()}"),
    "not gzip": lambda key: _http(200, key, "content-encoding: gzip"),
    "no response": None,
}


@asynccontextmanager
async def a_server(response):
    async def serve(reader, writer):
        try:
            key = await _request(reader)
            if response is None:
                await asyncio.sleep(30)
            writer.write(response(key))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def everything_about(error):
    """The error, all it came from (hidden or not), and the locals of every frame on the way."""
    seen, waiting = [], [error]
    while waiting:
        current = waiting.pop()
        if current is not None and current not in seen:
            seen.append(current)
            waiting += [current.__cause__, current.__context__]
    shown = [traceback.TracebackException.from_exception(each, capture_locals=True).format() for each in seen]
    return "".join([*(line for lines in shown for line in lines), *(f"{each!r} {each} {vars(each)}" for each in seen)])


@pytest.mark.real_time
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_no_failure_shows_the_key(trouble, method, caplog):
    caplog.set_level(logging.DEBUG)
    async with a_server(TROUBLES[trouble]) as url:
        transport = Transport(
            url, SecretStr(KEY), api_version="v", requests_per_second=1000, read_timeout=0.2, deadline=20
        )
        with pytest.raises(ExtendError) as caught:
            await getattr(transport, method)("/classify_runs/clr_1")
        await transport.aclose()
    assert KEY not in everything_about(caught.value)
    ours = [record for record in caplog.records if not record.name.startswith("httpcore")]
    assert KEY not in "".join(record.getMessage() for record in ours)


@pytest.mark.real_time
async def test_no_deadline_shows_the_key():
    async with a_server(None) as url:
        transport = Transport(url, SecretStr(KEY), api_version="v", requests_per_second=1000, deadline=0.2)
        with pytest.raises(ExtendTransportError, match="gave up after 0 s, waiting for the response") as caught:
            await transport.get("/classify_runs/clr_1")
        await transport.aclose()
    assert KEY not in everything_about(caught.value)


@pytest.mark.real_time
async def test_no_lost_host_shows_the_key():
    async with a_server(None) as url:
        pass  # and nobody listens there any more
    transport = Transport(url, SecretStr(KEY), api_version="v", requests_per_second=1000)
    with pytest.raises(ExtendTransportError, match="could not connect: check the network and the base URL") as caught:
        await transport.post("/classify_runs/clr_1/cancel")
    await transport.aclose()
    assert KEY not in everything_about(caught.value)


@pytest.mark.real_time
async def test_a_cancelled_call_ends_at_once_without_the_key():
    async with a_server(None) as url:
        transport = Transport(url, SecretStr(KEY), api_version="v", requests_per_second=1000)
        call = asyncio.create_task(transport.get("/classify_runs/clr_1"))
        await asyncio.sleep(0.05)
        started = real_time.monotonic()
        call.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await call
        await transport.aclose()
    assert real_time.monotonic() - started < 5
    assert call.cancelled()
    assert KEY not in everything_about(caught.value)


@pytest.mark.real_time
async def test_the_search_for_the_key_would_find_it():
    """The proof that the tests above can fail: what httpx itself raises does show it."""
    async with a_server(None) as url, httpx.AsyncClient(timeout=0.2) as client:
        with pytest.raises(httpx.ReadTimeout) as caught:
            await client.get(url, headers={"authorization": f"Bearer {KEY}"})
    assert KEY in everything_about(caught.value)


async def test_a_shared_limit_is_asked_before_each_request_and_repeat():
    api, log = Api((429, {"retry-after": "0"}, b"{}"), FINE), []

    async def permit():
        log.append(len(api.requests))

    transport = api.transport(permit=permit)
    await transport.get("/classify_runs/clr_1")
    await transport.post("/classify_runs/clr_1/cancel")
    assert log == [0, 1, 2]


@pytest.mark.parametrize("method", ["get", "post"])
async def test_where_the_shared_budget_cannot_be_asked_nothing_is_sent(method):
    api, asked = Api(FINE), []

    async def permit():
        asked.append(True)
        raise SharedLimitError("not there")

    with pytest.raises(SharedLimitError, match="not there"):
        await getattr(api.transport(permit=permit), method)("/classify_runs/clr_1")
    assert (len(asked), api.requests) == (1, [])


async def test_a_reserved_write_asks_the_shared_budget_before_its_read():
    """There may be a long line: what was read before it would be old after it."""
    api, log = Api(FINE), []

    async def permit():
        log.append(len(api.requests))

    await write(api.transport(permit=permit), Look(), read=True)
    assert log == [0, 0]


async def test_a_reservation_the_shared_limit_refuses_delays_no_other():
    api, responses = Api(FINE), [SharedLimitError("not there"), None, None]

    async def permit():
        if (response := responses.pop(0)) is not None:
            raise response

    transport = api.transport(permit=permit, requests_per_second=0.01)
    with pytest.raises(SharedLimitError):
        await write(transport, Look())
    await write(transport, Look())
    assert (api.now, len(api.requests)) == (0, 1)
