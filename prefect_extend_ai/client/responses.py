"""What an HTTP answer of Extend's API says: the run, or which error."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from prefect_extend_ai._json import parse_json
from prefect_extend_ai.client.clocks import earlier
from prefect_extend_ai.errors import (
    BODY_SHOWN,
    ExtendAPIError,
    ExtendAuthError,
    ExtendNotFoundError,
    ExtendOddAnswerError,
    ExtendPermissionError,
    ExtendRateLimitError,
    ExtendRefusedError,
    ExtendServerError,
    ExtendUsageBlockedError,
)
from prefect_extend_ai.runs import Moment

__all__ = ["Answer", "cached_seconds", "error_for", "http_date", "retry_after"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read to its end.

    Attributes:
        status: the HTTP status.
        text: the body. It is in no repr, because it may be people's data.
        date: Extend's own clock, from the `Date` header; None where there was none.
        received_at: the clock here when the response's head arrived.
        request_id: the `x-extend-request-id` header, which Extend's support asks for.
        retry_after: how many seconds the API asks to wait; None where it does not say.
        location: where a redirect points. In no repr, as nothing is that could repeat what was sent.
        cached_seconds: for how long a cache between us and the API had kept it (the `Age` header); 0 where none did.
        asked_at: when its request began to leave, less `cached_seconds`: it tells of no later state.
    """

    status: int
    text: str = field(default="", repr=False)
    date: datetime | None = None
    received_at: datetime | None = None
    request_id: str | None = field(default=None, repr=False)
    retry_after: float | None = None
    location: str | None = field(default=None, repr=False)
    cached_seconds: float = 0.0
    asked_at: Moment | None = None

    @property
    def is_success(self) -> bool:
        """Whether the status says so (2xx); the body may still be odd."""
        return 200 <= self.status < 300

    @property
    def read_at(self) -> datetime | None:
        """The time that runs are aged by: the earlier of both clocks, None where one of them is not known."""
        return earlier(self.date, self.received_at)

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], text: str, received_at: datetime | None = None) -> Answer:
        """Read the headers that matter. `headers` finds a name in any case, as httpx's do."""
        date = http_date(headers.get("date"))
        return cls(
            status,
            text,
            date,
            received_at,
            request_id=headers.get("x-extend-request-id"),
            retry_after=retry_after(headers.get("retry-after"), date),
            location=headers.get("location"),
            cached_seconds=cached_seconds(headers.get("age")),
        )


def http_date(value: str | None) -> datetime | None:
    """An HTTP date (`Sun, 06 Nov 1994 08:49:37 GMT`) as aware UTC; None for anything else."""
    try:
        moment = parsedate_to_datetime(value or "")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def retry_after(value: str | None, answered_at: datetime | None) -> float | None:
    """How many seconds a `Retry-After` header asks to wait, 0 or more; None where it says nothing readable.

    Whole and fractional seconds and HTTP dates. A date is measured from the answer's own `Date`, so that a
    wrong clock here does not matter, and without one from the clock here.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        seconds = float(text)
        return seconds if math.isfinite(seconds) else None
    moment = http_date(text)
    if moment is None:
        return None
    return max((moment - (answered_at or datetime.now(UTC))).total_seconds(), 0.0)


def cached_seconds(value: str | None) -> float:
    """What an `Age` header says, in seconds; the largest where it says several, 0 where it says nothing readable."""
    said = (each.strip() for each in (value or "").split(","))
    return max((float(each) for each in said if re.fullmatch(r"[0-9]+(\.[0-9]+)?", each)), default=0.0)


KINDS: dict[int, tuple[type[ExtendAPIError], str]] = {
    401: (ExtendAuthError, "check the API key: it may be wrong, expired or revoked, or of another region"),
    402: (ExtendUsageBlockedError, "the account has no credits left: add some in Extend's dashboard"),
    403: (ExtendPermissionError, "the API key may not do this: check its permissions and its workspace"),
    404: (ExtendNotFoundError, "it may be in another workspace, environment (test or production) or region"),
    408: (ExtendServerError, ""),
    429: (ExtendRateLimitError, "the plan's rate limit: lower requests_per_second"),
}
NEEDS_WORKSPACE = "an organization's API key also needs a workspace id in the credentials"


def error_for(answer: Answer, *, names_workspace: bool = True) -> ExtendAPIError:
    """The error that an answer is which is no success.

    Takes every shape of error body that Extend and what stands before it are known to send: flat, wrapped in
    `error`, `{"success": false, "error": "text"}`, plain text, HTML, nothing.

    Args:
        answer: the answer.
        names_workspace: whether the request named a workspace; where not, the message may suggest it.
    """
    status = answer.status
    if not 400 <= status < 1000:
        said = "redirects" if 300 <= status < 400 else "is no answer to this request"
        where = f" to {_host(answer.location)}, which was not followed: check the base URL" if answer.location else ""
        return ExtendOddAnswerError(said + where, status=status, request_id=answer.request_id, body=answer.text)
    kind, hint = KINDS.get(status, (ExtendServerError if status >= 500 else ExtendRefusedError, ""))
    hints = [hint] if hint else []
    body = _error_body(answer.text)
    said = _one_line(body.get("message")) or _phrase(status)
    # Nowhere is documented what a missing workspace is answered with.
    if not names_workspace and (status in (401, 403) or (status in (400, 422) and "workspace" in said.lower())):
        hints.append(NEEDS_WORKSPACE)
    retryable = body.get("retryable")
    return kind(
        "; ".join([said.rstrip("."), *hints]) if hints else said,
        status=status,
        code=_one_line(body.get("code")) or None,
        request_id=_one_line(body.get("requestId")) or answer.request_id,
        retryable=retryable if isinstance(retryable, bool) else None,
    )


def _error_body(text: str) -> dict[str, Any]:
    try:
        body = parse_json(text)
    except ValueError:
        return {"message": text}
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        return dict(body["error"])
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        return {**body, "message": body["error"]}
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return body
    return {**(body if isinstance(body, dict) else {}), "message": text}


def _one_line(value: object) -> str:
    """Foreign text as one printable line of bounded length; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    line = " ".join("".join(mark if mark.isprintable() else " " for mark in value[: 10 * BODY_SHOWN]).split())
    return line if len(line) <= BODY_SHOWN else line[: BODY_SHOWN - 1] + "…"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no message"


def _host(location: str) -> str:
    try:
        host = urlsplit(location).hostname
    except ValueError:
        host = "an address that cannot be read"
    return _one_line(host) or "another path of the same host"
