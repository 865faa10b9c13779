"""`prefect-extend-ai setup` and `check`, typed at a real server."""

from __future__ import annotations

import json
import os
import pty
import subprocess

SWEEP = "cancel-stale-runs/extend"
KEY = "sk_deployed-4711"


def ran(done, code):
    """What a command said, having ended with this code, without a traceback and without the key."""
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    assert KEY not in said
    return said


def test_setup_leads_to_a_sweep_that_runs_and_check_says_so(account):
    before = ran(account.type("prefect-extend-ai", "check"), 1)
    assert 'fail  Block       "extend" is not saved: prefect-extend-ai setup --name extend' in before

    said = ran(account.type("prefect-extend-ai", "setup"), 0)
    steps = (
        "Prefect ",
        "Block type ",
        "Block ",
        "Work pool ",
        "Deployed ",
        "Deployed ",
        "Stale now   3 classify ",
    )
    lines = iter(said.splitlines())
    assert all(any(line.startswith(step) for line in lines) for step in steps), said
    assert "prefect worker start --pool extend" in said
    idle = ran(account.type("prefect-extend-ai", "check"), 1)
    assert "no worker is running: prefect worker start --pool extend" in idle
    account.postpone(SWEEP)

    with account.worker():
        run = account.ended(account.run(SWEEP))
        assert run["state_name"] == "Completed"
        after = ran(account.type("prefect-extend-ai", "check"), 0)
    assert "Completed, Cancelled 3 of 3 stale classify runs" in after
    for about in ("Extend", "Workspace", "Clock", "Prefect", "Block", "Sweeps"):
        assert f"ok    {about:<12}" in after
    account.api.patch("/work_pools/extend", json={"is_paused": True}).raise_for_status()
    paused = ran(account.type("prefect-extend-ai", "check"), 1)
    assert 'no sweep will run: the work pool "extend" is paused: prefect work-pool resume extend' in paused
    assert KEY not in json.dumps([account.deployment(SWEEP), run])


def test_setup_again_keeps_what_is_there_and_what_is_paused(account):
    ran(account.type("prefect-extend-ai", "setup"), 0)
    first = account.deployment(SWEEP)
    mine = first["parameters"] | {"max_processing_minutes": 240, "policy": {"except_processors": ["cl_keep"]}}
    change = {"paused": True, "parameters": mine}
    account.api.patch(f"/deployments/{first['id']}", json=change).raise_for_status()
    schedule = account.schedules(SWEEP)["every-15-minutes"]
    hourly = {"schedule": {"cron": "0 * * * *", "timezone": "UTC"}, "active": False}
    account.api.patch(f"/deployments/{first['id']}/schedules/{schedule['id']}", json=hourly).raise_for_status()
    said = ran(account.type("prefect-extend-ai", "setup"), 0)
    assert '"extend" is saved already' in said
    assert '"extend" exists, of type process' in said
    assert "the sweep was paused, and still is: prefect-extend-ai setup --resume" in said
    assert "Next, in another terminal: the worker. No schedule is on" in said
    off = ran(account.type("prefect-extend-ai", "check"), 1)
    assert "the deployment is paused: prefect-extend-ai setup --name extend --kind classify --resume" in off
    again = account.deployment(SWEEP)
    assert (again["id"], again["paused"], again["parameters"]) == (first["id"], True, mine)
    kept = account.schedules(SWEEP)["every-15-minutes"]
    assert (kept["schedule"]["cron"], kept["active"]) == ("0 * * * *", False)
    # The saved block is enough: who switches schedules on need not have the key.
    resumed = ran(account.type("prefect-extend-ai", "setup", "--resume", EXTEND_API_KEY=""), 0)
    assert f"Resumed     {SWEEP}" in resumed
    assert "Next, in another terminal: the worker. Once it has started, scheduled sweeps run" in resumed
    assert not account.deployment(SWEEP)["paused"]
    assert account.schedules(SWEEP)["every-15-minutes"]["active"]


def test_a_block_that_differs_is_overwritten_only_if_asked(account):
    block = ("prefect-extend-ai", "setup", "--block-only")
    ran(account.type(*block), 0)
    other = {"EXTEND_REQUESTS_PER_SECOND": "7"}
    assert "differs from EXTEND_* in requests_per_second: --yes overwrites it" in ran(account.type(*block, **other), 1)
    assert answered(account, b"n\n", *block, **other) == 1
    assert "EXTEND_* differs in requests_per_second" in ran(account.type("prefect-extend-ai", "check", **other), 1)
    assert answered(account, b"y\n", *block, **other) == 0
    assert '"extend" is saved already' in ran(account.type(*block, **other), 0)
    assert '"extend" overwritten: requests_per_second' in ran(account.type(*block, "--yes"), 0)


def test_setup_saves_nothing_with_a_key_that_reads_nothing(account):
    said = ran(account.type("prefect-extend-ai", "setup", EXTEND_API_KEY="sk_mistyped-0815"), 1)
    assert "nothing was saved, because Extend cannot be read with EXTEND_*: HTTP 401" in said
    assert "sk_mistyped-0815" not in said
    assert "no API key: set EXTEND_API_KEY" in ran(account.type("prefect-extend-ai", "setup", EXTEND_API_KEY=""), 1)
    assert account.api.post("/block_documents/filter", json={}).json() == []


def answered(account, answer, command, *words, **environment):
    """The exit code of a command in a terminal where somebody answers what it asks."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [account.bin / command, *words],
        cwd=account.cwd,
        env=account.environment | environment,
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.write(ours, answer)
    code = process.wait(300)
    os.close(ours)
    return code


def test_names_of_ones_own_make_an_account_of_its_own(account):
    ran(account.type("prefect-extend-ai", "setup", "--name", "acme", "--pool", "documents"), 0)
    sweep = account.deployment("cancel-stale-runs/acme")
    assert sweep["work_pool_name"] == "documents"
    assert sweep["parameters"]["credentials"] == {"$ref": {"block_document_slug": "extend-credentials/acme"}}
    assert account.deployment("cancel-runs/acme")["parameters"] == {"credentials": sweep["parameters"]["credentials"]}


def test_a_prefect_that_does_not_respond_is_one_sentence(account):
    nowhere = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    assert "Prefect at http://127.0.0.1:9/api does not answer" in ran(
        account.type("prefect-extend-ai", "setup", **nowhere), 1
    )
    assert "fail  Prefect     Prefect at http://127.0.0.1:9/api does not answer" in ran(
        account.type("prefect-extend-ai", "check", **nowhere), 1
    )
