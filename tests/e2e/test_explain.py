"""What a sweep leaves in Prefect answers questions afterwards: its report, a run's history, and a purge of both."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.types.entrypoint import EntrypointType

from prefect_extend_ai import (
    ExtendCredentials,
    Outcome,
    RunKind,
    StalePolicy,
    SweepFailed,
    SweepRefused,
    sweep_report,
)
from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.flows import cancel_runs, cancel_stale_runs
from prefect_extend_ai.prefect_io import prefect_journal
from prefect_extend_ai.prefect_io.purging import Step, purge
from prefect_extend_ai.sandbox import Behaviour, serve
from prefect_extend_ai.sweep import NamedRuns, Sweep
from prefect_extend_ai.sweep.plans import ResubmitPlan
from prefect_extend_ai.sweep.scan import Target

OPERATE = Path(__file__).parents[2] / "docs" / "operate.md"
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def account_of(sandbox):
    return ExtendCredentials(api_key="sk_sandbox", base_url=sandbox.url, requests_per_second=200)


async def test_a_report_is_rebuilt_from_what_the_sweep_left(prefect_server, stuck):
    with serve(stuck(3)) as sandbox:
        for dry_run in (True, False, False):
            state = await cancel_stale_runs(account_of(sandbox), dry_run=dry_run, return_state=True)
            returned = await state.result()
            report = await sweep_report(str(state.state_details.flow_run_id))
            assert report == returned
            assert report.headline == state.message
    assert report.selected == 0


async def test_a_failed_sweep_left_its_report_too(prefect_server, stuck):
    with serve(stuck(2, behaviour=Behaviour(cancel="never"))) as sandbox:
        account = account_of(sandbox)
        sweeps = {
            "unconfirmed": cancel_stale_runs(account, policy=StalePolicy(confirm_seconds=1), return_state=True),
            "Refused": cancel_stale_runs(account, policy=StalePolicy(refuse_above=1), return_state=True),
            "no run ids": cancel_runs(account, [" , "], return_state=True),
            "looks like an extract run": cancel_runs(account, ["clr_1", "exr_1"], return_state=True),
        }
        for words, sweep in sweeps.items():
            state = await sweep
            failure = await state.result(raise_on_failure=False)
            report = await sweep_report(state.state_details.flow_run_id)
            assert isinstance(failure, SweepRefused if words == "Refused" else SweepFailed)
            assert report == failure.report
            assert words in report.headline


async def test_an_unknown_flow_run_is_told_as_such(prefect_server):
    nobody = uuid4()
    with pytest.raises(RecordError, match=f"knows no flow run {nobody}"):
        await sweep_report(nobody)


async def test_whoever_runs_a_deployment_gets_its_report(prefect_server, stuck):
    with serve(stuck(2)) as sandbox:
        await account_of(sandbox).asave("asked", overwrite=True)
        deployment = await cancel_stale_runs.ato_deployment(
            "asked",
            parameters={
                "credentials": {"$ref": {"block_document_slug": "extend-credentials/asked"}},
                "policy": {"except_processors": ["cl_vip"], "hold_key": "keep", "outage_guard": False},
            },
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        deployment_id = await deployment.aapply()
        environment = os.environ | prefect_server.settings
        reports = []
        for parameters in ({"policy": {"outage_guard": False}}, {}):
            async with get_client() as client:
                asked = await client.create_flow_run_from_deployment(deployment_id, parameters=parameters)
            with pytest.raises(RecordError, match="is Scheduled: it leaves its report when it ends"):
                await sweep_report(asked.id)
            # What a worker does with a flow run.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "prefect.engine", str(asked.id), env=environment
            )
            assert await process.wait() == 0
            reports.append(await sweep_report(asked.id))
    by_hand, as_deployed = reports
    assert by_hand.counts == {Outcome.CANCELLED: 2}
    assert by_hand.missing_protections == {"except_processors": "cl_vip", "hold_key": "keep"}
    assert as_deployed.missing_protections == {}


@pytest.mark.parametrize("named", [None, "extract"])
async def test_ids_as_people_paste_them_are_cancelled(prefect_server, stuck, named):
    world = stuck(0)
    ids = [world.add(RunKind.EXTRACT, age_minutes=5) for _ in range(4)]
    with serve(world) as sandbox:
        pasted = [f"{ids[0]}, {ids[1]}\n", f"https://dashboard.extend.ai/runs/{ids[2]}", ids[3]]
        report = await cancel_runs(account_of(sandbox), pasted, kind=named)
    assert report.kind is RunKind.EXTRACT
    assert {each.run_id: each.outcome for each in report.cancellations} == dict.fromkeys(ids, Outcome.CANCELLED)


async def test_ids_of_two_kinds_are_refused_before_any_request(prefect_server, stuck):
    world = stuck(1)
    with serve(world) as sandbox:
        for ids, kind in ((["clr_1", "exr_1"], None), (["exr_1"], "classify")):
            with pytest.raises(SweepFailed, match="'exr_1' looks like an extract run"):
                await cancel_runs(account_of(sandbox), ids, kind=kind)
    assert world.journal == []


async def explained(prefect_server, sandbox, *words, status=0):
    """What `prefect-extend-ai explain --json` prints, in a separate process."""
    environment = (
        os.environ | prefect_server.settings | {"EXTEND_API_KEY": "sk_sandbox", "EXTEND_BASE_URL": sandbox.url}
    )
    program = "from prefect_extend_ai.cli import main; main()"
    # A saved block goes before EXTEND_*, and other tests save the one called extend.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        "explain",
        "--name",
        "unsaved",
        *words,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == status
    return said.decode()


async def test_explain_tells_what_sweeps_did_with_a_run(prefect_server, stuck):
    world = stuck(2)
    hanging, cancelled = world.stale()
    world.get(hanging).cancel_mode = "never"
    with serve(world) as sandbox:
        account, policy = account_of(sandbox), StalePolicy(confirm_seconds=1)
        ran = []
        for dry_run in (True, False, False):
            state = await cancel_stale_runs(account, policy=policy, dry_run=dry_run, return_state=True)
            ran.append(str(state.state_details.flow_run_id))
        found = json.loads(await explained(prefect_server, sandbox, cancelled, hanging, "clr_nobody", "--json"))
        words = await explained(prefect_server, sandbox, f"https://dashboard.extend.ai/runs/{hanging}")
    first, second, nobody = found
    assert set(first) == {"run_id", "kind", "status", "history", "looked_back_to"}
    assert (first["run_id"], first["kind"], first["status"]) == (cancelled, "classify", "CANCELLED")
    (entry,) = first["history"]
    assert set(entry) == {"at", "outcome", "reason", "flow_run_id", "record", "resubmitted_as"}
    assert (entry["outcome"], entry["flow_run_id"]) == ("cancelled", ran[1])
    assert entry["reason"].startswith("no change for 120 min, limit 60 min; 1 cancel sent")
    assert entry["record"] is not None
    assert second["status"] == "PROCESSING"
    assert [(each["outcome"], each["flow_run_id"]) for each in second["history"]] == [
        ("unconfirmed", ran[1]),
        ("deferred", ran[2]),
    ]
    assert nobody["status"] is None
    assert nobody["history"] == []
    assert nobody["looked_back_to"] < entry["at"]
    assert "unconfirmed: no change for 120 min" in words
    assert f"events?resource=extend.classify_run.{hanging}" in words


async def test_explain_knows_a_deleted_record_and_a_successor(prefect_server, stuck):
    world = stuck(1)
    (cancelled,) = world.stale()
    successor = world.add(status="PROCESSED", metadata={"prefect_extend_resubmit_of": cancelled})
    with serve(world) as sandbox:
        await cancel_stale_runs(account_of(sandbox))
        [before] = json.loads(await explained(prefect_server, sandbox, cancelled, "--json"))
        async with get_client() as client:
            assert [each.step async for _, each in purge(client, run_ids=[cancelled])] == [Step.DELETE]
        [after] = json.loads(await explained(prefect_server, sandbox, cancelled, "--json"))
        words = await explained(prefect_server, sandbox, cancelled, successor)
    assert all(each["record"] for each in before["history"])
    assert after["history"] == [each | {"record": None} for each in before["history"]]
    assert "record  deleted" in words
    assert f"created it: its document's run {cancelled} was cancelled" in words


def alike(text):
    """The words of an explanation, without the moments, addresses and flow runs of one."""
    for pattern in (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", r"\(\d+ \w+ ago\)", r"http://127\.0\.0\.1:\d+", UUID):
        text = re.sub(pattern, "*", text)
    return text.strip()


async def test_the_page_shows_what_explain_prints(prefect_server, stuck):
    (shown,) = re.findall(r"^```text\n(clr_.*?)^```", OPERATE.read_text(), re.MULTILINE | re.DOTALL)
    run_id = shown.split()[0]
    world = stuck(0)
    world.add(status="PROCESSED", age_minutes=1)
    world.add(id=run_id, age_minutes=81)
    with serve(world) as sandbox:
        account = account_of(sandbox)
        await cancel_stale_runs(account)
        said = await explained(prefect_server, sandbox, run_id)
    assert alike(said) == alike(shown)


async def test_a_run_is_known_from_its_record_alone(prefect_server, stuck, artifacts):
    world = stuck(2)
    kept, narrowed = world.stale()
    world.get(narrowed).cancel_mode = "never"
    with serve(world) as sandbox:
        account = account_of(sandbox)

        @flow
        async def killed_before_its_events_and_report():
            async with account.get_client() as client, prefect_journal(account, RunKind.CLASSIFY, "test") as journal:
                named = NamedRuns(RunKind.CLASSIFY, [kept, narrowed])
                sweep = Sweep(client, journal, named, confirm_seconds=0.2, runs_a_record=1)
                await sweep.cancel_batch([Target(kept), Target(narrowed)])
                await sweep.finish()

        state = await killed_before_its_events_and_report(return_state=True)
        # The entry of the two is still open, for the second; once that has ended it is completed.
        for outcomes in (["unconfirmed"], ["cancelled"]):
            first, second = json.loads(await explained(prefect_server, sandbox, kept, narrowed, "--json"))
            (entry,) = first["history"]
            assert (entry["outcome"], entry["flow_run_id"]) == ("cancelled", str(state.state_details.flow_run_id))
            assert entry["record"] == artifacts.holding(kept)[0]["id"]
            assert "its record alone" in entry["reason"]
            assert [each["outcome"] for each in second["history"]][-1:] == outcomes
            if outcomes == ["unconfirmed"]:
                world.get(narrowed).cancel_mode = None
                world.cancel(world.get(narrowed))
                await cancel_stale_runs(account)


async def test_a_purge_takes_one_run_out_of_a_shared_record(prefect_server, stuck, artifacts):
    world = stuck(3)
    first, second, third = world.stale()
    with serve(world) as sandbox:
        account = account_of(sandbox)
        async with account.get_client() as client, prefect_journal(account, RunKind.CLASSIFY, "test") as journal:
            sweep = Sweep(client, journal, NamedRuns(RunKind.CLASSIFY, [first, second, third]), runs_a_record=3)
            await sweep.cancel_batch([Target(run_id) for run_id in (first, second, third)])
            await sweep.finish()
    (shared,) = artifacts.holding(second)
    async with get_client() as client:
        looked = [each async for _, each in purge(client, run_ids=[second], dry_run=True)]
        assert [each.step for each in looked] == [Step.REWRITE]
        assert artifacts.one(shared["id"]) == shared
        done = [each async for _, each in purge(client, run_ids=[second])]
        assert done == looked
        (rewritten,) = artifacts.holding(first)
        assert rewritten["id"] != shared["id"]
        assert second not in json.dumps(rewritten)
        assert artifacts.all(id={"any_": [shared["id"]]}) == []
        assert [each.step async for _, each in purge(client, run_ids=[first, third])] == [Step.DELETE]
    assert artifacts.holding(third) == []


async def test_a_purge_leaves_what_stops_a_second_create(prefect_server, stuck, artifacts):
    world = stuck(1)
    (cancelled,) = world.stale()
    with serve(world) as sandbox:
        account = account_of(sandbox)
        await cancel_stale_runs(account, policy=StalePolicy(resubmit=1))
        async with get_client() as client:
            done = [each async for _, each in purge(client, before=datetime.now(UTC) + timedelta(minutes=1))]
        assert cancelled in {run_id for each in done for run_id in each.run_ids}
        assert artifacts.holding(cancelled) == []
        # A sweep that made its plan before, and claims it only now.
        async with prefect_journal(account, RunKind.CLASSIFY, "test") as journal:
            plan = ResubmitPlan(first_run=cancelled, attempt=1, planned_at=datetime.now(UTC) - timedelta(minutes=5))
            own = await journal.log([], {cancelled: plan})
            claim = own.model_copy(update={"resubmit": {cancelled: plan.now("sending", datetime.now(UTC))}})
            assert await journal.claim(claim) == {cancelled}
            await journal.complete(own, {})
