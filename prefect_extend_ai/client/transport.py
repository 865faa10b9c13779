"""Requests to Extend's API: rate-limited, retried where that is safe, never redirected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import TypeVar

import httpx
from pydantic import SecretStr

from prefect_extend_ai.client.connections import Connect
from prefect_extend_ai.client.exchange import AWAY, Call, JsonBody, Reservation, Wire
from prefect_extend_ai.client.rate_limiter import RateLimiter, TooLate
from prefect_extend_ai.client.responses import ApiResponse
from prefect_extend_ai.client.retries import with_retries
from prefect_extend_ai.errors import (
    ExtendError,
    ExtendNetworkError,
    ExtendNotSentError,
    ExtendRateLimitError,
    ExtendServerError,
    ExtendTransportError,
    ExtendUnexpectedResponseError,
)
from prefect_extend_ai.runs import FRESH, Moment, loop_time

__all__ = ["Transport"]

Params = Mapping[str, str | int]
T = TypeVar("T")


class Transport:
    """One account's connection to Extend's API.

    Reads, writes and creates have separate rate limiters, because the API counts them separately (vendor's page on
    rate limits: GET, WRITE, RUN). A 429, or a 503 with `Retry-After`, slows its whole category.

    Retries: after a 429, a read or a write is retried until the call's deadline, because the request was not carried
    out. A read is also retried after 408, 5xx and a lost connection: up to five attempts with a jittered back-off of
    about ten seconds in all, or as long as `Retry-After` says. A write is not retried otherwise, because only a fresh
    read can show its outcome; and a reserved write is never retried, because its check would be too old. A create is
    also retried when its request never left.

    The key is sent to the host of `base_url` and nowhere else. No redirect is followed. Proxies from the environment
    are used for https, where they see only the host's name, and not for plain http.

    Args:
        base_url: https, or http on this machine; may end in a path prefix.
        api_key: never in a repr, a log or an exception of this package.
        workspace_id: sent as `x-extend-workspace-id`.
        api_version: sent as `x-extend-api-version`.
        requests_per_second: the rate of each category.
        http_transport: replaces the network in tests.
        connect_timeout: in seconds.
        read_timeout: seconds without a byte.
        deadline: seconds for a whole call, with its retries and waits.
        permit: awaited before each request, for a rate limit shared with other workers. An exception from it ends the
            call, and nothing was sent.
        wall_clock: seconds since 1970. All waits go by the event loop's clock, which stops while a machine sleeps; this
            one shows that it slept. A parameter, because a test in virtual time needs both to tell one story.
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
        permit: Callable[[], Awaitable[None]] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        headers = {
            "accept": "application/json",
            "accept-encoding": "gzip",
            "cache-control": "no-cache",
            "user-agent": f"prefect-extend-ai/{version('prefect-extend-ai')}",
            "x-extend-api-version": api_version,
        }
        if workspace_id is not None:
            headers["x-extend-workspace-id"] = workspace_id
        self._deadline = deadline
        self._permit = permit
        self._wall_clock = wall_clock
        self._reads = RateLimiter(requests_per_second)
        self._writes = RateLimiter(requests_per_second)
        self._creates = RateLimiter(requests_per_second)
        self._wire = Wire(
            base_url,
            api_key,
            headers,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            transport=http_transport,
            now=self.now,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.aclose()

    def now(self) -> Moment:
        """The current time, by the clocks that the age of a response is measured with."""
        return Moment(loop_time(), self._wall_clock())

    async def get(self, path: str, params: Params | None = None, *, connect: Connect | None = None) -> ApiResponse:
        """Send a GET, over a reserved connection where one is given.

        Raises an ExtendAPIError for any response but a success, ExtendTransportError without a response.
        """
        call = self._call(f"GET {path}", connect)
        return await self._in_time(call, self._read(call, path, params))

    async def post(self, path: str) -> ApiResponse:
        """Send a POST without a body.

        Raises as `get` does. After any error but a 429 and ExtendNotSentError the write may have taken effect.
        """
        call = self._call(f"POST {path}")
        return await self._in_time(call, self._once(call, self._writes, "POST", path))

    async def create(self, path: str, body: JsonBody, *, before_send: Callable[[], None]) -> ApiResponse:
        """Send a POST that starts a run.

        Sent again only after a 429 and after a request that never left. Raises as `get` does; ExtendNotSentError,
        ExtendRateLimitError and SharedLimitError say that nothing was created.

        Args:
            path: the path of the request.
            body: the body of the request.
            before_send: called right before the bytes leave; an exception from it ends the call, and nothing was sent.
        """
        call = self._call(f"POST {path}")
        call.body, call.before_send = body, before_send
        return await self._in_time(call, self._create(call, path, before_send))

    async def post_reserved(
        self, path: str, reservation: Reservation, *, within: float, before_send: Callable[[], None]
    ) -> ApiResponse:
        """Send a POST in a reserved turn, once: a 429 is raised too.

        Args:
            path: the path of the request.
            reservation: the reserved turn.
            within: seconds until the request must have left. Raises ExtendRateLimitError where the API asks for a
                longer pause.
            before_send: called right before the bytes leave; an exception from it ends the call, and nothing was sent.
        """
        call = self._call(f"POST {path}", reservation.connect)
        call.latest, call.before_send, call.reservation = call.started + within, before_send, reservation
        return await self._in_time(call, self._once(call, self._writes, "POST", path))

    @asynccontextmanager
    async def reserve(self, within: float) -> AsyncIterator[Reservation]:
        """Reserve a turn for a write, and a connection for it and for the read before it.

        Raises ExtendNotSentError or ExtendRateLimitError where the turn does not come within `within` seconds.
        """
        call = self._call("a turn to write", seconds=within)
        await self._in_time(call, self._reserve(call))
        reservation = Reservation()
        try:
            async with self._wire.kept() as reservation.connect:
                yield reservation
        finally:
            self._release(reservation)

    def unexpected_response(self, response: ApiResponse, problem: str) -> ExtendUnexpectedResponseError:
        """The error for a success with an unexpected body."""
        return self._wire.unexpected_response(response, problem)

    def _call(self, what: str, connect: Connect | None = None, seconds: float | None = None) -> Call:
        seconds = self._deadline if seconds is None else seconds
        return Call(what, connect or self._wire.connect, loop_time(), seconds)

    async def _in_time(self, call: Call, doing: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(call.seconds):
                return await doing
        except TimeoutError:
            pass  # raise outside: the context would lead to frames that hold the Authorization header
        raise self._too_late(call)

    def _release(self, reservation: Reservation) -> None:
        """End a reservation: the turn was taken or is not needed."""
        if reservation.is_open:
            reservation.is_open = False
            self._writes.end_reservation()

    async def _reserve(self, call: Call) -> None:
        call.doing = "waiting for a turn"
        try:
            await self._writes.reserve(call.ends)
        except TooLate:
            raise ExtendRateLimitError(
                f"Extend asks to wait longer than the {call.seconds:.0f} s that are left"
            ) from None
        if self._permit is None:
            return
        call.doing = "waiting for the shared rate limit"
        try:
            # Now and not right before the write: the queue may be long, and the check would get too old in it.
            await self._permit()
        except BaseException:
            self._writes.end_reservation()
            raise

    async def _create(self, call: Call, path: str, before_send: Callable[[], None]) -> ApiResponse:
        def retry(error: Exception) -> bool:
            if isinstance(error, ExtendNotSentError) and not isinstance(error, ExtendNetworkError):
                with suppress(ExtendNotSentError):  # a request that was withdrawn never left either
                    before_send()
                    return True
            return False

        return await with_retries(retry, lambda: self._once(call, self._creates, "POST", path))

    async def _read(self, call: Call, path: str, params: Params | None) -> ApiResponse:
        def retry(error: Exception) -> bool | float:
            late = loop_time() + (call.asked_to_wait or 0) >= call.ends
            if late or isinstance(error, ExtendNetworkError):
                return False
            if not isinstance(error, ExtendServerError | ExtendTransportError):
                return False
            return True if call.asked_to_wait is None else call.asked_to_wait

        return await with_retries(retry, lambda: self._once(call, self._reads, "GET", path, params))

    async def _once(
        self, call: Call, limiter: RateLimiter, method: str, path: str, params: Params | None = None
    ) -> ApiResponse:
        """Send, and retry only after a 429 while the deadline allows."""
        while True:
            call.asked_to_wait = None
            epoch = await self._turn(call, limiter)
            try:
                response = await self._wire.exchange(call, method, path, params)
            except ExtendNotSentError:
                limiter.release()
                raise
            call.asked_to_wait = response.retry_after
            if response.status == 429 or (response.status == 503 and response.retry_after is not None):
                limiter.on_throttled(epoch, response.retry_after)
            elif response.status < 500:
                limiter.on_success(epoch)
            if response.status != 429 and response.cached_seconds > FRESH:
                raise self._wire.cached_response(response)
            if response.is_success:
                return self._wire.success(response)
            error = self._wire.error(response)
            if not isinstance(error, ExtendRateLimitError) or call.reservation is not None:
                raise error
            call.limited = error
            if loop_time() + (response.retry_after or 0) >= call.ends:
                raise self._too_late(call)

    async def _turn(self, call: Call, limiter: RateLimiter) -> int:
        call.doing = "waiting for a turn"
        try:
            epoch = await limiter.acquire(call.latest)
        except TooLate:
            raise ExtendRateLimitError("the pause that Extend asks for is longer than a check is valid") from None
        if call.reservation is not None:
            self._release(call.reservation)
        elif self._permit is not None:
            call.doing = "waiting for the shared rate limit"
            await self._permit()
        if loop_time() >= call.ends:
            raise self._too_late(call)
        return epoch

    def _too_late(self, call: Call) -> ExtendError:
        waited = f"gave up after {loop_time() - call.started:.0f} s"
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
