"""One call to the API, and one request of it: when its bytes left, and what came back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from pydantic import SecretStr

from prefect_extend_ai.client.bodies import read_answer
from prefect_extend_ai.client.connections import Connect, Connections
from prefect_extend_ai.client.responses import Answer, error_for
from prefect_extend_ai.errors import (
    ExtendAPIError,
    ExtendCachedAnswerError,
    ExtendNotSentError,
    ExtendOddAnswerError,
    ExtendRateLimitError,
    ExtendTransportError,
)
from prefect_extend_ai.runs import Moment

__all__ = ["AWAY", "Call", "Reservation", "Wire"]

AWAY = "waiting for the answer"
"""What a call does whose request may have taken effect."""
NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
"""Errors of a request that never left."""

Params = Mapping[str, str | int]
Trace = Callable[[str, Mapping[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class Reservation:
    """A turn to write.

    Attributes:
        connect: gives the connection that is kept for it.
        is_open: whether the turn was not taken yet.
    """

    connect: Connect = field(init=False)
    is_open: bool = True


@dataclass(slots=True)
class Call:
    """One call. Times are the clock's seconds.

    Attributes:
        what: method and path.
        connect: gives it a connection.
        started: when it began.
        seconds: how long it may take.
        latest: when its last request may leave at the latest.
        before_send: called right before the bytes of a request leave.
        reservation: the turn that was reserved for it: the shared rate limit was asked then, and it is sent once.
        doing: what it waits for.
        asked_to_wait: what the last answer asked for.
        limited: the last 429, while no other request has left since.
        asked_at: when its last request left.
    """

    what: str
    connect: Connect
    started: float
    seconds: float
    latest: float = math.inf
    before_send: Callable[[], None] | None = None
    reservation: Reservation | None = None
    doing: str = ""
    asked_to_wait: float | None = None
    limited: ExtendRateLimitError | None = None
    asked_at: Moment | None = None

    @property
    def ends(self) -> float:
        """When it is given up."""
        return self.started + self.seconds

    def leaves(self, now: Moment) -> None:
        """Its request leaves. From here on it may take effect, whatever became of the one before."""
        if self.before_send is not None:
            self.before_send()
        self.doing, self.limited, self.asked_at = AWAY, None, now

    def tracer(self, now: Callable[[], Moment]) -> Trace:
        """What httpcore calls on the way of a request (`trace` extension): notes when its own bytes leave."""

        async def traced(event: str, info: Mapping[str, Any]) -> None:
            # Through a proxy another request goes ahead, which asks for the tunnel.
            if event.endswith(".send_request_headers.started") and info["request"].method != b"CONNECT":
                self.leaves(now())

        return traced


class Wire:
    """One request, one answer. What it raises shows nothing of the key.

    Args:
        base_url, api_key, headers, connect_timeout, read_timeout, transport: see `Connections`.
        now: this moment.
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

    async def exchange(self, call: Call, method: str, path: str, params: Params | None) -> Answer:
        """One request, one answer.

        Nothing that the HTTP stack raises leaves here, a cancellation included: the frames that it came
        through hold the Authorization header, and an error reporter may show the locals of frames.
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
        except ExtendOddAnswerError as error:
            request_id = self._redacted(error.request_id or "") or None
            failure = ExtendOddAnswerError(error.message, status=error.status, request_id=request_id)
        except Exception as error:  # noqa: BLE001  # the layers below httpx leak errors of their own now and then
            said = f"{method} {path} at {self._connections.host}: {self._redacted(_why_no_answer(error))}"
            unsent = method != "GET" and call.doing != AWAY and isinstance(error, NO_CONNECTION)
            failure = (ExtendNotSentError if unsent else ExtendTransportError)(said)
        raise failure

    async def _send(self, call: Call, http: httpx.AsyncClient, method: str, path: str, params: Params | None) -> Answer:
        # An answer is as old as the moment when its request left: until that is known, this one, which lies before.
        call.asked_at = self._now()
        extensions = {}
        if self._connections.traces:
            call.doing = "making a connection"
            extensions["trace"] = call.tracer(self._now)
        else:
            call.leaves(self._now())
        response = await http.send(http.build_request(method, path, params=params, extensions=extensions), stream=True)
        if call.doing != AWAY:
            # An HTTP stack that does not tell: from now on we look before it is asked, not right before the bytes.
            self._connections.traces, call.doing = False, AWAY
        try:
            answer = await read_answer(response, self._now().time)
        finally:
            await response.aclose()
        if answer.status == 404:
            # It may come from a gateway that knows nothing of us: who asks again does so over another connection.
            await http.aclose()
        return replace(answer, asked_at=call.asked_at.before(answer.cached_seconds))

    def success(self, answer: Answer) -> Answer:
        """A success, with nothing of the key in its request id."""
        return replace(answer, request_id=self._redacted(answer.request_id or "") or None)

    def error(self, answer: Answer) -> ExtendAPIError:
        """The error that an answer is which is no success."""
        return error_for(self._without_key(answer), names_workspace=self._names_workspace)

    def odd_answer(self, answer: Answer, problem: str) -> ExtendOddAnswerError:
        """The error for a success whose body is not what was asked for."""
        shown = self._without_key(answer)
        return ExtendOddAnswerError(
            self._redacted(problem), status=shown.status, request_id=shown.request_id, body=shown.text
        )

    def cached_answer(self, answer: Answer) -> ExtendCachedAnswerError:
        """The error for what a cache had kept for too long."""
        kept = f"from a cache on the way, {answer.cached_seconds:.0f} s old"
        return ExtendCachedAnswerError(
            f"{kept}: look for a proxy that ignores `cache-control: no-cache`",
            status=answer.status,
            request_id=self._redacted(answer.request_id or "") or None,
        )

    def _without_key(self, answer: Answer) -> Answer:
        """What may be shown of an answer, in case a server or a proxy echoes the key."""
        return replace(
            answer,
            text=self._redacted(answer.text),
            request_id=self._redacted(answer.request_id or "") or None,
            location=self._redacted(answer.location or "") or None,
        )

    def _redacted(self, text: str) -> str:
        return text.replace(self._key.get_secret_value(), "[key]")


def _why_no_answer(error: Exception) -> str:
    """What a person would call it, with the HTTP stack's own words where they add something."""
    match error:
        case httpx.ConnectTimeout():
            said = "could not connect in time: check the network and the base URL"
        case httpx.TimeoutException():
            said = "no answer in time"
        case httpx.ConnectError() | httpx.ProxyError():
            said = "could not connect: check the network and the base URL"
        case _:
            said = "the connection was lost"
    detail = " ".join(str(error).split())
    return f"{said} ({type(error).__name__}{': ' if detail else ''}{detail})"
