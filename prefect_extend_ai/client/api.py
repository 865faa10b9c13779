"""Reading and cancelling runs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

from prefect_extend_ai._json import parse_json
from prefect_extend_ai.client.responses import ApiResponse
from prefect_extend_ai.client.transport import Transport
from prefect_extend_ai.errors import ExtendInputError, ExtendUnexpectedResponseError
from prefect_extend_ai.runs import LONGEST_ID, PROCESSING, KindName, Moment, Run, RunKind, check_run_id

__all__ = ["LARGEST_PAGE", "ExtendClient", "Page", "ReservedCancel"]

logger = logging.getLogger(__name__)

LARGEST_PAGE = 1000
"""Runs a page (the vendor's OpenAPI description)."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing.

    Attributes:
        runs: the runs on it, as summaries: without output and configuration.
        unreadable: how many of its items were not run objects.
        read_at: when it was read, by the earlier of Extend's clock and the local one; None without a `Date` header.
        date: Extend's clock then.
        received_at: the local clock then.
    """

    runs: list[Run]
    unreadable: int
    read_at: datetime | None
    date: datetime | None = None
    received_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReservedCancel:
    """A reserved turn and connection for one run's check and its cancel right after it.

    Attributes:
        check: reads the complete run. Raises as `ExtendClient.get_run` does.
        send: sends the cancel, once, when its turn comes. Takes a callback for the moment right before the bytes leave
            (an exception from it ends the call, and nothing was sent), and the seconds that the check stays valid.
    """

    check: Callable[[], Awaitable[Run]]
    send: Callable[[Callable[[], None], float], Awaitable[Run]]


class ExtendClient:
    """Reads and cancels the runs of one account. For one use: `async with credentials.get_client() as client`.

    Every method raises ExtendInputError for invalid input before anything is sent, ExtendTransportError without a
    response, and an ExtendAPIError for an error response. `Transport` describes retries and rate limits.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._state: Literal["new", "open", "closed"] = "new"
        self._warned_of_ids: set[RunKind] = set()

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise ExtendInputError(f"this ExtendClient is {self._state} already: get a new one for each `async with`")
        self._state = "open"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._state = "closed"
        await self._transport.aclose()

    async def get_run(self, run_id: str, kind: RunKind | KindName = RunKind.CLASSIFY) -> Run:
        """Read one complete run."""
        kind = self._ready(kind)
        response = await self._transport.get(self._path(kind, run_id))
        return self._run(response, kind, run_id)

    async def cancel_run(self, run_id: str, kind: RunKind | KindName = RunKind.CLASSIFY) -> Run:
        """Request the cancellation of one run; returns the run from the response.

        A success means that the request was accepted, not that the run is cancelled: check its status, and read it
        again.
        """
        kind = self._ready(kind)
        response = await self._transport.post(f"{self._path(kind, run_id)}/cancel")
        return self._run(response, kind, run_id)

    @asynccontextmanager
    async def reserve_cancel(
        self, run_id: str, kind: RunKind | KindName = RunKind.CLASSIFY, *, within: float = 120
    ) -> AsyncIterator[ReservedCancel]:
        """Reserve a turn and a connection for one run, so that its cancel can leave right after its check.

        Raises ExtendNotSentError or ExtendRateLimitError where the turn does not come within `within` seconds.
        """
        kind = self._ready(kind)
        path = self._path(kind, run_id)
        async with self._transport.reserve(within) as turn:

            async def check() -> Run:
                return self._run(await self._transport.get(path, connect=turn.connect), kind, run_id)

            async def send(before_send: Callable[[], None], seconds: float) -> Run:
                response = await self._transport.post_reserved(
                    f"{path}/cancel", turn, within=seconds, before_send=before_send
                )
                return self._run(response, kind, run_id)

            yield ReservedCancel(check, send)

    def now(self) -> Moment:
        """The current time, by the clocks of a run's `asked_at`."""
        return self._transport.now()

    def iter_pages(
        self,
        kind: RunKind | KindName = RunKind.CLASSIFY,
        *,
        status: str | None = PROCESSING,
        sort_by: Literal["updatedAt", "createdAt"] = "updatedAt",
        sort_dir: Literal["asc", "desc"] = "asc",
        page_size: int = 100,
        source: str | None = None,
        batch_id: str | None = None,
        file_name_contains: str | None = None,
    ) -> AsyncIterator[Page]:
        """List runs, one page a request, by default the oldest change first.

        A page is read when the iteration asks for it. Runs that change while the pages are read may be missed or
        appear twice.

        Args:
            kind: the kind of run.
            status: only runs with this status; None for all.
            sort_by: the timestamp to sort by. Not sent for a kind whose listing cannot sort (parse).
            sort_dir: earliest first or latest first.
            page_size: runs a page, 1 to 1000.
            source: only runs from this source, such as `API` or `WORKFLOW_RUN`.
            batch_id: only runs of this batch.
            file_name_contains: only runs of files with this in their name.

        Raises ExtendInputError at once for an empty filter and for one that the kind's listing does not support,
        because the API silently ignores unknown parameters and would list all runs.
        """
        kind = self._ready(kind)
        if not 1 <= page_size <= LARGEST_PAGE:
            raise ExtendInputError(f"a page holds 1 to {LARGEST_PAGE} runs, not {page_size}")
        filters = {"source": source, "batch_id": batch_id, "file_name_contains": file_name_contains}
        for name, value in {"status": status, **filters}.items():
            if value is not None and not value.strip():
                raise ExtendInputError(f"{name} is empty: leave it out to list all {kind} runs")
            if value is not None and name in filters and name not in kind.filters:
                raise ExtendInputError(f"{kind} runs cannot be listed by {name}")
        wanted = {
            "status": status,
            "sortBy": sort_by if kind.sortable else None,
            "sortDir": sort_dir if kind.sortable else None,
            "maxPageSize": page_size,
            "source": source,
            "batchId": batch_id,
            "fileNameContains": file_name_contains,
        }
        return self._pages(kind, {name: value for name, value in wanted.items() if value is not None})

    async def iter_runs(
        self,
        kind: RunKind | KindName = RunKind.CLASSIFY,
        *,
        status: str | None = PROCESSING,
        sort_by: Literal["updatedAt", "createdAt"] = "updatedAt",
        sort_dir: Literal["asc", "desc"] = "asc",
        page_size: int = 100,
        source: str | None = None,
        batch_id: str | None = None,
        file_name_contains: str | None = None,
    ) -> AsyncIterator[Run]:
        """List runs one by one, as `iter_pages` does; items that are not run objects are skipped with a warning."""
        async for page in self.iter_pages(
            kind,
            status=status,
            sort_by=sort_by,
            sort_dir=sort_dir,
            page_size=page_size,
            source=source,
            batch_id=batch_id,
            file_name_contains=file_name_contains,
        ):
            if page.unreadable:
                logger.warning("Skipped %d items of a listing that are not run objects", page.unreadable)
            for run in page.runs:
                yield run

    async def _pages(self, kind: RunKind, params: dict[str, str | int]) -> AsyncIterator[Page]:
        seen: set[str] = set()
        token: str | None = None
        while True:
            self._ready(kind)
            # The same parameters with every token: the API binds a token to its query.
            response = await self._transport.get(kind.path, params | ({"nextPageToken": token} if token else {}))
            found = _read_list(response)
            if isinstance(found, str):
                raise self._transport.unexpected_response(response, found)
            items, token = found
            runs = [run for item in items if (run := _read_item(kind, item, response)) is not None]
            yield Page(runs, len(items) - len(runs), response.read_at, response.date, response.received_at)
            if token is None:
                return
            if token in seen:
                raise self._transport.unexpected_response(response, "a repeated page token: the listing has no end")
            seen.add(token)

    def _run(self, response: ApiResponse, kind: RunKind, run_id: str) -> Run:
        run = _read_run(kind, response, run_id)
        if isinstance(run, str):
            raise self._transport.unexpected_response(response, run)
        return run

    def _ready(self, kind: RunKind | KindName) -> RunKind:
        if self._state != "open":
            raise ExtendInputError(
                f"this ExtendClient is {'not open yet' if self._state == 'new' else 'closed'}: "
                "use it inside `async with credentials.get_client() as client`"
            )
        return RunKind(kind)

    def _path(self, kind: RunKind, run_id: str) -> str:
        check_run_id(run_id)
        if not run_id.startswith(kind.id_prefix) and kind not in self._warned_of_ids:
            self._warned_of_ids.add(kind)
            logger.warning("%r does not begin with %r, as the ids of %s runs do", run_id, kind.id_prefix, kind)
        return f"{kind.path}/{quote(run_id, safe='')}"


# These functions return a problem as text and do not raise: an error reporter may show the local variables of a frame
# that raises, and these hold document data.


def _read_run(kind: RunKind, response: ApiResponse, run_id: str) -> Run | str:
    try:
        run = Run.from_text(kind, response.text, response.read_at, response.request_id, response.date)
    except ExtendUnexpectedResponseError as error:
        return error.message
    if run.id == run_id:
        return replace(run, asked_at=response.asked_at)
    return f"another run ({run.id[:LONGEST_ID]!r}) than the requested one ({run_id!r})"


def _read_item(kind: RunKind, item: Any, response: ApiResponse) -> Run | None:
    try:
        return replace(Run.from_item(kind, item, response.read_at, response.date), asked_at=response.asked_at)
    except ExtendUnexpectedResponseError:
        return None


def _read_list(response: ApiResponse) -> tuple[list[Any], str | None] | str:
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
