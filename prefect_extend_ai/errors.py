"""Everything this package raises.

ExtendError
├── ExtendInputError            bad input, found before any request was sent (also a ValueError)
├── ExtendTransportError        no answer: connection, TLS, time-out
│   └── ExtendNotSentError          no answer, because the request was never sent
├── ExtendAPIError              an answer that is no success: status, code, message, request_id
│   ├── ExtendAuthError             401  the key is wrong, expired or revoked
│   ├── ExtendPermissionError       403  the key may not do this
│   ├── ExtendUsageBlockedError     402  no credits left
│   ├── ExtendNotFoundError         404  no such run, or it lives in another workspace or environment
│   ├── ExtendRefusedError          400, 409, 422 and any other 4xx
│   ├── ExtendRateLimitError        429  still over the limit when the call's deadline passed
│   ├── ExtendServerError           408, 5xx
│   └── ExtendOddAnswerError        not the JSON that was asked for: HTML, empty, a list, a redirect
│       └── ExtendCachedAnswerError     out of a cache on the way, too old to decide by
├── SharedLimitError            the rate limit that workers share could not be asked; nothing was sent
├── RecordError                 Prefect could not be written to or read from
│   └── RecordRefusedError          Prefect does not take this record as it is (too large); it may take others
└── SweepFailed                 a sweep ended with something a person must look at: .report
    └── SweepRefused                a guard refused the sweep; nothing was cancelled
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ExtendAPIError",
    "ExtendAuthError",
    "ExtendCachedAnswerError",
    "ExtendError",
    "ExtendInputError",
    "ExtendNotFoundError",
    "ExtendNotSentError",
    "ExtendOddAnswerError",
    "ExtendPermissionError",
    "ExtendRateLimitError",
    "ExtendRefusedError",
    "ExtendServerError",
    "ExtendTransportError",
    "ExtendUsageBlockedError",
    "RecordError",
    "RecordRefusedError",
    "SharedLimitError",
]

BODY_SHOWN = 200
"""How many characters of an unreadable body an error shows."""


class ExtendError(Exception):
    """The root: catch this to catch everything this package raises."""


class ExtendInputError(ExtendError, ValueError):
    """Bad input, found before any request was sent."""


class ExtendTransportError(ExtendError):
    """The request got no answer: it may or may not have reached Extend."""


class ExtendNotSentError(ExtendTransportError):
    """The request was never sent: its turn did not come in time, or it was not wanted any more."""


class ExtendAPIError(ExtendError):
    """Extend answered, and not with success.

    Attributes:
        status: the HTTP status; None where the answer was read without one.
        code: Extend's error code (`RATE_LIMIT_EXCEEDED`), None where the body had none.
        message: Extend's own words. The vendor documents them as unstable: show them, never branch on them.
        request_id: what Extend's support asks for, from the body or the `x-extend-request-id` header.
        retryable: Extend's own flag, None where the body had none.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        self.message = message
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retryable = retryable
        super().__init__(message)

    def __str__(self) -> str:
        facts = [f"HTTP {self.status}" if self.status else None, self.code, self.message or None]
        said = " ".join(fact for fact in facts if fact)
        return f"{said} (request {self.request_id})" if self.request_id else said


class ExtendAuthError(ExtendAPIError):
    """401: the key is wrong, expired or revoked."""


class ExtendPermissionError(ExtendAPIError):
    """403: the key may not do this."""


class ExtendUsageBlockedError(ExtendAPIError):
    """402: the account has no credits left."""


class ExtendNotFoundError(ExtendAPIError):
    """404: no such run, or it lives in another workspace or environment."""


class ExtendRefusedError(ExtendAPIError):
    """400, 409, 422 or another 4xx: Extend refused the request as it is."""


class ExtendRateLimitError(ExtendAPIError):
    """429: still over the limit when the call's deadline passed."""


class ExtendServerError(ExtendAPIError):
    """408 or 5xx: the request may or may not have taken effect."""


class ExtendOddAnswerError(ExtendAPIError):
    """An answer that is not the JSON that was asked for: HTML, empty, a list, a redirect.

    Attributes:
        body: the first characters of what came instead. The message shows them where they are no document.
    """

    def __init__(self, message: str, *, body: str = "", **keywords: Any) -> None:
        self.body = body[:BODY_SHOWN]
        super().__init__(message, **keywords)

    def __str__(self) -> str:
        # What a success holds may be somebody's document, unless it is a proxy's page for people.
        secret = self.status is not None and 200 <= self.status < 300 and not self.body.lstrip().startswith("<")
        return super().__str__() if secret or not self.body else f"{super().__str__()}; the body begins {self.body!r}"


class ExtendCachedAnswerError(ExtendOddAnswerError):
    """A response that a cache between us and Extend had kept for too long to decide by it."""


class SharedLimitError(ExtendError):
    """The rate limit that workers share is not there, not in force, or could not be asked: nothing was sent."""


class RecordError(ExtendError):
    """Prefect could not be written to or read from, so nothing more is cancelled: no record, no cancel."""


class RecordRefusedError(RecordError):
    """Prefect does not take this record as it is, however often it is sent: it is too large, say."""
