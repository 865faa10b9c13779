"""deployments/automations.yaml on a real server: what is emitted starts what it should, and silence is heard."""

from __future__ import annotations

import re
import time
from importlib.resources import files

import pytest
from prefect import flow

from prefect_extend_ai import ExtendCredentials, StalePolicy, SweepFailed, SweepRefused, SweepReport
from prefect_extend_ai.deployments.examples import inform_owner, raise_alarm
from prefect_extend_ai.errors import ExtendAPIError
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.prefect_io.events import emit_sweep
from prefect_extend_ai.sweep.journal import Scope

ROOT = files("prefect_extend_ai.deployments")
SECONDS = 10
"""The dead man's patience in these tests: the shortest that Prefect takes."""


@pytest.fixture
def automated(account, request):
    """Both files deployed; the dead man's switch waits as long as the test says."""
    assert account.type("prefect-extend-ai", "setup").returncode == 0
    within = getattr(request, "param", 86400)
    shipped = (ROOT / "automations.yaml").read_text()
    assert "within: 2700" in shipped
    (account.cwd / "automations.yaml").write_text(shipped.replace("within: 2700", f"within: {within}"))
    account.deploy(account.cwd / "automations.yaml")
    return account


async def test_each_cancelled_run_starts_a_run_of_the_example_flow(automated):
    stale = automated.world.stale()
    report = await cancel_stale_runs(await ExtendCredentials.aload("extend"))
    assert report.counts == {"cancelled": 3}
    owners = automated.eventually(lambda: len(found := automated.runs("inform-owner")) == 3 and found)
    assert {run["parameters"]["run_id"] for run in owners} == set(stale)
    assert {run["parameters"]["kind"] for run in owners} == {"classify"}
    parameters = owners[0]["parameters"] | {"credentials": await ExtendCredentials.aload("extend")}
    state = await inform_owner(**parameters, return_state=True)
    assert state.is_completed()
    assert (
        state.message == f"The classify run {owners[0]['parameters']['run_id']} was cancelled; the log says whose it is"
    )


async def test_a_sweep_that_is_refused_or_fails_raises_one_alarm(automated):
    credentials = await ExtendCredentials.aload("extend")
    with pytest.raises(SweepRefused):
        await cancel_stale_runs(credentials, policy=StalePolicy(refuse_above=0))
    [alarm] = automated.eventually(lambda: automated.runs("raise-alarm"))
    assert re.fullmatch(r"extend classify: cancelled 0 of \d+: Refused", alarm["parameters"]["subject"])
    assert "Refused, nothing was cancelled" in alarm["parameters"]["body"]
    refused = automated.api.get(f"/flow_runs/{alarm['parameters']['flow_run_id']}").json()
    assert refused["state_name"] == "Refused"

    credentials.workspace_id = "ws_of_somebody_else"
    state = await cancel_stale_runs(credentials, return_state=True)
    assert state.is_failed()
    failed = await state.aresult(raise_on_failure=False)
    assert isinstance(failed, SweepFailed)
    assert "404" in failed.report.trouble or "workspace" in failed.report.trouble
    assert isinstance(failed.__cause__, ExtendAPIError)
    # The history of its key is that of the sweeps, those that could not begin too.
    key = f"extend-sweep-{Scope(kind='classify', api_url='', workspace_id='ws_of_somebody_else').slug}"
    written = automated.api.get(f"/artifacts/{key}/latest").json()
    assert (written["description"], written["flow_run_id"]) == (state.message, str(state.state_details.flow_run_id))
    alarms = automated.eventually(lambda: len(found := automated.runs("raise-alarm")) == 2 and found)
    (second,) = [each for each in alarms if each["id"] != alarm["id"]]
    assert second["parameters"]["subject"] == "extend classify: nothing cancelled: Failed"


@flow(name="cancel-stale-runs")
def sweep():
    """Nothing but the event that a sweep ends with."""
    emit_sweep(SweepReport())


@pytest.mark.parametrize("automated", [SECONDS], indirect=True)
def test_the_dead_mans_switch_fires_only_when_no_sweep_completes(automated):
    # What fired while this was being set up does not count: from the first sweep on there is a sweep every 3 seconds.
    sweep()
    time.sleep(3)
    before = len(automated.runs("raise-alarm"))
    for _ in range(2 * SECONDS // 3):
        sweep()
        time.sleep(3)
    assert len(automated.runs("raise-alarm")) == before
    automated.eventually(lambda: len(automated.runs("raise-alarm")) > before)
    latest = max(automated.runs("raise-alarm"), key=lambda run: run["created"])
    assert latest["parameters"]["subject"] == "No Extend sweep has completed for 45 minutes"


async def test_an_alarm_without_a_channel_is_a_failed_flow_run(prefect_server):
    run_id = "00000000-0000-4000-8000-000000000001"
    state = await raise_alarm("Extend is down", "Look at it.", flow_run_id=run_id, return_state=True)
    assert (state.type, state.name) == ("FAILED", "Alarm")
    assert state.message.startswith("Extend is down. Look at it. http")
    assert state.message.endswith(f"/flow-run/{run_id}")
