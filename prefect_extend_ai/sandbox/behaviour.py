"""Assumptions about what Extend does not document, as switches of the sandbox."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Behaviour", "CancelMode"]

CancelMode = Literal["at_once", "later", "on_get", "cancelling", "aborted", "pending", "empty", "finishes", "never"]
"""What an accepted cancel does.

`at_once`: the response says CANCELLED. `later`: the response says PROCESSING, and the run is CANCELLED
`cancel_seconds` later. `on_get`: the same, but at the `cancel_gets`-th read after it. `cancelling`: CANCELLING, and
CANCELLED `cancel_seconds` later. `aborted`: FAILED for the reason ABORTED. `pending`: the run is CANCELLED, the
response says PENDING. `empty`: the run is CANCELLED, the response has no body. `finishes`: the run continues and is
PROCESSED `cancel_seconds` later. `never`: the run stays PROCESSING forever.
"""


class Behaviour(BaseModel):
    """A switch for each thing that the vendor does not document; the defaults are the likeliest assumptions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    refusal_status: Literal[400, 409, 422] = Field(
        default=400, description="Status of the response to a cancel of a run that cannot be cancelled."
    )
    refusal_code: str = Field(default="INVALID_REQUEST", description="Error code of that response.")
    errors: Literal["flat", "wrapped", "legacy", "text", "html", "empty"] = Field(
        default="flat", description="Shape of every error body."
    )
    cancel: CancelMode = Field(default="at_once", description="What an accepted cancel does.")
    cancel_seconds: float = Field(default=2.0, ge=0, description="Seconds that a cancel takes where it takes time.")
    cancel_gets: int = Field(default=2, ge=1, description="Reads that a cancel takes with `cancel=on_get`.")
    empty_status: Literal[200, 204] = Field(default=200, description="Status of the response with `cancel=empty`.")
    second_cancel: Literal["refused", "no_op"] = Field(
        default="refused", description="A cancel of a terminal run: refused, or accepted without effect."
    )
    pending_cancellable: bool = Field(default=False, description="Whether a PENDING run can be cancelled.")
    cancel_moves_updated_at: bool = Field(default=True, description="Whether a cancel sets `updatedAt`.")
    heartbeat_seconds: float | None = Field(
        default=None, gt=0, description="Seconds between moves of a healthy run's `updatedAt` while it is PROCESSING."
    )
    cancel_category: Literal["WRITE", "GET", "RUN"] = Field(
        default="WRITE", description="The rate limit that a cancel counts towards."
    )
    retry_after: Literal["absent", "integer", "fraction", "date", "zero", "reset"] = Field(
        default="integer",
        description="Form of the `Retry-After` header of a 429 response; `reset`: `X-RateLimit-Reset` instead.",
    )
    list_lag_seconds: float = Field(default=0.0, ge=0, description="Seconds that listings are behind single reads.")
    token_seconds: float | None = Field(default=None, gt=0, description="Seconds after which a page token expires.")
    largest_page: int | None = Field(
        default=None, ge=1, description="Largest page, whatever the request asks for; None for no limit."
    )
    sorts: bool = Field(default=True, description="Whether listings apply `sortBy` and `sortDir`, or ignore them.")
    paging: Literal["cursor", "offset"] = Field(
        default="cursor",
        description="Whether pages continue after the last item, or count items (a shrinking set then skips some).",
    )
    nulls: bool = Field(default=True, description="Whether fields without a value are null, or omitted.")
    always_dated: bool = Field(
        default=False, description="Whether single reads of parse and workflow runs have timestamps too."
    )
    fractions: bool = Field(default=True, description="Whether timestamps have milliseconds.")
    file_name_case: bool = Field(default=False, description="Whether `fileNameContains` is case-sensitive.")
    no_workspace_status: Literal[400, 401, 403, 422] = Field(
        default=400, description="Status of the response to an organization key without a workspace."
    )
    heeds_filters: bool = Field(
        default=True, description="Whether listings apply filters such as `source` and `batchId`, or ignore them."
    )
    date_ahead_minutes: float = Field(
        default=0.0, description="Minutes that the `Date` header is ahead of the times of runs; negative for behind."
    )
    created_run_seconds: float | None = Field(
        default=20.0, ge=0, description="Seconds until a run created over the API is PROCESSED; None for never."
    )
