"""Reading and decompressing the body of a response, with a size limit."""

from __future__ import annotations

import zlib
from datetime import datetime

import httpx

from prefect_extend_ai.client.responses import ApiResponse
from prefect_extend_ai.errors import ExtendUnexpectedResponseError

__all__ = ["LARGEST_BODY", "read_response"]

LARGEST_BODY = 64 * 1024 * 1024
"""Bytes of a decompressed body that are read into memory."""
DECOMPRESSED_AT_ONCE = 256 * 1024
"""Bytes that are decompressed between two checks of the limit."""


ERROR_SHOWN = 1000
"""Bytes kept of an error's body that cannot be read completely: it is only shown."""


async def read_response(http: httpx.Response, received_at: datetime) -> ApiResponse:
    """Read a streamed response completely. Raises ExtendUnexpectedResponseError for a success that cannot be read.

    Args:
        http: the response; its head has arrived.
        received_at: the local time when the head arrived.
    """
    body = _Body(http.headers.get("content-encoding", ""))
    # The raw stream, because httpx decompresses each chunk without a limit, and nested encodings too.
    stream = http.stream
    if isinstance(stream, httpx.AsyncByteStream):
        async for part in stream:
            body.take(part)
            if body.problem:
                break
        else:
            body.end()
    # The body of an error is only shown, so it may be broken.
    text = body.read[: ERROR_SHOWN if body.problem else LARGEST_BODY].decode(errors="replace")
    problem = body.problem
    if http.is_success and not problem:
        try:
            body.read.decode()
        except UnicodeDecodeError:
            problem = "a body that is not UTF-8"
    response = ApiResponse.of(http.status_code, http.headers, text, received_at)
    if http.is_success and problem:
        raise ExtendUnexpectedResponseError(problem, status=response.status, request_id=response.request_id)
    return response


class _Body:
    """A body that arrives in parts, decompressed up to a limit. Only gzip, which was requested, is accepted.

    Attributes:
        read: the decompressed bytes.
        problem: why reading stopped; empty where nothing is wrong.
    """

    def __init__(self, coding: str) -> None:
        self.read = bytearray()
        self.problem = ""
        self._received = 0
        named = [name for each in coding.lower().split(",") if (name := each.strip()) not in ("", "identity")]
        self._member = _gzip() if named in (["gzip"], ["x-gzip"]) else None
        self._is_whole = True
        if named and self._member is None:
            self.problem = f"a body encoded as {', '.join(named)[:40]!r}, which was not requested"

    def take(self, part: bytes) -> None:
        """The next part."""
        if self.problem:
            return
        self._received += len(part)
        if self._member is None:
            self.read += part
        else:
            self._decompress(part)
        if max(len(self.read), self._received) > LARGEST_BODY:
            self.problem = f"a body of more than {LARGEST_BODY // 1024**2} MB"

    def end(self) -> None:
        """There are no more parts."""
        if not self._is_whole:
            self.problem = self.problem or "a body that cannot be decompressed: it ends too early"

    def _decompress(self, part: bytes) -> None:
        """Decompress up to just over the limit; gzip may consist of several members."""
        more = bool(part)
        while more and len(self.read) <= LARGEST_BODY:
            if self._member is None or self._member.eof:
                self._member = _gzip()
            try:
                decompressed = self._member.decompress(part, DECOMPRESSED_AT_ONCE)
            except zlib.error:
                self.problem = "a body that cannot be decompressed"
                return
            self.read += decompressed
            self._is_whole = self._member.eof
            part = self._member.unused_data if self._is_whole else self._member.unconsumed_tail
            # At exactly the limit, output may be left inside although all input was consumed.
            more = bool(part) or (not self._is_whole and len(decompressed) == DECOMPRESSED_AT_ONCE)


def _gzip() -> zlib._Decompress:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)
