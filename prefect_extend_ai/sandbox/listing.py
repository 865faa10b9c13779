"""Listings: runs in order, page by page, with tokens that are bound to their query."""

from __future__ import annotations

import base64
import bisect
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox.behaviour import Behaviour
from prefect_extend_ai.sandbox.faults import Fault
from prefect_extend_ai.sandbox.objects import summary
from prefect_extend_ai.sandbox.record import Record, State

__all__ = ["Listing", "Page", "Query"]

SortBy = Literal["createdAt", "updatedAt"]
_Place = tuple[datetime, str]
_ORDERS: tuple[SortBy, SortBy] = ("createdAt", "updatedAt")


@dataclass(frozen=True, slots=True)
class Query:
    """The query of a listing. `filters` are the wire names and values of the request."""

    kind: RunKind
    workspace: str
    status: str | None = None
    filters: tuple[tuple[str, str], ...] = ()
    sort_by: SortBy = "updatedAt"
    descending: bool = True
    size: int = 10


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, and the token of the next."""

    records: list[Record]
    token: str | None


class Listing:
    """Runs in order, kept sorted as they change: the cost of a page depends on its size, not on the number of runs."""

    def __init__(self) -> None:
        self._members: dict[tuple[str, RunKind], dict[str, Record]] = defaultdict(dict)
        self._sorted: dict[tuple[str, RunKind, str | None, SortBy], list[_Place]] = {}

    def show(self, record: Record, state: State | None) -> None:
        """Show a run in listings in this state; None removes it."""
        if record.listed is not None:
            self._each(record, record.listed, lambda places, place: places.pop(bisect.bisect_left(places, place)))
        record.listed = state
        members = self._members[record.workspace, record.kind]
        if state is None:
            members.pop(record.id, None)
            return
        members[record.id] = record
        self._each(record, state, bisect.insort)

    def page(self, query: Query, token: str | None, behaviour: Behaviour, now: datetime) -> Page:
        """One page. Raises Fault 400 for a token that is malformed, expired or of another query."""
        places = self._places(query)
        after = _read_token(token, query, behaviour, now) if token else None
        start = _start(places, query, after)
        step = -1 if query.descending else 1
        members = self._members[query.workspace, query.kind]
        records: list[Record] = []
        position = start
        for position in range(start, -1 if query.descending else len(places), step):
            record = members[places[position][1]]
            if _matches(record, query, behaviour):
                if len(records) == query.size:
                    break
                records.append(record)
        else:
            return Page(records, None)
        seen = abs(position - (len(places) - 1)) if query.descending else position
        last = places[position - step]
        cursor: list[Any] = [seen] if behaviour.paging == "offset" else [last[0].isoformat(), last[1]]
        return Page(records, _write_token(cursor, query, now))

    def _places(self, query: Query) -> list[_Place]:
        key = (query.workspace, query.kind, query.status, query.sort_by)
        if key not in self._sorted:
            self._sorted[key] = sorted(
                (_when(record, record.listed, query.sort_by), record.id)
                for record in self._members[query.workspace, query.kind].values()
                if record.listed is not None and query.status in (None, record.listed.status)
            )
        return self._sorted[key]

    def _each(self, record: Record, state: State, change: Callable[[list[_Place], _Place], object]) -> None:
        for key in self._keys(record, state):
            if key in self._sorted:
                change(self._sorted[key], (_when(record, state, key[3]), record.id))

    @staticmethod
    def _keys(record: Record, state: State) -> Iterator[tuple[str, RunKind, str | None, SortBy]]:
        for status in (None, state.status):
            for order in _ORDERS:
                yield record.workspace, record.kind, status, order


def _when(record: Record, state: State, order: SortBy) -> datetime:
    return record.created_at if order == "createdAt" else state.updated_at


def _start(places: list[_Place], query: Query, after: list[Any] | None) -> int:
    if after is None:
        return len(places) - 1 if query.descending else 0
    if len(after) == 1:
        return len(places) - 1 - int(after[0]) if query.descending else int(after[0])
    place = (datetime.fromisoformat(after[0]), str(after[1]))
    return bisect.bisect_left(places, place) - 1 if query.descending else bisect.bisect_right(places, place)


def _matches(record: Record, query: Query, behaviour: Behaviour) -> bool:
    for name, wanted in query.filters:
        match name:
            case "batchId":
                found: object = record.batch_id
            case "source":
                found = record.source
            case "sourceId":
                found = record.source_id
            case "riskLevel":
                found = summary(record, record.listed or record.state, behaviour).get("riskLevel")
            case "fileNameContains":
                name_, part = record.file_name or "", wanted
                if not behaviour.file_name_case:
                    name_, part = name_.lower(), part.lower()
                found = wanted if part in name_ else None
            case _:
                found = record.processor.id if record.processor else None
        if found != wanted:
            return False
    return True


def _write_token(cursor: list[Any], query: Query, now: datetime) -> str:
    payload = json.dumps([now.isoformat(), *cursor]).encode()
    # Padded so that the parts end as in the API's tokens, with `==` and `=`, which an unquoted query string corrupts.
    payload += b" " * ((1 - len(payload)) % 3)
    return f"{base64.b64encode(payload).decode()}:{base64.b64encode(_seal(payload, query)).decode()}"


def _read_token(token: str, query: Query, behaviour: Behaviour, now: datetime) -> list[Any]:
    try:
        payload, seal = (base64.b64decode(part, validate=True) for part in token.split(":"))
        issued, *cursor = json.loads(payload)
    except ValueError:
        raise Fault(400, "INVALID_REQUEST", "nextPageToken is malformed.") from None
    if seal != _seal(payload, query):
        raise Fault(400, "INVALID_REQUEST", "nextPageToken belongs to a query with other parameters.")
    lifetime = behaviour.token_seconds
    if lifetime is not None and now - datetime.fromisoformat(issued) > timedelta(seconds=lifetime):
        raise Fault(400, "INVALID_REQUEST", "nextPageToken has expired.")
    return list(cursor)


def _seal(payload: bytes, query: Query) -> bytes:
    return hashlib.sha256(payload + repr(query).encode()).digest()
