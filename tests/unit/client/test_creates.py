"""A create is sent once: again only after a request that never left, or a 429."""

from __future__ import annotations

import json

import httpx
import pytest

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.client.exchange import Call, JsonBody
from prefect_extend_ai.errors import (
    ExtendAPIError,
    ExtendNotSentError,
    ExtendRateLimitError,
    ExtendRefusedError,
    ExtendServerError,
    ExtendTransportError,
    ExtendUnexpectedResponseError,
    SharedLimitError,
)
from support.scripted import Scripted

pytestmark = pytest.mark.usefixtures("no_back_off")

REQUEST = {"file": {"id": "file_1"}, "classifier": {"id": "cl_1", "version": "2.1"}, "metadata": {"owner": "Ünal"}}
DATE = {"date": "Mon, 23 Nov 2026 12:00:00 GMT"}
CREATED = httpx.Response(200, headers=DATE, json={"id": "clr_new", "object": "classify_run", "status": "PROCESSING"})


class Api(Scripted):
    """An Extend that says what a test gives it."""

    def client(self, **options):
        return ExtendClient(self.transport(key="sk_secret", **options))


class Tracing(httpx.AsyncHTTPTransport):
    """Like the real one, it tells when bytes leave: an error before that is one of a request that was never sent."""

    def __init__(self, api):
        super().__init__()
        self.api = api

    async def handle_async_request(self, request):
        return self.api(request)


async def test_a_create_says_what_is_to_be_done_and_returns_the_run():
    api = Api(CREATED)
    async with api.client() as client:
        run = await client.create_run(REQUEST, "classify")
    (request,) = api.requests
    assert (request.method, request.url.path) == ("POST", "/classify_runs")
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.content) == REQUEST
    assert (run.id, run.status) == ("clr_new", "PROCESSING")
    assert run.read_at is not None


@pytest.mark.parametrize(
    "unsent",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("late"),
        httpx.Response(429, headers={"retry-after": "0"}),
    ],
    ids=["refused connection", "no connection in time", "429"],
)
async def test_what_was_not_carried_out_is_sent_again(unsent):
    api = Api(unsent, unsent, CREATED)
    async with api.client(http_transport=Tracing(api)) as client:
        assert (await client.create_run(REQUEST)).id == "clr_new"
    assert len(api.requests) == 3


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (500, ExtendServerError),
        (502, ExtendServerError),
        (408, ExtendServerError),
        (httpx.Response(503, headers={"retry-after": "0"}), ExtendServerError),
        (400, ExtendRefusedError),
        (409, ExtendRefusedError),
        (302, ExtendUnexpectedResponseError),
        (httpx.Response(200, text=""), ExtendUnexpectedResponseError),
        (httpx.Response(200, text="<html>"), ExtendUnexpectedResponseError),
        (httpx.Response(200, json={"status": "PROCESSING"}), ExtendUnexpectedResponseError),
        (httpx.Response(200, json={"id": "exr_1", "object": "extract_run"}), ExtendUnexpectedResponseError),
        (httpx.ReadError("lost"), ExtendTransportError),
        (httpx.ReadTimeout("late"), ExtendTransportError),
        (httpx.WriteError("lost"), ExtendTransportError),
        (httpx.RemoteProtocolError("closed"), ExtendTransportError),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
async def test_what_may_have_been_carried_out_is_sent_once(response, error):
    api = Api(response, CREATED)
    async with api.client() as client:
        with pytest.raises(error) as raised:
            await client.create_run(REQUEST)
    assert len(api.requests) == 1
    assert not isinstance(raised.value, ExtendNotSentError | ExtendRateLimitError)
    assert "Ünal" not in str(raised.value)


async def test_a_create_that_is_withdrawn_never_leaves():
    def stopped():
        raise ExtendNotSentError("the sweep was stopped")

    api = Api(CREATED)
    async with api.client() as client:
        with pytest.raises(ExtendNotSentError, match="stopped"):
            await client.create_run(REQUEST, before_send=stopped)
    assert api.requests == []


async def test_an_unusable_shared_limit_means_no_create():
    async def permit():
        raise SharedLimitError("not there")

    api = Api(CREATED)
    async with api.client(permit=permit) as client:
        with pytest.raises(SharedLimitError):
            await client.create_run(REQUEST)
    assert api.requests == []


async def test_creates_have_a_pace_of_their_own():
    throttled = Api(httpx.Response(429, headers={"retry-after": "3600"}))
    async with throttled.client() as client:
        with pytest.raises(ExtendRateLimitError):
            await client.create_run(REQUEST)
        # Cancels are not slowed: theirs is another category, and this one is answered with its own 429.
        with pytest.raises(ExtendAPIError):
            await client.cancel_run("clr_1")
    assert [request.url.path for request in throttled.requests] == ["/classify_runs", "/classify_runs/clr_1/cancel"]


def test_what_is_sent_is_in_no_repr():
    body = JsonBody('{"metadata": {"owner": "secret"}}')
    assert "secret" not in repr(body)
    assert "secret" not in repr(Call("POST /classify_runs", None, 0, 1, body=body))
