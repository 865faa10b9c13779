"""deployments/prefect.yaml and serve, on a real server, with a real worker."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from prefect_extend_ai.cli.blocks import block_reference

ROOT = files("prefect_extend_ai.deployments")
SWEEP, BY_ID = "cancel-stale-runs/extend", "cancel-runs/extend"
KEY = "sk_deployed-4711"


@pytest.fixture
def deployed(account):
    """The shipped file, deployed by hand as its first lines say."""
    assert account.type("prefect-extend-ai", "setup", "--block-only").returncode == 0
    assert account.type("prefect", "--no-prompt", "work-pool", "create", "extend", "--type", "process").returncode == 0
    account.deploy(ROOT / "prefect.yaml")
    return account


def pause(account, slug, active=False):
    deployment, schedule = account.deployment(SWEEP), account.schedules(SWEEP)[slug]
    path = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
    account.api.patch(path, json={"active": active}).raise_for_status()
    assert account.schedules(SWEEP)[slug]["active"] is active


def test_both_flows_are_deployed_with_block_reference_and_no_key(deployed):
    sweep, by_id = deployed.deployment(SWEEP), deployed.deployment(BY_ID)
    for each, entrypoint in ((sweep, "flows.stale.cancel_stale_runs"), (by_id, "flows.by_id.cancel_runs")):
        assert each["entrypoint"] == f"prefect_extend_ai.{entrypoint}"
        assert each["pull_steps"] == []
        assert each["parameters"]["credentials"] == block_reference("extend")
        assert each["work_pool_name"] == "extend"
        assert each["global_concurrency_limit"] is None
        assert (each["tags"], bool(each["description"])) == (["extend"], True)
    assert by_id["schedules"] == []
    [schedule] = sweep["schedules"]
    assert (schedule["slug"], schedule["active"], schedule["parameters"]) == ("every-15-minutes", True, {})
    assert sweep["parameters"]["kind"] == "classify"
    assert KEY not in json.dumps([sweep, by_id])


def test_deploying_again_keeps_a_pause(deployed):
    before = [deployed.deployment(name)["id"] for name in (SWEEP, BY_ID)]
    pause(deployed, "every-15-minutes")
    deployed.deploy(ROOT / "prefect.yaml")
    assert [deployed.deployment(name)["id"] for name in (SWEEP, BY_ID)] == before
    assert [each["active"] for each in deployed.schedules(SWEEP).values()] == [False]


def test_a_run_is_carried_out_after_one_died_with_its_worker(deployed):
    dead = deployed.run(SWEEP)
    for state in ("PENDING", "RUNNING"):
        answer = deployed.api.post(f"/flow_runs/{dead}/set_state", json={"state": {"type": state}})
        assert answer.json()["status"] == "ACCEPT"
    stale = deployed.world.stale()
    deployed.postpone(SWEEP)
    live = deployed.run(SWEEP, max_processing_minutes=75)
    with deployed.worker():
        run = deployed.ended(live)
    assert (run["state_name"], run["state"]["message"]) == ("Completed", "Cancelled 2 of 2 stale classify runs")
    assert [deployed.world.get(run_id).status for run_id in stale] == ["CANCELLED", "CANCELLED", "PROCESSING"]
    assert KEY not in json.dumps(run)


SERVE = ("prefect-extend-ai", "serve", "--name", "served")
SERVED = "cancel-stale-runs/served"


def until_served(account, process):
    def look():
        assert process.poll() is None, (account.cwd / "prefect-extend-ai.log").read_text()
        return account.api.get(f"/deployments/name/{SERVED}").is_success and account.schedules(SERVED)

    return account.eventually(look)


def test_serve_runs_without_a_work_pool_and_without_the_key(account):
    with account.running(*SERVE, "--every", "30", "--limit", "75") as process:
        until_served(account, process)
        sweep = account.deployment(SERVED)
        account.postpone(SERVED)
        first = account.ended(account.run(SERVED, dry_run=True))
        by_id = account.ended(account.run("cancel-runs/served", run_ids=[account.world.stale()[-1]]))
        second = account.ended(account.run(SERVED))
    assert sweep["parameters"] == {
        "credentials": block_reference("served"),
        "kind": "classify",
        "max_processing_minutes": 75,
        "dry_run": False,
    }
    assert [each["schedule"]["interval"] for each in sweep["schedules"]] == [30 * 60]
    assert first["state"]["message"] == "Would cancel 2 of 2 stale classify runs"
    assert by_id["state"]["message"] == "Cancelled 1 of 1 classify run"
    assert second["state"]["message"] == "Cancelled 2 of 2 stale classify runs"
    assert KEY not in json.dumps([sweep, first, second])
    assert KEY not in (account.cwd / "prefect-extend-ai.log").read_text()


def test_serving_again_leaves_a_paused_schedule_paused(account):
    with account.running(*SERVE) as process:
        until_served(account, process)
    [schedule] = account.deployment(SERVED)["schedules"]
    path = f"/deployments/{account.deployment(SERVED)['id']}/schedules/{schedule['id']}"
    account.api.patch(path, json={"active": False}).raise_for_status()
    with account.running(*SERVE, "--every", "5", EXTEND_API_KEY="") as process:
        account.eventually(lambda: until_served(account, process)["every-so-often"]["schedule"]["interval"] == 300)
        assert account.schedules(SERVED)["every-so-often"]["active"] is False


def test_serve_leaves_alone_a_sweep_that_workers_run(deployed):
    done = deployed.type("prefect-extend-ai", "serve")
    assert done.returncode == 1
    assert 'cancel-stale-runs/extend is deployed to the work pool "extend"' in done.stderr
    assert set(deployed.schedules(SWEEP)) == {"every-15-minutes"}


def test_serve_does_not_overwrite_somebody_elses_block(account):
    assert account.type("prefect-extend-ai", "setup", "--block-only", "--name", "served").returncode == 0
    done = account.type(*SERVE, EXTEND_API_KEY="sk_another-0815")
    assert done.returncode == 1
    assert 'the saved block "served" differs from EXTEND_* in api_key' in done.stderr
    assert "Traceback" not in done.stderr
    assert "sk_another-0815" not in done.stdout + done.stderr
