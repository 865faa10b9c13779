"""Requests to Extend's API: paced, retried where that is safe, never redirected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TypeVar

import httpx
import stamina
from pydantic import SecretStr

from prefect_extend_ai.client.connections import Connect
from prefect_extend_ai.client.exchange import AWAY, Call, Reservation, Wire
from prefect_extend_ai.client.rate_limiter import Pace, TooLate
from prefect_extend_ai.client.responses import Answer
from prefect_extend_ai.errors import (
    ExtendError,
    ExtendNotSentError,
    ExtendOddAnswerError,
    ExtendRateLimitError,
    ExtendServerError,
    ExtendTransportError,
)
from prefect_extend_ai.runs import FRESH, Moment

__all__ = ["Transport"]

ATTEMPTS = 5
"""How often a read is sent at most, 429 aside."""

Params = Mapping[str, str | int]
T = TypeVar("T")


class Transport:
    """One account's connection to Extend's API.

    Reads and writes have a pace of their own, because the API counts them separately (vendor's page on rate
    limits). A 429 slows its whole category, as a 503 with `Retry-After` does.

    What is repeated: a 429 until the call's deadline, read or write, because the request was not carried out. A
    read also after 408, 5xx and a lost connection, up to five times with a jittered back-off of some ten seconds
    in all, or as long as `Retry-After` asks. A write after nothing else, because only a fresh read can tell what
    became of it; and a write that was reserved after nothing at all, because its check would be old by then.

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
        permit: awaited right before each request of any category, for a budget that is shared with others. What it
            raises ends the call, and nothing was sent.
        now: this moment; by `clock` and the machine's clock where it is not given.
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
        permit: Callable[[], Awaitable[None]] | None = None,
        now: Callable[[], Moment] | None = None,
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
        self._clock = clock
        self._permit = permit
        self.now = now or (lambda: Moment(clock(), time.time()))
        """This moment, by the clocks that tell how old an answer is."""
        self._reads = Pace(requests_per_second, clock=clock, sleep=sleep)
        self._writes = Pace(requests_per_second, clock=clock, sleep=sleep)
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

    async def get(self, path: str, params: Params | None = None, *, connect: Connect | None = None) -> Answer:
        """Read, over a connection that was reserved where one is given.

        Raises an ExtendAPIError for any answer but a success, ExtendTransportError for none.
        """
        call = self._call(f"GET {path}", connect)
        return await self._in_time(call, self._read(call, path, params))

    async def post(self, path: str) -> Answer:
        """Write, with no body.

        Raises as `get` does; after anything but a 429 and ExtendNotSentError the write may have taken effect.
        """
        call = self._call(f"POST {path}")
        return await self._in_time(call, self._once(call, self._writes, "POST", path))

    async def post_reserved(
        self, path: str, reservation: Reservation, *, within: float, before_send: Callable[[], None]
    ) -> Answer:
        """Write in a turn that was reserved, as `post` does but once: a 429 is raised too.

        Args:
            path: where to.
            reservation: the turn.
            within: seconds that the turn is good for. Raises ExtendRateLimitError where the API asks for a longer
                pause.
            before_send: called right before the bytes leave; what it raises ends the call, and nothing was sent.
        """
        call = self._call(f"POST {path}", reservation.connect)
        call.latest, call.before_send, call.reservation = call.started + within, before_send, reservation
        return await self._in_time(call, self._once(call, self._writes, "POST", path))

    @asynccontextmanager
    async def reserve(self, within: float) -> AsyncIterator[Reservation]:
        """A turn to write soon, and a connection for it and for the read before it.

        Raises ExtendNotSentError or ExtendRateLimitError where there is no turn within so many seconds.
        """
        call = self._call("a turn to write", seconds=within)
        await self._in_time(call, self._reserve(call))
        reservation = Reservation()
        try:
            async with self._wire.kept() as reservation.connect:
                yield reservation
        finally:
            self._release(reservation)

    def odd_answer(self, answer: Answer, problem: str) -> ExtendOddAnswerError:
        """The error for a success whose body is not what was asked for."""
        return self._wire.odd_answer(answer, problem)

    def _call(self, what: str, connect: Connect | None = None, seconds: float | None = None) -> Call:
        seconds = self._deadline if seconds is None else seconds
        return Call(what, connect or self._wire.connect, self._clock(), seconds)

    async def _in_time(self, call: Call, doing: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(call.seconds):
                return await doing
        except TimeoutError:
            pass  # and raise outside: what it came from leads into frames that hold the Authorization header
        raise self._too_late(call)

    def _release(self, reservation: Reservation) -> None:
        """Let the next begin in its place: the turn was taken, or is not wanted any more."""
        if reservation.is_open:
            reservation.is_open = False
            self._writes.release()

    async def _reserve(self, call: Call) -> None:
        call.doing = "waiting for a turn"
        try:
            await self._writes.reserve(call.ends)
        except TooLate:
            raise ExtendRateLimitError(f"Extend asks to wait beyond the {call.seconds:.0f} s that there are") from None
        if self._permit is None:
            return
        call.doing = "waiting for the shared rate limit"
        try:
            # Now and not right before the write: there may be a long line, and the read before it would grow old in it.
            await self._permit()
        except BaseException:
            self._writes.release()
            raise

    async def _read(self, call: Call, path: str, params: Params | None) -> Answer:
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

    async def _once(self, call: Call, pace: Pace, method: str, path: str, params: Params | None = None) -> Answer:
        """Send, and send again only while the answer is a 429 and the deadline allows."""
        while True:
            call.asked_to_wait = None
            wave = await self._turn(call, pace)
            try:
                answer = await self._wire.exchange(call, method, path, params)
            except ExtendNotSentError:
                pace.give_back()
                raise
            call.asked_to_wait = answer.retry_after
            if answer.status == 429 or (answer.status == 503 and answer.retry_after is not None):
                pace.slow_down(wave, answer.retry_after)
            elif answer.status < 500:
                pace.recovered(wave)
            if answer.status != 429 and answer.cached_seconds > FRESH:
                raise self._wire.cached_answer(answer)
            if answer.is_success:
                return self._wire.success(answer)
            error = self._wire.error(answer)
            if not isinstance(error, ExtendRateLimitError) or call.reservation is not None:
                raise error
            call.limited = error
            if self._clock() + (answer.retry_after or 0) >= call.ends:
                raise self._too_late(call)

    async def _turn(self, call: Call, pace: Pace) -> int:
        call.doing = "waiting for a turn"
        try:
            wave = await pace.turn(call.latest)
        except TooLate:
            raise ExtendRateLimitError("the pause that Extend asks for is longer than a check is good for") from None
        if call.reservation is not None:
            self._release(call.reservation)
        elif self._permit is not None:
            call.doing = "waiting for the shared rate limit"
            await self._permit()
        if self._clock() >= call.ends:
            raise self._too_late(call)
        return wave

    def _too_late(self, call: Call) -> ExtendError:
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
