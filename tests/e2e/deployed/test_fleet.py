"""Several kinds and accounts on one Prefect: `setup --kind`, `serve --kind`, and `check` of all of them."""

from __future__ import annotations

import asyncio

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.cli.blocks import block_reference
from prefect_extend_ai.flows import cancel_stale_runs

KINDS = ("classify", "extract", "split", "parse", "verify", "workflow")
SETUP, CHECK = ("prefect-extend-ai", "setup"), ("prefect-extend-ai", "check")


def lines(done, subject):
    """What a command printed of one subject."""
    words = [line.split(maxsplit=1) for line in (done.stdout + done.stderr).splitlines()]
    return [f"{verdict} {rest.removeprefix(subject).strip()}" for verdict, rest in words if rest.startswith(subject)]


def said_of(done, subject):
    """The lines of `setup` about one thing."""
    return [line[12:] for line in done.stdout.splitlines() if line[:12].strip() == subject]


def test_each_kind_gets_a_watch_that_check_finds(account):
    for _ in range(2):
        account.world.add("extract", age_minutes=90)
    account.world.add("parse", age_minutes=90)
    first = account.type(*SETUP)
    assert said_of(first, "Not swept") == [
        "2 extract runs are stale, and no deployment sweeps them: prefect-extend-ai setup --kind extract",
        "1 parse run is stale, and no deployment sweeps it: prefect-extend-ai setup --kind parse",
    ]
    account.postpone("cancel-stale-runs/extend")
    with account.worker():
        account.eventually(lambda: account.api.get("/work_pools/extend").json()["status"] == "READY")
        second = account.type(*SETUP, "--kind", "classify", "--kind", "extract")
        assert "the key reads runs" in second.stdout, second.stderr
        [_, comes] = said_of(second, "Next sweep") + said_of(second, "First sweep")
        assert comes.startswith("extract runs, for real: in ")
        assert comes.endswith("as of now it would cancel 2 runs")
        # Not deployed again: that would drop the sweeps that its schedule has made.
        assert [each.split()[0] for each in said_of(second, "Unchanged")] == [
            "cancel-stale-runs/extend",
            "cancel-runs/extend",
            "advise-limits/extend",
        ]
        third = account.type(*SETUP, "--kind", "parse", "--paused")
        assert said_of(third, "Schedule") == ["of parse runs is off: prefect-extend-ai setup --resume switches it on"]
        again = account.type(*SETUP, "--kind", "extract", "--paused")
        assert said_of(again, "Schedules") == ["that were on are on: --paused is for new deployments"]
        for kind in ("extract", "parse"):
            name = f"cancel-stale-runs/extend-{kind}"
            assert account.deployment(name)["parameters"]["kind"] == kind
            account.postpone(name)
        account.ended(account.run("cancel-stale-runs/extend", dry_run=True))
        account.ended(account.run("cancel-stale-runs/extend-extract"))
        checked = account.type(*CHECK)
    sweeps = lines(checked, "Sweeps")
    assert [line.split(";")[0] for line in sweeps] == [
        "fail cancel-stale-runs/extend: classify runs of block extend",
        "ok cancel-stale-runs/extend-extract: extract runs of block extend",
        "fail cancel-stale-runs/extend-parse: parse runs of block extend",
    ]
    assert "no real sweep has run yet, 1 dry run only; it has only ever run dry" in sweeps[0]
    assert "Completed, Cancelled 2 of 2 stale extract runs" in sweeps[1]
    assert "no schedule is active: prefect deployment schedule resume cancel-stale-runs/extend-parse" in sweeps[2]
    assert lines(checked, "Deployment") == [
        f'ok {name}/extend: block extend, worker on pool "extend"' for name in ("cancel-runs", "advise-limits")
    ]
    assert lines(checked, "Not swept") == [
        "ok no stale runs of the kinds that no deployment sweeps: split, verify, workflow"
    ]


async def deploy_with_scheduled_parameters():
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import IntervalSchedule
    from prefect.types.entrypoint import EntrypointType

    deployment = await cancel_stale_runs.with_options(name="nightly").ato_deployment(
        "mine",
        parameters={"credentials": block_reference("extend")},
        schedules=[
            DeploymentScheduleCreate(
                schedule=IntervalSchedule(interval=2), slug="often", parameters={"kind": "extract", "dry_run": True}
            )
        ],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return await deployment.aapply()


def test_a_schedule_that_loses_its_parameters_is_found(account):
    assert account.type(*SETUP, "--block-only").returncode == 0
    asyncio.run(deploy_with_scheduled_parameters())
    [carries] = lines(account.type(*CHECK), "Schedule")
    assert carries.startswith("fail the schedule often of nightly/mine carries parameters (dry_run, kind)")
    # A flow run of the schedule that has ended: what carried it out does not matter here.
    made = account.eventually(lambda: account.runs("nightly"))
    first = min(made, key=lambda run: run["expected_start_time"])
    for state in ("PENDING", "RUNNING", "COMPLETED"):
        answer = account.api.post(f"/flow_runs/{first['id']}/set_state", json={"state": {"type": state}, "force": True})
        assert answer.json()["status"] == "ACCEPT"
    deployment = account.deployment("nightly/mine")
    [schedule] = deployment["schedules"]
    for active in (False, True):  # as the switch in the UI does
        path = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
        account.api.patch(path, json={"active": active}).raise_for_status()
    assert account.schedules("nightly/mine")["often"]["parameters"] == {}
    checked = account.type(*CHECK)
    assert checked.returncode == 1
    [lost] = lines(checked, "Schedule")
    assert lost.startswith("fail the schedule often of nightly/mine has lost its parameters (dry_run, kind)")
    [sweep] = lines(checked, "Sweeps")
    assert "nightly/mine: classify runs of block extend" in sweep


def test_one_process_serves_several_kinds(account):
    account.world.add("extract", age_minutes=90)
    with account.running("prefect-extend-ai", "serve", "--kind", "all", "--limit", "75"):
        account.eventually(lambda: account.api.get("/deployments/name/cancel-runs/extend").is_success)
        name = "cancel-stale-runs/extend-extract"
        assert account.ended(account.run(name))["state"]["message"] == "Cancelled 1 of 1 stale extract run"
        [ok] = [line for line in lines(account.type(*CHECK), "Sweeps") if name in line]
        assert ok.startswith("ok ")
        assert ok.endswith("served by a process")
    assert asyncio.run(ExtendCredentials.aload("extend")).base_url == account.environment["EXTEND_BASE_URL"]
    stopped = lines(account.type(*CHECK), "Sweeps")
    kinds = " ".join(f"--kind {kind}" for kind in KINDS)
    how = f"prefect-extend-ai serve {kinds} --name extend --limit 75 --every 15"
    assert len(stopped) == 6
    assert all(line.startswith("fail ") and how in line for line in stopped), stopped
