"""Prefect's vacuum deletes records of old sweeps, and never an entry that is still open."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from datetime import timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_extend_ai import ExtendCredentials, StalePolicy
from prefect_extend_ai.cli.local_prefect import run_local_prefect
from prefect_extend_ai.cli.retention import check_retention
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.prefect_io import journal
from prefect_extend_ai.sandbox import serve
from support.artifacts import Artifacts

PROFILE = """active = "vacuum"
[profiles.vacuum]
PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED = "events,flow_runs"
PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD = "3601"
PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS = "1"
PREFECT_SERVER_SERVICES_DB_VACUUM_ORPHAN_CLEANUP_LOOP_SECONDS = "1"
"""
PATIENCE_SECONDS = 120


@pytest.fixture
def vacuumed(tmp_path):
    """A server whose vacuum runs each second, and deletes flow runs that ended over an hour ago."""
    home = tmp_path / "prefect"
    home.mkdir()
    (home / "profiles.toml").write_text(PROFILE)
    with run_local_prefect(home) as server, temporary_settings({PREFECT_API_URL: server.api_url}):
        yield server


def end_long_ago(server, flow_run_id):
    """No retention is shorter than an hour, and no test waits for one."""
    with sqlite3.connect(server.home / "prefect.db", timeout=60) as database:
        ended = database.execute(
            "UPDATE flow_run SET end_time = '2020-01-01 00:00:00.000000' WHERE id = ?", [str(flow_run_id)]
        )
        assert ended.rowcount == 1
    database.close()


async def test_a_vacuum_takes_records_and_no_open_entry(vacuumed, stuck, monkeypatch):
    world, artifacts = stuck(2), Artifacts(vacuumed.api_url)
    hanging, cancelled = world.stale()
    world.get(hanging).cancel_mode = "never"
    monkeypatch.setattr(journal, "RENEW_AFTER", timedelta(0))
    with serve(world) as sandbox:
        account = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=100)
        policy = StalePolicy(confirm_seconds=1)
        first = await cancel_stale_runs(account, policy=policy, return_state=True)
        assert len(artifacts.holding(cancelled)) == 1
        second = await cancel_stale_runs(account, policy=policy, return_state=True)
        (entry,) = artifacts.keyed("extend-write-ahead-classify", type={"any_": ["json"]})
        assert entry["flow_run_id"] == str(second.state_details.flow_run_id)
        end_long_ago(vacuumed, first.state_details.flow_run_id)
        until = time.monotonic() + PATIENCE_SECONDS
        while artifacts.holding(cancelled):
            assert time.monotonic() < until, "the vacuum did not come"
            await asyncio.sleep(0.5)
        assert artifacts.open_intents(sandbox.url) == [[hanging]]
        report = await (await cancel_stale_runs(account, policy=policy, return_state=True)).result()
        assert [each.run_id for each in report.pending] == [hanging]
    async with get_client() as client:
        found = await check_retention(client)
    assert found is not None
    assert "flow runs are deleted after 0.0 days" in found.text
