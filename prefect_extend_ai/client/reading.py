"""Runs and lists of runs, read from responses.

These functions return a problem as text and do not raise: an error reporter may show the local variables of a frame
that raises, and these hold document data.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prefect_extend_ai._json import parse_json
from prefect_extend_ai.client.responses import ApiResponse
from prefect_extend_ai.errors import ExtendUnexpectedResponseError
from prefect_extend_ai.runs import LONGEST_ID, Run, RunKind

__all__ = ["read_item", "read_list", "read_run"]


def read_run(kind: RunKind, response: ApiResponse, run_id: str | None) -> Run | str:
    """The run of a response; `run_id` is the one that was asked for, None for whichever it is."""
    try:
        run = Run.from_text(kind, response.text, response.read_at, response.request_id, response.date)
    except ExtendUnexpectedResponseError as error:
        return error.message
    if run_id is None or run.id == run_id:
        return replace(run, asked_at=response.asked_at)
    return f"another run ({run.id[:LONGEST_ID]!r}) than the requested one ({run_id!r})"


def read_item(kind: RunKind, item: Any, response: ApiResponse) -> Run | None:
    """One item of a listing; None for anything but a run object."""
    try:
        return replace(Run.from_item(kind, item, response.read_at, response.date), asked_at=response.asked_at)
    except ExtendUnexpectedResponseError:
        return None


def read_list(response: ApiResponse) -> tuple[list[Any], str | None] | str:
    """The items of a listing and the token of its next page."""
    try:
        body = parse_json(response.text)
    except ValueError:
        return "not JSON"
    if not isinstance(body, dict) or not isinstance(body.get("data"), list):
        return "not a list of runs"
    token = body.get("nextPageToken")
    if token is not None and not isinstance(token, str):
        return "a page token that is not text"
    return body["data"], token or None
