"""Requests to Extend's API: paced, retried where that is safe, never redirected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Protocol

import httpx
import stamina
from pydantic import SecretStr

from prefect_extend_ai.answers import Answer, error_for
from prefect_extend_ai.connections import Connections
from prefect_extend_ai.errors import (
    ExtendError,
    ExtendNotSentError,
    ExtendOddAnswerError,
    ExtendRateLimitError,
    ExtendServerError,
    ExtendTransportError,
)
from prefect_extend_ai.pacing import Pace

__all__ = ["Gate", "Transport"]

LARGEST_BODY = 64 * 1024 * 1024
"""Bytes of a body that are read into memory, unpacked."""
ATTEMPTS = 5
"""How often a read is sent at most, 429 aside."""
AWAY = "waiting for the answer"
"""What a call does whose request may have taken effect."""

Params = Mapping[str, str | int]


class Gate(Protocol):
    """What a request passes on its way out."""

    def leaving(self) -> None:
        """Called right before the request leaves; what this raises ends the call, and nothing was sent."""

    def back(self) -> None:
        """Called when its answer is there, whatever it says; never for a request that was lost."""


class _OpenGate:
    def leaving(self) -> None: ...
    def back(self) -> None: ...


OPEN = _OpenGate()


class Transport:
    """One account's connection to Extend's API.

    Reads and writes have a pace of their own, because the API counts them separately (vendor's page on rate
    limits). A 429 slows its whole category, as a 503 with `Retry-After` does.

    What is repeated: a 429 until the call's deadline, read or write, because the request was not carried out. A
    read also after 408, 5xx and a lost connection, up to five times with a jittered back-off of some ten seconds
    in all, or as long as `Retry-After` asks. A write after nothing else, because only a fresh read can tell what
    became of it.

    Where the key goes: to the host of `base_url` and nowhere else. No redirect is followed. Proxies named by the
    environment are used for https, where they see no more than the host's name, and not for plain http.

    Args:
        base_url: https, or http on this machine; may end in a path prefix.
        api_key: never in a repr, a log or an exception of ours.
        workspace_id: sent as `x-extend-workspace-id`.
        api_version: sent as `x-extend-api-version`.
        requests_per_second: the rate of each category.
        http_transport: stands in for the network in tests.
        connect_timeout: seconds to connect.
        read_timeout: seconds without a byte.
        deadline: seconds for a whole call, with its repeats and its waiting.
        clock: seconds, monotonic.
        sleep: waits so many seconds; for the paces.
        now: the time here, an aware datetime; runs are aged by the earlier of it and Extend's.
        permit: awaited right before each request of any category, for a budget that is shared with others. What it
            raises ends the call, and nothing was sent.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr,
        *,
        workspace_id: str | None = None,
        api_version: str,
        requests_per_second: float,
        http_transport: httpx.AsyncBaseTransport | None = None,
        connect_timeout: float = 10,
        read_timeout: float = 30,
        deadline: float = 120,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        permit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        headers = {
            "accept": "application/json",
            "user-agent": f"prefect-extend-ai/{version('prefect-extend-ai')}",
            "x-extend-api-version": api_version,
        }
        if workspace_id is not None:
            headers["x-extend-workspace-id"] = workspace_id
        self._key = api_key
        self._names_workspace = workspace_id is not None
        self._deadline = deadline
        self._clock = clock
        self._now = now
        self._permit = permit
        self._reads = Pace(requests_per_second, clock=clock, sleep=sleep)
        self._writes = Pace(requests_per_second, clock=clock, sleep=sleep)
        self._connections = Connections(
            base_url,
            api_key,
            headers,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            transport=http_transport,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connections.aclose()

    async def get(self, path: str, params: Params | None = None) -> Answer:
        """Read. Raises an ExtendAPIError for any answer but a success, ExtendTransportError for none."""
        call = self._call(f"GET {path}")
        return await self._in_time(call, self._read(call, path, params))

    async def post(self, path: str, gate: Gate | None = None) -> Answer:
        """Write, with no body, each time through `gate`.

        Raises as `get` does; after anything but a 429 and ExtendNotSentError the write may have taken effect.
        """
        call = self._call(f"POST {path}")
        return await self._in_time(call, self._once(call, self._writes, "POST", path, gate=gate or OPEN))

    def odd_answer(self, answer: Answer, problem: str) -> ExtendOddAnswerError:
        """The error for a success whose body is not what was asked for."""
        shown = self._without_key(answer)
        return ExtendOddAnswerError(
            self._redacted(problem), status=shown.status, request_id=shown.request_id, body=shown.text
        )

    def _call(self, what: str) -> _Call:
        return _Call(what, started=self._clock(), ends=self._clock() + self._deadline)

    async def _in_time(self, call: _Call, answering: Awaitable[Answer]) -> Answer:
        try:
            async with asyncio.timeout(self._deadline):
                return await answering
        except TimeoutError:
            pass  # and raise outside: what it came from leads into frames that hold the Authorization header
        raise self._too_late(call)

    async def _read(self, call: _Call, path: str, params: Params | None) -> Answer:
        def again(error: Exception) -> bool | float:
            late = self._clock() + (call.asked_to_wait or 0) >= call.ends
            if late or not isinstance(error, ExtendServerError | ExtendTransportError):
                return False
            return True if call.asked_to_wait is None else call.asked_to_wait

        async for attempt in stamina.retry_context(
            on=again, attempts=ATTEMPTS, timeout=None, wait_initial=0.5, wait_max=5, wait_jitter=1
        ):
            with attempt:
                return await self._once(call, self._reads, "GET", path, params)
        raise AssertionError("the last attempt returns or raises")  # pragma: no cover

    async def _once(
        self,
        call: _Call,
        pace: Pace,
        method: str,
        path: str,
        params: Params | None = None,
        *,
        gate: Gate = OPEN,
    ) -> Answer:
        """Send, and send again only while the answer is a 429 and the deadline allows."""
        while True:
            call.asked_to_wait = None
            call.doing = "waiting for a turn"
            wave = await pace.turn()
            if self._permit is not None:
                call.doing = "waiting for the shared rate limit"
                await self._permit()
            if self._clock() >= call.ends:
                raise self._too_late(call)
            call.doing = "waiting for a connection"
            try:
                answer = await self._exchange(call, method, path, params, gate)
            except ExtendNotSentError:
                pace.give_back()
                raise
            gate.back()
            call.asked_to_wait = answer.retry_after
            if answer.status == 429 or (answer.status == 503 and answer.retry_after is not None):
                pace.slow_down(wave, answer.retry_after)
            elif answer.status < 500:
                pace.recovered(wave)
            if answer.is_success:
                return replace(answer, request_id=self._redacted(answer.request_id or "") or None)
            error = error_for(self._without_key(answer), names_workspace=self._names_workspace)
            if not isinstance(error, ExtendRateLimitError):
                raise error
            call.limited = error
            if self._clock() + (answer.retry_after or 0) >= call.ends:
                raise self._too_late(call)

    async def _exchange(self, call: _Call, method: str, path: str, params: Params | None, gate: Gate) -> Answer:
        """One request, one answer.

        Nothing that the HTTP stack raises leaves here, a cancellation included: the frames that it came
        through hold the Authorization header, and an error reporter may show the locals of frames.
        """
        failure: BaseException
        try:
            async with self._connections.one() as http:
                gate.leaving()
                # From here on this request may take effect, whatever became of the one before.
                call.doing, call.limited = AWAY, None
                response = await http.send(http.build_request(method, path, params=params), stream=True)
                try:
                    return await _read_whole(response, self._now())
                finally:
                    await response.aclose()
        except asyncio.CancelledError:
            failure = asyncio.CancelledError()
        except ExtendNotSentError as error:
            failure = ExtendNotSentError(str(error))
        except ExtendOddAnswerError as error:
            request_id = self._redacted(error.request_id or "") or None
            failure = ExtendOddAnswerError(error.message, status=error.status, request_id=request_id)
        except Exception as error:  # noqa: BLE001  # the layers below httpx leak errors of their own now and then
            said = self._redacted(_why_no_answer(error))
            failure = ExtendTransportError(f"{method} {path} at {self._connections.host}: {said}")
        raise failure

    def _too_late(self, call: _Call) -> ExtendError:
        waited = f"gave up after {self._clock() - call.started:.0f} s"
        if call.limited is None:
            kind = ExtendTransportError if call.doing == AWAY else ExtendNotSentError
            return kind(f"{call.what}: {waited}, {call.doing}")
        asked = f" (Extend asks to wait {call.asked_to_wait:g} s)" if call.asked_to_wait else ""
        return ExtendRateLimitError(
            f"{call.limited.message}; {waited}{asked}",
            status=call.limited.status,
            code=call.limited.code,
            request_id=call.limited.request_id,
            retryable=call.limited.retryable,
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


@dataclass(slots=True)
class _Call:
    """What one call has gone through so far. Times are the clock's seconds."""

    what: str
    started: float
    ends: float
    doing: str = ""
    asked_to_wait: float | None = None
    limited: ExtendRateLimitError | None = None


async def _read_whole(response: httpx.Response, received_at: datetime) -> Answer:
    body = bytearray()
    problem = ""
    try:
        async for part in response.aiter_bytes():
            body += part
            if len(body) > LARGEST_BODY:
                problem = f"a body of more than {LARGEST_BODY // 1024**2} MB"
                break
    except httpx.DecodingError:
        problem = "a body that cannot be unpacked"
    # The body of an error is only shown, so it need not be sound.
    text = body[: LARGEST_BODY if not problem else 1000].decode(errors="replace")
    if response.is_success and not problem:
        try:
            body.decode()
        except UnicodeDecodeError:
            problem = "a body that is not UTF-8"
    answer = Answer.of(response.status_code, response.headers, text, received_at)
    if response.is_success and problem:
        raise ExtendOddAnswerError(problem, status=answer.status, request_id=answer.request_id)
    return answer


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
