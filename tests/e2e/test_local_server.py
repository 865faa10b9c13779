"""The server of demo and tests answers while it is written to from all sides."""

from __future__ import annotations

import asyncio
import contextlib
import time

import httpx
import pytest

from prefect_extend_ai.cli.local_prefect import run_local_prefect

BUSY_SECONDS = 8
FROZEN_SECONDS = 20
"""Without its own collector the server stands still for 60, within its first three seconds."""


@pytest.fixture
def server(tmp_path):
    with run_local_prefect(tmp_path / "home") as server:
        yield server


class Writer:
    """Starts and ends runs and makes an artifact after each, as a flow does; several of them keep SQLite busy."""

    def __init__(self, api, name):
        self.api, self.name = api, name

    async def post(self, path, **body):
        """What the server answers, or nothing where SQLite was busy: then it says 503 or closes the connection."""
        with contextlib.suppress(httpx.ReadError, httpx.RemoteProtocolError):
            answer = await self.api.post(path, json=body)
            return answer.json() if answer.is_success else None

    async def write(self, until):
        while time.monotonic() < until:
            flow = await self.post("/flows/", name=self.name)
            if flow and (run := await self.post("/flow_runs/", flow_id=flow["id"], state={"type": "PENDING"})):
                await self.post(f"/flow_runs/{run['id']}/set_state", state={"type": "COMPLETED"})
            await self.post("/artifacts/", key=self.name, type="markdown", data="." * 50_000)


async def test_a_server_on_sqlite_does_not_stand_still_when_many_write(server):
    async with httpx.AsyncClient(base_url=server.api_url, timeout=FROZEN_SECONDS) as api:
        until = time.monotonic() + BUSY_SECONDS
        await asyncio.gather(*(Writer(api, f"busy-{number}").write(until) for number in range(8)))
        written = (await api.post("/artifacts/count", json={})).json()
    assert written > BUSY_SECONDS
