"""Everything this package raises.

ExtendError
├── ExtendInputError                    invalid input, found before any request was sent (also a ValueError)
├── ExtendTransportError                no response: connection, TLS, timeout
│   └── ExtendNotSentError                  the request was never sent
│       └── ExtendNetworkError                  this machine's network settings let none out: proxy, certificates
├── ExtendAPIError                      an error response: status, code, message, request_id
│   ├── ExtendAccountError                  refused because of the account or its key
│   │   ├── ExtendAuthError                     401  the key is wrong, expired or revoked
│   │   ├── ExtendPermissionError               403  the key lacks the permission
│   │   └── ExtendUsageBlockedError             402  no credits left
│   ├── ExtendNotFoundError                 404  no such run, or it is in another workspace or environment
│   ├── ExtendRefusedError                  400, 409, 422 and any other 4xx
│   ├── ExtendRateLimitError                429  still over the limit at the call's deadline
│   ├── ExtendServerError                   408, 5xx
│   └── ExtendUnexpectedResponseError       not the JSON that was requested: HTML, empty, a list, a redirect
│       └── ExtendCachedResponseError           from a cache on the way, too old for a decision
├── ExtendTimeoutError                  a run did not end in time: run_id, outcome (also a TimeoutError)
├── SharedLimitError                    the rate limit that workers share is unavailable; nothing was sent
├── RecordError                         Prefect could not be written to or read from
│   └── RecordRefusedError                  Prefect rejects this record (too large, say); it may accept others
└── SweepFailed                         a sweep ended with something a person must look at: .report
    └── SweepRefused                        a guard refused the sweep; nothing was cancelled
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ExtendAPIError",
    "ExtendAccountError",
    "ExtendAuthError",
    "ExtendCachedResponseError",
    "ExtendError",
    "ExtendInputError",
    "ExtendNetworkError",
    "ExtendNotFoundError",
    "ExtendNotSentError",
    "ExtendPermissionError",
    "ExtendRateLimitError",
    "ExtendRefusedError",
    "ExtendServerError",
    "ExtendTimeoutError",
    "ExtendTransportError",
    "ExtendUnexpectedResponseError",
    "ExtendUsageBlockedError",
    "RecordError",
    "RecordRefusedError",
    "SharedLimitError",
]

BODY_SHOWN = 200
"""Characters of an unreadable body that an error shows."""


class ExtendError(Exception):
    """The root: catch it to catch every error of this package."""


class ExtendInputError(ExtendError, ValueError):
    """Invalid input, found before any request was sent."""


class ExtendTransportError(ExtendError):
    """No response arrived: the request may or may not have reached Extend."""


class ExtendNotSentError(ExtendTransportError):
    """The request was never sent: the rate limit allowed none in time, or it was withdrawn."""


class ExtendNetworkError(ExtendNotSentError):
    """This machine's network settings let no request out, and a retry would not help. The message names the variable.

    A missing or unreadable authority (SSL_CERT_FILE), a SOCKS proxy without its package, a proxy whose name cannot be
    resolved, an invalid NO_PROXY.
    """


class ExtendAPIError(ExtendError):
    """An error response.

    Attributes:
        status: the HTTP status; None where a response was read without one.
        code: Extend's error code (`RATE_LIMIT_EXCEEDED`), None where the body had none.
        message: Extend's own text. The vendor documents it as unstable: show it, never branch on it.
        request_id: identifies the request to Extend's support; from the body or the `x-extend-request-id` header.
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


class ExtendAccountError(ExtendAPIError):
    """401, 402 or 403: refused because of the account or its key, not because of the run."""


class ExtendAuthError(ExtendAccountError):
    """401: the key is wrong, expired or revoked."""


class ExtendPermissionError(ExtendAccountError):
    """403: the key lacks the permission."""


class ExtendUsageBlockedError(ExtendAccountError):
    """402: the account has no credits left."""


class ExtendNotFoundError(ExtendAPIError):
    """404: no such run, or it is in another workspace or environment."""


class ExtendRefusedError(ExtendAPIError):
    """400, 409, 422 or another 4xx: Extend refused the request."""


class ExtendRateLimitError(ExtendAPIError):
    """429: still over the limit at the call's deadline."""


class ExtendServerError(ExtendAPIError):
    """408 or 5xx: the request may or may not have taken effect."""


class ExtendUnexpectedResponseError(ExtendAPIError):
    """A response that is not the JSON that was requested: HTML, empty, a list, a redirect.

    Attributes:
        body: the first characters of the body. The message shows them unless they may come from a document.
    """

    def __init__(self, message: str, *, body: str = "", **keywords: Any) -> None:
        self.body = body[:BODY_SHOWN]
        super().__init__(message, **keywords)

    def __str__(self) -> str:
        # The body of a success may be document data, unless it is HTML from a proxy.
        secret = self.status is not None and 200 <= self.status < 300 and not self.body.lstrip().startswith("<")
        return super().__str__() if secret or not self.body else f"{super().__str__()}; the body begins {self.body!r}"


class ExtendCachedResponseError(ExtendUnexpectedResponseError):
    """A response from a cache between here and Extend, too old for a decision."""


class ExtendTimeoutError(ExtendError, TimeoutError):
    """A run did not end before its deadline.

    Attributes:
        run_id: the run.
        outcome: the outcome of its cancel, such as `cancelled`; None where it was left alone.
    """

    def __init__(self, message: str, *, run_id: str, outcome: str | None = None) -> None:
        self.run_id = run_id
        self.outcome = outcome
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _timeout_error, (str(self), self.run_id, self.outcome)


def _timeout_error(message: str, run_id: str, outcome: str | None) -> ExtendTimeoutError:
    return ExtendTimeoutError(message, run_id=run_id, outcome=outcome)


class SharedLimitError(ExtendError):
    """The rate limit that workers share does not exist, is inactive or could not be read: nothing was sent."""


class RecordError(ExtendError):
    """Prefect could not be written to or read from, so nothing more is cancelled: no record, no cancel."""


class RecordRefusedError(RecordError):
    """Prefect rejects this record, and a retry would not help: it is too large, say."""
