"""Names that distinguish flow runs, reports with a history, late sweeps: on a real Prefect."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.flow_engine import run_flow_async
from prefect.states import Running

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.flows import cancel_runs, cancel_stale_runs
from prefect_extend_ai.prefect_io.flow_runs import was_skipped
from prefect_extend_ai.prefect_io.liveness import _lock_path, sweep_lock
from prefect_extend_ai.prefect_io.reports import _history as read_metadata
from support.workspaces import Workspace, begin


@pytest.fixture
def account(artifacts):
    return Workspace(artifacts)


async def test_a_flow_run_says_what_it_is_and_what_it_did(account):
    stale = account.add(3)
    with account.serve() as sandbox:
        block = account.credentials(sandbox)
        assert (await begin(cancel_stale_runs, block, dry_run=True))[1] == (
            f"{account.workspace} classify dry run: would cancel 3 of 3"
        )
        assert (await begin(cancel_runs, block, run_ids=stale[:1]))[1] == (
            f"{account.workspace} classify by id: cancelled 1 of 1"
        )
        await block.asave("acme-history", overwrite=True)
        saved = await ExtendCredentials.aload("acme-history")
        assert (await begin(cancel_stale_runs, saved))[1] == "acme-history classify: cancelled 2 of 2"
        assert (await begin(cancel_stale_runs, saved))[1] == "acme-history classify"


async def test_a_name_that_a_caller_gave_stays(account):
    account.add(2)
    with account.serve() as sandbox:
        block = account.credentials(sandbox)
        assert (await begin(cancel_stale_runs, block, name="nightly-sweep"))[1] == "nightly-sweep"
        account.add(1)
        named = cancel_stale_runs.with_options(flow_run_name="mine")
        assert (await begin(named, block))[1] == "mine"


async def test_an_idle_sweep_leaves_one_artifact_and_no_task_run(account):
    with account.serve() as sandbox:
        state, _ = await begin(cancel_stale_runs, account.credentials(sandbox))
    flow_run = {"any_": [str(state.state_details.flow_run_id)]}
    (artifact,) = account.artifacts.all(flow_run_id=flow_run)
    assert artifact["key"].startswith("extend-sweep-classify-")
    async with get_client() as client:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        assert await client.read_task_runs(flow_run_filter=wanted) == []


async def test_reports_tell_the_sweeps_before_and_the_last_cancel(account):
    with account.serve() as sandbox:
        block = account.credentials(sandbox)
        for stale in (2, 0, 1):
            account.add(stale)
            await cancel_stale_runs(block)
        account.add(4)
        await cancel_stale_runs(block, dry_run=True)
    reports = account.written("sweep")
    stale = [[each.stale for each in read_metadata(each["metadata_"]).sweeps] for each in reports]
    assert stale == [[2], [2, 0], [2, 0, 1]]
    assert "### Last 3 sweeps" in reports[-1]["data"]
    assert "3 stale, 3 cancelled, 0 failed in 3 sweeps" in reports[-1]["data"]
    assert [each["description"] for each in account.written("last-cancelled")] == [
        "Cancelled 2 of 2 stale classify runs",
        "Cancelled 1 of 1 stale classify run",
    ]
    (dry,) = account.written("dry-run")
    assert dry["description"] == "Would cancel 4 of 4 stale classify runs"


async def test_held_workflow_runs_are_spared_once_then_exempt(account):
    (held,) = account.add(kind="workflow", metadata={"prefect_hold": True})
    with account.serve() as sandbox:
        block = account.credentials(sandbox)
        first, second, third = [await cancel_stale_runs(block, kind="workflow") for _ in range(3)]
        reads = [entry for entry in account.world.journal if entry.path.endswith(held)]
    assert first.headline.startswith("Cancelled 0 of 1 stale workflow run; 1 spared")
    assert second.headline == third.headline == "No stale workflow runs to cancel (1 held)"
    assert len(reads) == 1


async def test_a_long_sweep_shows_how_far_it_is(account, caplog):
    account.add(70)
    seen = set()
    with account.serve() as sandbox:
        sweeping = asyncio.create_task(begin(cancel_stale_runs, account.credentials(sandbox, requests_per_second=10)))
        while not sweeping.done():
            seen.update(each["data"] for each in account.artifacts.all(type={"any_": ["progress"]}))
            await asyncio.sleep(0.5)
        state, _ = await sweeping
    flow_run = {"any_": [str(state.state_details.flow_run_id)]}
    (bar,) = account.artifacts.all(type={"any_": ["progress"]}, flow_run_id=flow_run)
    assert (bar["data"], bar["key"]) == (100, None)
    assert re.fullmatch(r"70 of 70 runs done in \d+ s", bar["description"])
    assert len(seen) > 4
    words = [record.getMessage() for record in caplog.records]
    assert "70 stale of 70 in progress; at 10 a second about 7 s" in words
    assert sum(bool(re.match(r"\d+ of 70 runs done in \d+ s", each)) for each in words) == 10
    assert next(each for each in reversed(words) if not each.startswith("Finished in state")).startswith("The report: ")


async def late_runs(account, count, *, every=timedelta(minutes=15)):
    """Flow runs that a schedule made, and for which no worker was there."""
    async with get_client() as client:
        flow_id = await client.create_flow(cancel_stale_runs)
        schedule = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=every), active=False)
        deployment = await client.create_deployment(
            flow_id, f"late-{account.workspace}", schedules=[schedule], parameters={"kind": "classify"}
        )
        until = datetime.now(UTC) - timedelta(minutes=5)
        span = {"start_time": str(until - every * count), "end_time": str(until), "min_runs": count, "max_runs": count}
        await client.update_deployment_schedule(
            deployment, (await client.read_deployment(deployment)).schedules[0].id, active=True
        )
        await client._client.post(f"/deployments/{deployment}/schedule", json=span)
        found = await client.read_flow_runs(limit=200)
        mine = [each for each in found if each.deployment_id == deployment and each.expected_start_time < until]
        return sorted(mine, key=lambda each: each.expected_start_time)


async def run_late(account, sandbox, flow_run: FlowRun):
    parameters = {"credentials": account.credentials(sandbox)}
    return await run_flow_async(cancel_stale_runs, flow_run=flow_run, parameters=parameters, return_type="state")


async def test_nine_late_sweeps_are_one_sweep_s_work(account):
    account.add(2)
    with account.serve() as sandbox:
        late = await late_runs(account, 9)
        assert len(late) == 9
        ends = [await run_late(account, sandbox, each) for each in late]
    assert [(end.type, end.name) for end in ends] == [("COMPLETED", "Completed")] * 9
    assert [was_skipped(end) for end in ends] == [False, *[True] * 8]
    assert re.fullmatch(
        r"Skipped: it was due at .* UTC, and .*, which began at \d\d:\d\d UTC, has completed", ends[1].message
    )
    assert len(account.written("sweep")) == 1
    async with get_client() as client:
        names = {(await client.read_flow_run(each.id)).name for each in late[1:]}
    assert names == {f"{account.workspace} classify: skipped"}


async def test_a_late_sweep_counts_on_no_dead_one(account):
    with account.serve() as sandbox:
        other, second, third = await late_runs(account, 3)
        async with get_client() as client:
            await client.set_flow_run_state(other.id, Running())
        with sweep_lock(other.id):
            assert was_skipped(await run_late(account, sandbox, second))
            # Killed: its lock is still there, and nobody holds it. Prefect shows it as Running for ever.
            lock = _lock_path(other.id)
        lock.touch()
        assert (await run_late(account, sandbox, third)).name == "Completed"
        lock.unlink()
