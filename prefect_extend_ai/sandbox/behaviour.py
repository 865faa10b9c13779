"""What the sandbox assumes where Extend's documentation is silent or ambiguous."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Behaviour", "CancelMode"]

CancelMode = Literal["at_once", "later", "on_get", "cancelling", "aborted", "pending", "empty", "finishes", "never"]
"""What an accepted cancel does; docs/sandbox.md describes each mode."""


class Behaviour(BaseModel):
    """A switch for each behaviour that the vendor does not document; the defaults are the likeliest assumption.

    docs/sandbox.md has the same descriptions in a table; a test keeps the two equal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    refusal_status: Literal[400, 409, 422] = Field(
        default=400, description="Status of the response to a cancel of a run that cannot be cancelled."
    )
    refusal_code: str = Field(default="INVALID_REQUEST", description="Error code of that response.")
    errors: Literal["flat", "wrapped", "legacy", "text", "html", "empty"] = Field(
        default="flat", description="Format of every error body."
    )
    cancel: CancelMode = Field(default="at_once", description="What an accepted cancel does.")
    cancel_seconds: float = Field(
        default=2.0, ge=0, description="Seconds until the run ends, with a mode that takes time."
    )
    cancel_gets: int = Field(default=2, ge=1, description="Reads until the run ends, with `cancel=on_get`.")
    empty_status: Literal[200, 204] = Field(default=200, description="Status of the response, with `cancel=empty`.")
    second_cancel: Literal["refused", "no_op"] = Field(
        default="refused", description="A cancel of a run that has ended is refused, or the run is returned unchanged."
    )
    pending_cancellable: bool = Field(default=False, description="Whether a PENDING run can be cancelled.")
    cancel_moves_updated_at: bool = Field(default=True, description="Whether a cancel sets `updatedAt`.")
    heartbeat_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Seconds between updates of a healthy run's `updatedAt` while PROCESSING; `none` for no updates.",
    )
    cancel_category: Literal["WRITE", "GET", "RUN"] = Field(
        default="WRITE", description="Category of rate limit that a cancel counts towards."
    )
    retry_after: Literal["absent", "integer", "fraction", "date", "zero", "reset"] = Field(
        default="integer",
        description="Form of the `Retry-After` header of a response 429; `reset`: `X-RateLimit-Reset` instead.",
    )
    list_lag_seconds: float = Field(default=0.0, ge=0, description="Seconds by which listings lag behind single reads.")
    token_seconds: float | None = Field(
        default=None, gt=0, description="Seconds after which a page token expires; `none` for never."
    )
    largest_page: int | None = Field(
        default=None,
        ge=1,
        description="Maximum of runs in a page, whatever the request asks for; `none` for no maximum.",
    )
    sorts: bool = Field(default=True, description="Whether listings apply `sortBy` and `sortDir`, or ignore them.")
    paging: Literal["cursor", "offset"] = Field(
        default="cursor",
        description="Whether a page continues after the last item, or at an offset (a shrinking set then skips items).",
    )
    nulls: bool = Field(default=True, description="Whether fields without a value are null, or absent.")
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
        default=0.0,
        description="Minutes by which the `Date` header is ahead of the times of runs; negative for behind.",
    )
    created_run_seconds: float | None = Field(
        default=20.0, ge=0, description="Seconds until a run created over the API is PROCESSED; `none` for never."
    )
    create_seconds: float = Field(
        default=0.0, ge=0, description="Seconds until a created run exists for reads and listings."
    )
    reuses_files: bool = Field(
        default=True, description="Whether a create takes the file id of a run that was cancelled or failed."
    )
    keeps_version: bool = Field(
        default=True, description="Whether a run is created with the processor version that the request names."
    )
    metadata_bytes: int = Field(default=10_240, ge=1, description="Most bytes of metadata that a create takes.")
