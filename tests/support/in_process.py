"""The client on the sandbox's app in process: real requests, without a socket."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
from pydantic import SecretStr

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.client.transport import Transport
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox import API_KEY, World, create_app

START = datetime(2026, 3, 2, 6, tzinfo=UTC)


def to(world):
    """The way to a world without a network."""
    return httpx.ASGITransport(app=create_app(world))


def client_of(world, **options):
    """A client of a world, as fast as it will; `options` are those of `Transport`."""
    given = {"api_version": "2026-02-09", "requests_per_second": 10**6, "http_transport": to(world)}
    return ExtendClient(Transport("https://api.extend.ai", SecretStr(API_KEY), **(given | options)))


class SandboxAccount:
    """An account at a sandbox whose clock only `world.advance` moves.

    Attributes:
        permit: the shared rate limit of its clients; None for none.
    """

    def __init__(self, kind="classify", **options):
        self.kind = RunKind(kind)
        self.world = World(clock=lambda: START, **options)
        self.permit = None

    def add(self, status="PROCESSING", **facts):
        return self.world.add(self.kind, status, **facts)

    def client(self, **options):
        given = {"permit": self.permit, "wall_clock": lambda: self.world.now().timestamp()}
        return client_of(self.world, **(given | options))

    @property
    def asked(self):
        """The status that each listing asked for, in order; checks left out."""
        listings = (entry for entry in self.world.journal if entry.operation == "list")
        return [httpx.QueryParams(entry.query)["status"] for entry in listings]
