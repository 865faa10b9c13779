"""Middleware around every request: troubles, authentication, rate limits, headers, the journal."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Any
from urllib.parse import unquote

import httpx
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox.behaviour import Behaviour
from prefect_extend_ai.sandbox.dice import dice_of, new_id
from prefect_extend_ai.sandbox.faults import Fault, fault_response
from prefect_extend_ai.sandbox.journal import Entry
from prefect_extend_ai.sandbox.limits import Category, retry_after_header
from prefect_extend_ai.sandbox.troubles import Trouble
from prefect_extend_ai.sandbox.world import World

__all__ = ["API_VERSION", "DROP", "Call", "Gateway", "call_of"]

API_VERSION = "2026-02-09"
DROP = "extend_sandbox.drop"
"""The ASGI extension of the sandbox's server for dropping a connection."""

_KINDS = {kind.path: kind for kind in RunKind}
_HTML = "<html><head><title>Just a moment...</title></head><body>Checking your browser.</body></html>"
_CODES = {401: "UNAUTHORIZED", 402: "USAGE_BLOCKED", 403: "FORBIDDEN", 404: "NOT_FOUND", 429: "RATE_LIMIT_EXCEEDED"}


@dataclass(slots=True)
class Call:
    """One request as the sandbox sees it."""

    operation: str
    category: Category
    kind: RunKind | None
    run_id: str | None
    request_id: str
    workspace: str = ""
    acted: bool = False

    @property
    def which(self) -> str:
        """What a trouble's WHICH is matched against."""
        return self.run_id or (self.kind.value if self.kind else "")


def call_of(request: Request) -> Call:
    """The call of a request, for its route."""
    call: Call = request.scope["extend_sandbox.call"]
    return call


class Gateway:
    """ASGI middleware around the routes."""

    def __init__(self, app: ASGIApp, world: World) -> None:
        self._app = app
        self._world = world
        # Not seeded, so that request ids are unique across sandboxes.
        self._ids = dice_of(secrets.token_hex())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        world = self._world
        call = _call(scope["method"], scope["path"], new_id("req_", self._ids), world.behaviour)
        scope["extend_sandbox.call"] = call
        with world.lock:
            world.tick()
            trouble = world.troubles.strike(call.operation, call.which, world.now())
        response = await self._respond(call, trouble, scope, receive)
        with world.lock:
            moment = world.now()
            body_length = len(response.body) if response else 0
            path, query = unquote(scope["path"]), scope["query_string"].decode()
            status = response.status_code if response else None
            entry = Entry(
                moment,
                scope["method"],
                path,
                query,
                call.operation,
                call.category,
                call.run_id,
                status,
                call.acted,
                str(trouble) if trouble else None,
                call.request_id,
                body_length,
            )
            world.journal.append(entry)
        if response is None:
            await _drop(scope, receive)
            return
        response.headers["x-extend-request-id"] = call.request_id
        response.headers["Date"] = format_datetime(world.date(), usegmt=True)
        await response(scope, receive, send)

    async def _respond(self, call: Call, trouble: Trouble | None, scope: Scope, receive: Receive) -> Response | None:
        if trouble is not None and not trouble.after:
            if trouble.what == "slow":
                await self._world.sleep(trouble.seconds)
            elif not self._changed(call, trouble):
                return self._troubled(call, trouble)
        response = await self._routed(call, scope, receive)
        if trouble is not None and trouble.after:
            if trouble.what == "slow":
                await self._world.sleep(trouble.seconds)
            else:
                return self._troubled(call, trouble)
        return response

    async def _routed(self, call: Call, scope: Scope, receive: Receive) -> Response:
        try:
            self._admit(call, Headers(scope=scope))
        except Fault as fault:
            return fault_response(fault, self._world.behaviour, call.request_id)
        call.acted = True
        return await _collected(self._app, scope, receive)

    def _admit(self, call: Call, headers: Headers) -> None:
        world = self._world
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or key not in world.keys:
            raise Fault(401, "UNAUTHORIZED", "The API key is missing, malformed or revoked.")
        if headers.get("x-extend-api-version") != API_VERSION:
            raise Fault(400, "INVALID_REQUEST", f"Send the header x-extend-api-version: {API_VERSION}.")
        bound, named = world.keys[key], headers.get("x-extend-workspace-id")
        if bound is None and not named:
            status = world.behaviour.no_workspace_status
            code = _CODES.get(status, "INVALID_REQUEST")
            raise Fault(status, code, "An organization key must name a workspace in x-extend-workspace-id.")
        if bound is not None and named and named != bound:
            raise Fault(403, "FORBIDDEN", "This key is bound to another workspace.")
        call.workspace = bound or named or ""
        with world.lock:
            wait = world.limiter.wait(call.category, world.now())
        if wait:
            header = retry_after_header(world.behaviour.retry_after, wait, world.date())
            raise Fault(429, "RATE_LIMIT_EXCEEDED", f"Too many {call.category} requests.", header)

    def _changed(self, call: Call, trouble: Trouble) -> bool:
        """Change the run, for a trouble that does so; returns whether it is one."""
        if trouble.what not in ("finish", "status", "touch", "cancel"):
            return False
        world = self._world
        with world.lock:
            record = world.runs.get(call.run_id or "")
            if record is not None:
                world.life.disturb(record, trouble, world.now())
        return True

    def _troubled(self, call: Call, trouble: Trouble) -> Response | None:
        match trouble.what:
            case "reset":
                return None
            case "empty":
                return Response("", 200)
            case "html":
                return Response(_HTML, 200, media_type="text/html")
            case "list":
                return Response("[]", 200, media_type="application/json")
            case "redirect":
                return RedirectResponse(trouble.value or "https://elsewhere.example.com/login", 302)
            case _:
                status = 503 if trouble.what == "outage" else int(trouble.what)
                after = {"Retry-After": trouble.value} if trouble.value and trouble.what != "outage" else {}
                default = "INTERNAL_ERROR" if status >= 500 else "INVALID_REQUEST"
                fault = Fault(status, _CODES.get(status, default), "A fault of the sandbox, as configured.", after)
                return fault_response(fault, self._world.behaviour, call.request_id)


def _call(method: str, path: str, request_id: str, behaviour: Behaviour) -> Call:
    parts = path.strip("/").split("/")
    kind = _KINDS.get(f"/{parts[0]}")
    run_id = parts[1] if kind and len(parts) > 1 else None
    match (method, len(parts) if kind else 0):
        case ("GET", 1):
            operation = "list"
        case ("GET", 2):
            operation = "get"
        case ("POST", 1):
            operation = "create"
        case ("DELETE", 2):
            operation = "delete"
        case ("POST", 3) if parts[2] == "cancel":
            operation = "cancel"
        case _:
            operation = "other"
    category: Category = "GET" if method in ("GET", "HEAD") else "RUN" if operation == "create" else "WRITE"
    category = behaviour.cancel_category if operation == "cancel" else category
    return Call(operation, category, kind, run_id, request_id)


async def _collected(app: ASGIApp, scope: Scope, receive: Receive) -> Response:
    """Call the routes and collect their response."""
    response = Response()
    chunks: list[bytes] = []

    async def keep(message: Message) -> None:
        if message["type"] == "http.response.start":
            response.status_code = message["status"]
            response.raw_headers = list(message["headers"])
        else:
            chunks.append(message.get("body", b""))

    await app(scope, receive, keep)
    response.body = b"".join(chunks)
    return response


async def _drop(scope: Scope, receive: Receive) -> None:
    drop: Callable[[], Any] | None = scope.get("extensions", {}).get(DROP)
    if drop is None:
        # In process, without a connection: raise what httpx would raise.
        raise httpx.ReadError("the sandbox dropped the connection")
    drop()
    await _gone(receive)


async def _gone(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
