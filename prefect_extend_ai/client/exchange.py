"""One call to the API and its requests: when the bytes of a request left, and the response."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from pydantic import SecretStr

from prefect_extend_ai.client.bodies import read_response
from prefect_extend_ai.client.connections import Connect, Connections
from prefect_extend_ai.client.network import settings_problem
from prefect_extend_ai.client.responses import ApiResponse, error_for
from prefect_extend_ai.errors import (
    ExtendAPIError,
    ExtendCachedResponseError,
    ExtendNetworkError,
    ExtendNotSentError,
    ExtendRateLimitError,
    ExtendTransportError,
    ExtendUnexpectedResponseError,
)
from prefect_extend_ai.runs import Moment

__all__ = ["AWAY", "Call", "JsonBody", "Reservation", "Wire"]

AWAY = "waiting for the response"
"""State of a call whose request may have taken effect."""
JSON_HEADERS = {"content-type": "application/json"}
NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
"""Errors of a request whose bytes never left."""

Params = Mapping[str, str | int]
Trace = Callable[[str, Mapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class JsonBody:
    """The body of a request. Not in the repr: it may hold document data, and an error reporter may show frames."""

    text: str = field(repr=False)


@dataclass(slots=True)
class Reservation:
    """A reserved turn of the rate limiter for a write.

    Attributes:
        connect: lends the connection that is kept for it.
        is_open: whether the turn is still to be taken.
    """

    connect: Connect = field(init=False)
    is_open: bool = True


@dataclass(slots=True)
class Call:
    """One call: a request and its retries. Times are the event loop's.

    Attributes:
        what: method and path.
        connect: lends it a connection.
        started: when it began.
        seconds: how long it may take.
        latest: the latest time at which a request of it may leave.
        before_send: called right before the bytes of a request leave.
        body: the body of its requests; None for none.
        reservation: its reserved turn. The shared rate limit was acquired with it, and the request is sent only once.
        doing: what it waits for, for messages.
        asked_to_wait: seconds to wait by the last response; None where it had no `Retry-After`.
        limited: the last 429, while no other request has left since.
        asked_at: when its last request left.
    """

    what: str
    connect: Connect
    started: float
    seconds: float
    latest: float = math.inf
    before_send: Callable[[], None] | None = None
    body: JsonBody | None = None
    reservation: Reservation | None = None
    doing: str = ""
    asked_to_wait: float | None = None
    limited: ExtendRateLimitError | None = None
    asked_at: Moment | None = None

    @property
    def ends(self) -> float:
        """Its deadline."""
        return self.started + self.seconds

    def leaves(self, now: Moment) -> None:
        """Its request leaves. From here on it may take effect, whatever the outcome of an earlier attempt."""
        if self.before_send is not None:
            self.before_send()
        self.doing, self.limited, self.asked_at = AWAY, None, now

    def tracer(self, now: Callable[[], Moment]) -> Trace:
        """A callback for httpcore's `trace` extension: it registers when the bytes of the request leave."""

        async def traced(event: str, info: Mapping[str, Any]) -> None:
            # Through a proxy, a CONNECT request for the tunnel goes first.
            if event.endswith(".send_request_headers.started") and info["request"].method != b"CONNECT":
                self.leaves(now())

        return traced


class Wire:
    """Sends single requests. No error it raises contains the key.

    Args:
        base_url, api_key, headers, connect_timeout, read_timeout, transport: see `Connections`.
        now: the current time.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr,
        headers: Mapping[str, str],
        *,
        connect_timeout: float,
        read_timeout: float,
        transport: httpx.AsyncBaseTransport | None,
        now: Callable[[], Moment],
    ) -> None:
        self._key = api_key
        self._names_workspace = "x-extend-workspace-id" in headers
        self._now = now
        self._connections = Connections(
            base_url,
            api_key,
            headers,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            transport=transport,
        )
        self.connect: Connect = self._connections.one
        self.kept = self._connections.kept
        self.aclose = self._connections.aclose

    async def exchange(self, call: Call, method: str, path: str, params: Params | None) -> ApiResponse:
        """Send one request and read its response.

        No exception of the HTTP stack leaves this method, a cancellation included: its frames hold the Authorization
        header, and an error reporter may show the local variables of frames.
        """
        failure: BaseException
        try:
            call.doing = "waiting for a connection"
            async with call.connect() as http:
                return await self._send(call, http, method, path, params)
        except asyncio.CancelledError:
            failure = asyncio.CancelledError()
        except ExtendNotSentError as error:
            failure = ExtendNotSentError(str(error))
        except ExtendUnexpectedResponseError as error:
            request_id = self._redacted(error.request_id or "") or None
            failure = ExtendUnexpectedResponseError(error.message, status=error.status, request_id=request_id)
        except Exception as error:  # noqa: BLE001  # lower layers sometimes leak their own exceptions through httpx
            failure = self._no_response(call, f"{method} {path}", error)
        raise failure

    def _no_response(self, call: Call, what: str, error: Exception) -> ExtendTransportError:
        problem = settings_problem(error, self._connections.url) if call.doing != AWAY else None
        kind: type[ExtendTransportError] = ExtendTransportError
        if problem is not None:
            kind = ExtendNetworkError
        elif not what.startswith("GET") and call.doing != AWAY and isinstance(error, NO_CONNECTION):
            kind = ExtendNotSentError
        said = self._redacted(problem or _why_no_response(error))
        return kind(f"{what} at {self._connections.host}: {said}")

    async def _send(
        self, call: Call, http: httpx.AsyncClient, method: str, path: str, params: Params | None
    ) -> ApiResponse:
        # A response is as old as its request. Until the bytes leave, use this earlier time.
        call.asked_at = self._now()
        extensions = {}
        if self._connections.traces:
            call.doing = "making a connection"
            extensions["trace"] = call.tracer(self._now)
        else:
            call.leaves(self._now())
        content, headers = (call.body.text, JSON_HEADERS) if call.body is not None else (None, None)
        request = http.build_request(
            method, path, params=params, content=content, headers=headers, extensions=extensions
        )
        streamed = await http.send(request, stream=True)
        if call.doing != AWAY:
            # No trace events from this HTTP stack: from now on, use the time before `http.send`.
            self._connections.traces, call.doing = False, AWAY
        try:
            response = await read_response(streamed, self._now().time)
        finally:
            await streamed.aclose()
        if response.status == 404:
            # It may come from a misrouting gateway: a repeated read uses another connection.
            await http.aclose()
        return replace(response, asked_at=call.asked_at.before(response.cached_seconds))

    def success(self, response: ApiResponse) -> ApiResponse:
        """A success, with the key redacted from its request id."""
        return replace(response, request_id=self._redacted(response.request_id or "") or None)

    def error(self, response: ApiResponse) -> ExtendAPIError:
        """The error for a response that is not a success."""
        return error_for(self._without_key(response), names_workspace=self._names_workspace)

    def unexpected_response(self, response: ApiResponse, problem: str) -> ExtendUnexpectedResponseError:
        """The error for a success with an unexpected body."""
        shown = self._without_key(response)
        return ExtendUnexpectedResponseError(
            self._redacted(problem), status=shown.status, request_id=shown.request_id, body=shown.text
        )

    def cached_response(self, response: ApiResponse) -> ExtendCachedResponseError:
        """The error for a response that was in a cache for too long."""
        kept = f"from a cache on the way, {response.cached_seconds:.0f} s old"
        return ExtendCachedResponseError(
            f"{kept}: look for a proxy that ignores `cache-control: no-cache`",
            status=response.status,
            request_id=self._redacted(response.request_id or "") or None,
        )

    def _without_key(self, response: ApiResponse) -> ApiResponse:
        """The response with the key redacted, in case a server or a proxy echoes it."""
        return replace(
            response,
            text=self._redacted(response.text),
            request_id=self._redacted(response.request_id or "") or None,
            location=self._redacted(response.location or "") or None,
        )

    def _redacted(self, text: str) -> str:
        return text.replace(self._key.get_secret_value(), "[key]")


def _why_no_response(error: Exception) -> str:
    """A plain description, with the detail of the HTTP stack where there is one."""
    match error:
        case httpx.ConnectTimeout():
            said = "could not connect in time: check the network and the base URL"
        case httpx.TimeoutException():
            said = "no response in time"
        case httpx.ConnectError() | httpx.ProxyError():
            said = "could not connect: check the network and the base URL"
        case _:
            said = "the connection was lost"
    detail = " ".join(str(error).split())
    return f"{said} ({type(error).__name__}{': ' if detail else ''}{detail})"
