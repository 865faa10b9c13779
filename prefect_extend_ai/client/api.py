"""Reading, cancelling and creating runs."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

from prefect_extend_ai.client.exchange import JsonBody
from prefect_extend_ai.client.reading import read_item, read_list, read_run
from prefect_extend_ai.client.responses import ApiResponse
from prefect_extend_ai.client.transport import Transport
from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import PROCESSING, KindName, Moment, Run, RunKind, check_run_id

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
    """Reads, cancels and creates the runs of one account. For one use: `async with credentials.get_client() as client`.

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

    async def create_run(
        self,
        request: Mapping[str, Any],
        kind: RunKind | KindName = RunKind.CLASSIFY,
        *,
        before_send: Callable[[], None] = lambda: None,
    ) -> Run:
        """Create one run, once; returns the run from the response.

        Nothing was created after ExtendNotSentError, ExtendRateLimitError and SharedLimitError. After
        ExtendTransportError, ExtendServerError and ExtendUnexpectedResponseError a run may exist: look for it in a
        listing before another request.

        Args:
            request: the request's JSON: `file`, `classifier` (`extractor`, ...) or `config`, `metadata`.
            kind: the kind of run.
            before_send: called right before the bytes leave; ExtendNotSentError from it ends the call.
        """
        kind = self._ready(kind)
        body = JsonBody(json.dumps(request, separators=(",", ":")))
        response = await self._transport.create(kind.path, body, before_send=before_send)
        return self._run(response, kind, None)

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
        processor_id: str | None = None,
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
            processor_id: only runs of this classifier (extractor, ...).

        Raises ExtendInputError at once for an empty filter and for one that the kind's listing does not support,
        because the API silently ignores unknown parameters and would list all runs.
        """
        kind = self._ready(kind)
        if not 1 <= page_size <= LARGEST_PAGE:
            raise ExtendInputError(f"a page holds 1 to {LARGEST_PAGE} runs, not {page_size}")
        filters = {"source": source, "batch_id": batch_id, "file_name_contains": file_name_contains}
        if processor_id is not None and kind.processor is None:
            raise ExtendInputError(f"{kind} runs have no processor")
        for name, value in {"status": status, "processor_id": processor_id, **filters}.items():
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
            f"{kind.processor}Id": processor_id,
        }
        return self._pages(kind, {name: value for name, value in wanted.items() if value is not None})

    async def _pages(self, kind: RunKind, params: dict[str, str | int]) -> AsyncIterator[Page]:
        seen: set[str] = set()
        token: str | None = None
        while True:
            self._ready(kind)
            # The same parameters with every token: the API binds a token to its query.
            response = await self._transport.get(kind.path, params | ({"nextPageToken": token} if token else {}))
            found = read_list(response)
            if isinstance(found, str):
                raise self._transport.unexpected_response(response, found)
            items, token = found
            runs = [run for item in items if (run := read_item(kind, item, response)) is not None]
            yield Page(runs, len(items) - len(runs), response.read_at, response.date, response.received_at)
            if token is None:
                return
            if token in seen:
                raise self._transport.unexpected_response(response, "a repeated page token: the listing has no end")
            seen.add(token)

    def _run(self, response: ApiResponse, kind: RunKind, run_id: str | None) -> Run:
        run = read_run(kind, response, run_id)
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
