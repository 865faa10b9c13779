"""The body of a response, unpacked within bounds."""

from __future__ import annotations

import zlib
from datetime import datetime

import httpx

from prefect_extend_ai.client.responses import Answer
from prefect_extend_ai.errors import ExtendOddAnswerError

__all__ = ["LARGEST_BODY", "read_answer"]

LARGEST_BODY = 64 * 1024 * 1024
"""Bytes of a body that are read into memory, unpacked."""
UNPACKED_AT_ONCE = 256 * 1024
"""Bytes that are unpacked before the bound is looked at again."""


ERROR_SHOWN = 1000
"""Bytes of an error's body that are kept where it cannot be read whole: it is only shown."""


async def read_answer(response: httpx.Response, received_at: datetime) -> Answer:
    """Read a streamed response to its end. Raises ExtendOddAnswerError for a success that cannot be read whole.

    Args:
        response: the response, of which the head is there.
        received_at: the time here when that came.
    """
    body = _Body(response.headers.get("content-encoding", ""))
    # The raw stream, because httpx unpacks each part that arrives as a whole, and codings within codings.
    stream = response.stream
    if isinstance(stream, httpx.AsyncByteStream):
        async for part in stream:
            body.take(part)
            if body.problem:
                break
        else:
            body.end()
    # The body of an error is only shown, so it need not be sound.
    text = body.read[: ERROR_SHOWN if body.problem else LARGEST_BODY].decode(errors="replace")
    problem = body.problem
    if response.is_success and not problem:
        try:
            body.read.decode()
        except UnicodeDecodeError:
            problem = "a body that is not UTF-8"
    answer = Answer.of(response.status_code, response.headers, text, received_at)
    if response.is_success and problem:
        raise ExtendOddAnswerError(problem, status=answer.status, request_id=answer.request_id)
    return answer


class _Body:
    """A body that arrives in parts, unpacked within bounds: one coding is taken, the only one that was asked for.

    Attributes:
        read: what was unpacked.
        problem: why it is not read any further.
    """

    def __init__(self, coding: str) -> None:
        self.read = bytearray()
        self.problem = ""
        self._packed = 0
        named = [name for each in coding.lower().split(",") if (name := each.strip()) not in ("", "identity")]
        self._member = _gzip() if named in (["gzip"], ["x-gzip"]) else None
        self._is_whole = True
        if named and self._member is None:
            self.problem = f"a body packed as {', '.join(named)[:40]!r}, which was not asked for"

    def take(self, part: bytes) -> None:
        """The next part."""
        if self.problem:
            return
        self._packed += len(part)
        if self._member is None:
            self.read += part
        else:
            self._unpack(part)
        if max(len(self.read), self._packed) > LARGEST_BODY:
            self.problem = f"a body of more than {LARGEST_BODY // 1024**2} MB"

    def end(self) -> None:
        """There are no more parts."""
        if not self._is_whole:
            self.problem = self.problem or "a body that cannot be unpacked: it ends too early"

    def _unpack(self, part: bytes) -> None:
        """Unpack up to a little beyond the bound; gzip may have several members after one another."""
        more = bool(part)
        while more and len(self.read) <= LARGEST_BODY:
            if self._member is None or self._member.eof:
                self._member = _gzip()
            try:
                unpacked = self._member.decompress(part, UNPACKED_AT_ONCE)
            except zlib.error:
                self.problem = "a body that cannot be unpacked"
                return
            self.read += unpacked
            self._is_whole = self._member.eof
            part = self._member.unused_data if self._is_whole else self._member.unconsumed_tail
            # Where the bound was met exactly, some may be left inside although all input was taken.
            more = bool(part) or (not self._is_whole and len(unpacked) == UNPACKED_AT_ONCE)


def _gzip() -> zlib._Decompress:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)
