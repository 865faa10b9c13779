"""An HTTP response of Extend's API: its headers that matter, and the error that it stands for."""

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
    ExtendPermissionError,
    ExtendRateLimitError,
    ExtendRefusedError,
    ExtendServerError,
    ExtendUnexpectedResponseError,
    ExtendUsageBlockedError,
)
from prefect_extend_ai.runs import Moment

__all__ = ["ApiResponse", "cached_seconds", "error_for", "http_date", "retry_after"]


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """One HTTP response, read completely.

    Attributes:
        status: the HTTP status.
        text: the body. Not in the repr: it may hold document data.
        date: Extend's own clock, from the `Date` header; None where there was none.
        received_at: the clock here when the response's head arrived.
        request_id: the `x-extend-request-id` header, which identifies the request to Extend's support.
        retry_after: seconds to wait, from `Retry-After`; None without that header.
        location: target of a redirect. Not in the repr: it may repeat what was sent.
        cached_seconds: seconds in a cache between here and the API (the `Age` header); 0 without one.
        asked_at: when its request began to leave, less `cached_seconds`: it shows no later state.
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
        """Whether the status is 2xx; the body may still be unexpected."""
        return 200 <= self.status < 300

    @property
    def read_at(self) -> datetime | None:
        """The time that the ages of runs are measured at: the earlier of both clocks, None where one is unknown."""
        return earlier(self.date, self.received_at)

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], text: str, received_at: datetime | None = None) -> ApiResponse:
        """Read the headers that matter. `headers` is case-insensitive, as httpx's are."""
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
    """Seconds to wait by a `Retry-After` header, 0 or more; None where it cannot be read.

    Whole and fractional seconds and HTTP dates. A date is measured from the response's own `Date`, so that a
    wrong local clock does not matter; without a `Date`, from the local clock.
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
    """Seconds by an `Age` header; the largest of several values, 0 where it cannot be read."""
    said = (each.strip() for each in (value or "").split(","))
    return max((float(each) for each in said if re.fullmatch(r"[0-9]+(\.[0-9]+)?", each)), default=0.0)


KINDS: dict[int, tuple[type[ExtendAPIError], str]] = {
    401: (ExtendAuthError, "check the API key: it may be wrong, expired or revoked, or of another region"),
    402: (ExtendUsageBlockedError, "the account has no credits left: add some in Extend's dashboard"),
    403: (ExtendPermissionError, "the API key lacks the permission: check its permissions and its workspace"),
    404: (ExtendNotFoundError, "it may be in another workspace, environment (test or production) or region"),
    408: (ExtendServerError, ""),
    429: (ExtendRateLimitError, "the plan's rate limit: lower requests_per_second"),
}
NEEDS_WORKSPACE = "an organization's API key also needs a workspace id in the credentials"


def error_for(response: ApiResponse, *, names_workspace: bool = True) -> ExtendAPIError:
    """The error for a response that is not a success.

    Reads every error body that Extend and the proxies before it are known to send: flat, wrapped in
    `error`, `{"success": false, "error": "text"}`, plain text, HTML, nothing.

    Args:
        response: the response.
        names_workspace: whether the request had a workspace id; where not, the message may suggest one.
    """
    status = response.status
    if not 400 <= status < 1000:
        said = "redirects" if 300 <= status < 400 else "is not a response to this request"
        where = (
            f" to {_host(response.location)}, which was not followed: check the base URL" if response.location else ""
        )
        return ExtendUnexpectedResponseError(
            said + where, status=status, request_id=response.request_id, body=response.text
        )
    kind, hint = KINDS.get(status, (ExtendServerError if status >= 500 else ExtendRefusedError, ""))
    hints = [hint] if hint else []
    body = _error_body(response.text)
    said = _one_line(body.get("message")) or _phrase(status)
    # The response to a missing workspace id is not documented.
    if not names_workspace and (status in (401, 403) or (status in (400, 422) and "workspace" in said.lower())):
        hints.append(NEEDS_WORKSPACE)
    retryable = body.get("retryable")
    return kind(
        "; ".join([said.rstrip("."), *hints]) if hints else said,
        status=status,
        code=_one_line(body.get("code")) or None,
        request_id=_one_line(body.get("requestId")) or response.request_id,
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
    """Untrusted text as one printable line of bounded length; empty for anything but text."""
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
