"""Sweeps of two workspaces and three kinds: history, `check`, `explain` and alarms tell the truth of each."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import DeploymentStatus
from prefect.types.entrypoint import EntrypointType

from prefect_extend_ai import Outcome, sweep_report
from prefect_extend_ai.cli.blocks import block_reference
from prefect_extend_ai.cli.check import check_prefect
from prefect_extend_ai.cli.explain import run_explain
from prefect_extend_ai.cli.findings import Verdict
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.prefect_io.reports import _history as read_metadata
from support.workspaces import Workspace, begin

pytestmark = pytest.mark.slow

KINDS = ("classify", "extract", "workflow")
PAIRS = [(place, kind) for place in range(2) for kind in KINDS]
DOWN = (0, "extract")
"""The pair of which nothing ever finishes: an outage, from the second sweep on."""


@pytest.fixture
async def workspaces(artifacts):
    found = [Workspace(artifacts) for _ in range(2)]
    with contextlib.ExitStack() as stack:
        for each in found:
            each.block = each.credentials(stack.enter_context(each.serve()))
            await each.block.asave(each.block_name)
        yield found


@pytest.fixture
async def deployed(workspaces):
    """A deployment of each pair, on a pool whose worker takes nothing: the test itself starts the sweeps."""
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name="of-weeks", type="process"))
        deployments = {}
        for place, kind in PAIRS:
            deployment = await cancel_stale_runs.ato_deployment(
                f"{workspaces[place].block_name}-{kind}",
                parameters={"credentials": block_reference(workspaces[place].block_name), "kind": kind},
                interval=timedelta(days=300),
                work_pool_name="of-weeks",
                entrypoint_type=EntrypointType.MODULE_PATH,
            )
            deployments[place, kind] = await deployment.aapply()
        yield deployments
        for each in deployments.values():
            await client.delete_deployment(each)
        await client.delete_work_pool("of-weeks")


async def poll(deployments):
    """Ask as a worker does, of a time before anything was due. A minute later the server takes it for dead."""
    async with get_client() as client:
        for _ in range(600):
            long_ago = datetime(2000, 1, 1, tzinfo=UTC)
            await client.get_scheduled_flow_runs_for_work_pool("of-weeks", scheduled_before=long_ago)
            states = [(await client.read_deployment(each)).status for each in deployments.values()]
            if set(states) == {DeploymentStatus.READY}:
                return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("rounds", [3, pytest.param(5, marks=pytest.mark.nightly)])
async def test_sweeps_of_six_pairs_tell_the_truth(workspaces, deployed, capsys, rounds):
    ends = {pair: [] for pair in PAIRS}
    down = []
    for number in range(rounds):
        for place, kind in PAIRS:
            workspace = workspaces[place]
            if (place, kind) == DOWN:
                outage = {"age_minutes": 120, "workspace": workspace.workspace}
                new = down = down or [workspace.world.add(kind, **outage) for _ in range(30 if number else 0)]
            else:
                new = workspace.add(number % 3, kind=kind)
            end = await begin(cancel_stale_runs, workspace.block, kind=kind, deployment=deployed[place, kind])
            ends[place, kind].append(end)
            if new:
                said = await explained(workspace, kind, new[:3], capsys)
                ids = [str(state.state_details.flow_run_id) for state, _ in ends[place, kind]]
                outcomes = [("deferred", each) for each in ids[1:]] if new is down else [("cancelled", ids[-1])]
                assert [[(entry["outcome"], entry["flow_run_id"]) for entry in each] for each in said] == [
                    outcomes for _ in said
                ]
        await poll(deployed)
        await check_says(workspaces, ends)
    for place, kind in PAIRS:
        workspace, states = workspaces[place], ends[place, kind]
        reports = [await sweep_report(state.state_details.flow_run_id) for state, _ in states]
        past = read_metadata(workspace.written("sweep", kind)[-1]["metadata_"]).sweeps
        assert [(each.stale, each.cancelled) for each in past] == [
            (report.selected, report.counts[Outcome.CANCELLED]) for report in reports
        ]
        if (place, kind) == DOWN:
            assert [state.name for state, _ in states] == ["Completed", *["Refused"] * (rounds - 1)]
            assert [name for _, name in states][1:] == [f"{workspace.block_name} {kind}: cancelled 0 of 30"] * (
                rounds - 1
            )
        else:
            assert [report.counts[Outcome.CANCELLED] for report in reports] == [n % 3 for n in range(rounds)]
    assert await news_of(workspaces, rounds) == Counter({(workspaces[0].workspace, "extract"): 1})


async def test_check_fails_where_a_work_queue_is_paused(workspaces, deployed):
    name = f"cancel-stale-runs/{workspaces[0].block_name}-classify: "
    async with get_client() as client:
        (queue,) = await client.read_work_queues(work_pool_name="of-weeks")
        for paused in (False, True):
            await client.update_work_queue(queue.id, is_paused=paused)
            await poll(deployed)
            found, _ = await check_prefect()
            [finding] = [each for each in found if each.subject == "Sweeps" and each.text.startswith(name)]
            how = 'the work queue "default" is paused: prefect work-queue resume default --pool of-weeks'
            assert finding.text.endswith(how) is paused
    assert finding.verdict is Verdict.FAIL


async def explained(workspace, kind, run_ids, capsys):
    """What `explain` tells of each run."""
    capsys.readouterr()
    assert await run_explain(*run_ids, as_json=True, kind=kind, name=workspace.block_name) == 0
    return [each["history"] for each in json.loads(capsys.readouterr().out)]


async def check_says(workspaces, ends):
    """`check` gives each deployment the end of its last sweep."""
    found, _ = await check_prefect()
    for place, kind in PAIRS:
        name = f"cancel-stale-runs/{workspaces[place].block_name}-{kind}: "
        [finding] = [each for each in found if each.subject == "Sweeps" and each.text.startswith(name)]
        state, _ = ends[place, kind][-1]
        assert f"ago: {state.name}, {state.message}" in finding.text
        assert finding.verdict is (Verdict.FAIL if state.name == "Refused" else Verdict.OK), finding.text


async def news_of(workspaces, rounds):
    """How many sweeps reported a new trouble, by workspace and kind, once the events of all are there."""
    everything = len(workspaces) * len(KINDS) * rounds
    resources = [f"extend.sweep.{kind}.{workspace.workspace}" for workspace in workspaces for kind in KINDS]
    wanted = {"resource": {"id": resources}, "event": {"prefix": ["extend.sweep."]}}
    async with get_client() as client:
        for _ in range(60):
            found = (await client._client.post("/events/filter", json={"filter": wanted, "limit": 50})).json()["events"]
            if len(found) == everything:
                break
            await asyncio.sleep(0.5)
    assert len(found) == everything
    labels = [each["resource"] for each in found]
    return Counter(
        (each["prefect.resource.id"].rpartition(".")[2], each["extend.kind"])
        for each in labels
        if each["extend.news"] == "true"
    )
