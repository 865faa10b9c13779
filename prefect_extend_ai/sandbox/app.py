"""The API itself: Extend's run endpoints for all six kinds that can be cancelled."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from prefect_extend_ai.runs import CANCELLING, PROCESSING, RunKind
from prefect_extend_ai.sandbox.behaviour import Behaviour
from prefect_extend_ai.sandbox.creation import read_creation
from prefect_extend_ai.sandbox.faults import Fault, fault_response
from prefect_extend_ai.sandbox.gateway import Gateway, call_of
from prefect_extend_ai.sandbox.listing import Query, SortBy
from prefect_extend_ai.sandbox.objects import to_text
from prefect_extend_ai.sandbox.record import Record
from prefect_extend_ai.sandbox.world import World

__all__ = ["create_app"]

_LARGEST_PAGE = 1000
_WORKFLOW_STATUSES = {"NEEDS_REVIEW", "CANCELLING"}


def create_app(world: World) -> Starlette:
    """An application that serves a world as Extend's API would. Kinds without a cancel endpoint are not served."""

    async def faulty(request: Request, fault: Fault) -> Response:
        return fault_response(fault, world.behaviour, call_of(request).request_id)

    async def unknown(request: Request, error: HTTPException) -> Response:
        code = "NOT_FOUND" if error.status_code == HTTPStatus.NOT_FOUND else "INVALID_REQUEST"
        message = f"{request.method} {request.url.path}: {error.detail}"
        fault = Fault(error.status_code, code, message, dict(error.headers or {}))
        return fault_response(fault, world.behaviour, call_of(request).request_id)

    app = Starlette(
        routes=[route for kind in RunKind for route in _routes(kind, world)],
        exception_handlers={Fault: faulty, HTTPException: unknown},  # type: ignore[dict-item]  # each gets its own class
        middleware=[Middleware(Gateway, world=world)],
    )
    app.router.redirect_slashes = False
    return app


def _routes(kind: RunKind, world: World) -> list[Route]:
    async def list_runs(request: Request) -> Response:
        asked = request.query_params
        query = _query(kind, call_of(request).workspace, dict(asked), world.behaviour)
        with world.lock:
            page = world.page(query, asked.get("nextPageToken"))
            body: dict[str, Any] = {"object": "list", "data": [world.listed(record) for record in page.records]}
        if page.token or world.behaviour.nulls:
            body["nextPageToken"] = page.token
        return _json(to_text(body))

    async def create_run(request: Request) -> Response:
        call, body = call_of(request), await request.body()
        with world.lock:
            others = (each for each in world.runs.values() if each.workspace == call.workspace)
            run = read_creation(kind, body, others, world.behaviour)
            return _json(world.create(kind, call.workspace, source_id=call.request_id, **run))

    def found(request: Request) -> Record:
        return world.find(kind, call_of(request).workspace, request.path_params["run_id"])

    async def get_run(request: Request) -> Response:
        with world.lock:
            return _json(world.read(found(request)))

    async def delete_run(request: Request) -> Response:
        with world.lock:
            record = found(request)
            world.remove(record)
        return _json(to_text({"id": record.id}))

    async def cancel_run(request: Request) -> Response:
        with world.lock:
            text = world.cancel(found(request))
        return _json(text) if text else Response("", world.behaviour.empty_status)

    one = f"{kind.path}/{{run_id}}"
    return [
        Route(kind.path, list_runs, methods=["GET"]),
        Route(kind.path, create_run, methods=["POST"]),
        Route(one, get_run, methods=["GET"]),
        Route(one, delete_run, methods=["DELETE"]),
        Route(f"{one}/cancel", cancel_run, methods=["POST"]),
    ]


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")


def _query(kind: RunKind, workspace: str, asked: dict[str, str], behaviour: Behaviour) -> Query:
    """The query of a listing request. Raises Fault 400 for an invalid value; an unknown parameter is ignored."""
    status = asked.get("status")
    statuses = kind.terminal | {"PENDING", PROCESSING} | (_WORKFLOW_STATUSES if kind is RunKind.WORKFLOW else set())
    statuses |= {CANCELLING} if behaviour.cancel == "cancelling" else set()
    size = asked.get("maxPageSize", "10")
    sort_by: SortBy = "updatedAt"
    descending = True
    if status is not None and status not in statuses:
        raise Fault(400, "INVALID_REQUEST", f"status must be one of {', '.join(sorted(statuses))}.")
    if not (size.isascii() and size.isdecimal() and 1 <= int(size) <= _LARGEST_PAGE):
        raise Fault(400, "INVALID_REQUEST", f"maxPageSize must be a whole number from 1 to {_LARGEST_PAGE}.")
    if kind.sortable and behaviour.sorts:
        if asked.get("sortBy", sort_by) not in ("createdAt", "updatedAt"):
            raise Fault(400, "INVALID_REQUEST", "sortBy must be createdAt or updatedAt.")
        if asked.get("sortDir", "desc") not in ("asc", "desc"):
            raise Fault(400, "INVALID_REQUEST", "sortDir must be asc or desc.")
        sort_by = "createdAt" if asked.get("sortBy") == "createdAt" else "updatedAt"
        descending = asked.get("sortDir") != "asc"
    filters = tuple((name, asked[name]) for name in _filters(kind) if name in asked and behaviour.heeds_filters)
    length = min(int(size), behaviour.largest_page or _LARGEST_PAGE)
    return Query(kind, workspace, status, filters, sort_by, descending, length)


def _filters(kind: RunKind) -> list[str]:
    """The filters that a kind's listing supports, by their wire names (vendor's SDK 1.20.0)."""
    names = ["fileNameContains"]
    names += [f"{kind.processor}Id"] if kind.processor else []
    names += ["batchId"] if kind is not RunKind.VERIFY else ["riskLevel"]
    names += ["source", "sourceId"] if kind is not RunKind.WORKFLOW else []
    return names
