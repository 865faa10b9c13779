"""Two sweeps at once are harmless: to the runs, to the records, and to each other."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from prefect.client.orchestration import get_client

from prefect_extend_ai import ExtendCredentials, Outcome
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.prefect_io.journal import PrefectJournal
from prefect_extend_ai.runs import RunKind
from prefect_extend_ai.sandbox import serve
from prefect_extend_ai.sweep.journal import Scope


async def test_two_sweeps_of_the_same_runs_cancel_each_once_and_both_complete(prefect_server, artifacts, stuck):
    world = stuck(25)
    with serve(world) as sandbox:
        credentials = ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=200)
        reports = await asyncio.gather(*(cancel_stale_runs(credentials) for _ in range(2)))
        assert world.stale() == []
        records = artifacts.records()
        for report in reports:
            assert set(report.counts) <= {Outcome.CANCELLED, Outcome.ALREADY_CANCELLED, Outcome.FINISHED_FIRST}
        for run_id, record in world.runs.items():
            if record.cancels:
                assert record.cancels == 1
                assert len(records[run_id]) <= 2
                assert all(kept == world.full(run_id) for kept in records[run_id])
        assert sum(record.cancels for record in world.runs.values()) == 25
        assert artifacts.open_notes(sandbox.url) == []


async def test_two_sweeps_may_settle_the_same_note_at_once(prefect_server, artifacts):
    scope = Scope(kind=RunKind.CLASSIFY, api_url=f"https://{uuid4()}.example.com")
    async with get_client() as client:
        dead, first, second = (PrefectJournal(client, scope, flow_run_id=None) for _ in range(3))
        await dead.log(["clr_1", "clr_2"])
        ((note,), (again,)) = (await first.pending(), await second.pending())
        assert note == again
        await first.complete(note, {})
        await second.complete(again, {})
        await asyncio.gather(first.finish(), second.finish())
        assert await first.pending() == []
    assert artifacts.open_notes(scope.api_url) == []
